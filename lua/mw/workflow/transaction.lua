-- SPDX-License-Identifier: MIT

--- ctx:transaction and `transaction = true` entries: steps whose SQL and whose result commit together in the application's database, so that the
-- SQL is done exactly once, also when the server is killed between that commit and the one of the journal.
--
--   step.run = transaction.attempt(function(ctx, tx) … end)
--
-- The result is a row of the table moonwatch_results, written in the user's own transaction under the step's key. An attempt that finds it there takes
-- it, and calls nothing. Two that run at the same time (a node that hung, and the one that took over) cannot both commit: the key is unique. Rows
-- are dropped when their run ends, and after thirty days in any case.

local errors = require "mw.errors"
local json = require "mw.core.json"
local payload = require "mw.workflow.payload"
local runtime = require "mw._runtime"
local table_of = require "mw.db.own"

local M = {}

local KEEP_US = 30 * 86400 * 1e6

local ensure = table_of("moonwatch_results", {
  [[CREATE TABLE IF NOT EXISTS moonwatch_results (
    execution TEXT NOT NULL, step TEXT NOT NULL, result TEXT, at_us BIGINT NOT NULL, PRIMARY KEY (execution, step))]],
})

local function db() return require "mw.db" end

local function find(ctx)
  return db().one("SELECT result FROM moonwatch_results WHERE execution = $1 AND step = $2", { ctx.id, ctx.step })
end

local function note(tx, ctx, text)
  tx:query("INSERT INTO moonwatch_results (execution, step, result, at_us) VALUES ($1, $2, $3, $4)",
    { ctx.id, ctx.step, text, math.floor(runtime.now_us()) })
end

local function run_in(tx, ctx, fn)
  local value = fn(ctx, tx)
  local text, err = payload.encode(value, "result")
  if err then errors.raise(errors.new(err.code, err.message, { final = true })) end
  note(tx, ctx, text)
  return text
end

--- One attempt, as the function of a step.
function M.attempt(fn)
  return function(ctx)
    ensure()
    local known = find(ctx)
    local text
    if known then text = known.result
    else text = db().transaction(function(tx) return run_in(tx, ctx, fn) end) end
    return text and json.box(text) or nil
  end
end

--- The run has ended: its rows are not needed any more. In a task; best effort.
function M.forget(id)
  db().query("DELETE FROM moonwatch_results WHERE execution = $1", { id })
  db().query("DELETE FROM moonwatch_results WHERE at_us < $1", { math.floor(runtime.now_us() - KEEP_US) })
end

return M
