-- SPDX-License-Identifier: MIT

--- tx:trigger: a run that exists only if the rows of its transaction commit.
--
-- Within the transaction it is a row of `moonwatch_outbox` in the application database, with the run's id. Once that has committed the run is
-- created under this id and the row deleted, before mw.transaction returns. Where that does not come to pass (kill -9, the engine's database
-- away, a task that ends) it is done at the next start, or within seconds by whichever server looks: creating an id twice is one run.

local errors = require "mw.errors"
local own = require "mw.db.own"
local payload = require "mw.workflow.payload"
local registry = require "mw._registry"
local runtime = require "mw._runtime"
local store = require "mw.core.store"
local trigger = require "mw.workflow.trigger"
local validate = require "mw.validate"

local M = {}

local TABLE = "moonwatch_outbox"
local DDL = {
  "CREATE TABLE IF NOT EXISTS " .. TABLE .. " (id text NOT NULL PRIMARY KEY, workflow text NOT NULL, input text, external_id text, group_key text,"
    .. " priority integer, tags text, due_us bigint, at_us bigint NOT NULL)",
}
local COLUMNS = "id, workflow, input, external_id, group_key, priority, tags, due_us, at_us"
local MAX_ROWS = 1000 -- of a transaction
local PAGE = 100
local LOOK_EVERY_S = 30 -- for what other nodes left behind
local SAY_EVERY_S = 60
local MAX_WARNED = 1000

local pending = false -- something may be there that this worker has not forwarded

-- ---- in the transaction ----

-- The run that has this name already, when it was started with the same input.
local function existing(app, name, id, input_text)
  local rows = errors.check(store.query("engine",
    "SELECT id, request_hash FROM {{schema}}.executions WHERE app = $1 AND workflow = $2 AND external_id = $3", { app, name, id }))
  if not rows[1] then return nil end
  if rows[1].request_hash == require("mw.workflow").request_hash(name, input_text) then return rows[1].id end
  errors.throw("conflict", "tx:trigger: this id was used for another request; use a new one, or give the same input again", { status = 422 })
end

local function check_workflow(name)
  if registry.workflows[name] then return end
  local near = validate.nearest(name, registry.workflows)
  errors.throw("not_found", "workflow not found: " .. name, { hint = near and string.format("did you mean %q?", near) or nil })
end

local function input_text(input)
  local text, err = payload.encode(input, "input")
  if not err then return text end
  err.code = err.code == "invalid_result" and "invalid" or err.code
  errors.raise(err)
end

--- Adds a run to the transaction `handle` (mw.core.store's); `list` gets its row for `forward`. Returns the run's id.
function M.add(handle, list, name, input, opts)
  validate.arg("tx:trigger", 1, "name", name, "string")
  opts = trigger.check("tx:trigger", validate.options("tx:trigger", opts, trigger.options))
  check_workflow(name)
  if #list >= MAX_ROWS then errors.throw("limit", string.format("tx:trigger: at most %d runs a transaction", MAX_ROWS)) end
  local text = input_text(input)
  local known = opts.id and existing("default", name, opts.id, text)
  if known then return known end
  local row = {
    id = runtime.uuid(), workflow = name, input = text, external_id = opts.id, group_key = opts.group, priority = opts.priority, tags = opts.tags,
    due_us = opts.due_us and math.floor(opts.due_us), at_us = runtime.now_us(),
  }
  local function query(sql, params) return (errors.check(handle:query(sql, params))) end
  local ok, err = errors.pcall(function()
    own.ensure(query, TABLE, DDL)
    query("INSERT INTO " .. TABLE .. " (" .. COLUMNS .. ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
      { row.id, row.workflow, row.input, row.external_id, row.group_key, row.priority, row.tags, row.due_us, row.at_us })
  end)
  if not ok then
    own.forget(TABLE)
    error(err, 0)
  end
  list[#list + 1] = row
  return row.id
end

--- A transaction with runs is about to commit.
function M.expect() pending = true end

-- ---- after it ----

local warned, warnings = {}, 0

local function warn_once(row, message)
  if warned[row.id] then return end
  if warnings >= MAX_WARNED then warned, warnings = {}, 0 end
  warned[row.id], warnings = true, warnings + 1
  runtime.log("error", "workflow", string.format("the run %s of %q, triggered in a transaction, %s", row.id, row.workflow, message), { execution = row.id })
end

-- Creates the run and deletes the row. Returns whether the row is done with; raises when the store cannot do it now.
local function forward(row)
  local id, err = require("mw.workflow").create(row.workflow, row.input, {
    child_id = row.id, id = row.external_id, group = row.group_key, priority = tonumber(row.priority), tags = row.tags, due_us = tonumber(row.due_us),
  })
  if not id and err.code == "not_found" then
    warn_once(row, "waits in the outbox: no plugin declares that workflow")
    return false
  end
  if not id and err.code ~= "conflict" then error(err, 0) end
  if not id then warn_once(row, "is not created: its id was taken meanwhile for another input") end
  errors.check(store.query("app", "DELETE FROM " .. TABLE .. " WHERE id = $1", { row.id }))
  return true
end

local said_at = -math.huge

local function note_failure(err)
  err = errors.from(err)
  if err.code == "cancelled" then error(err, 0) end
  if runtime.mono() < said_at + SAY_EVERY_S then return end
  said_at = runtime.mono()
  runtime.log("warn", "workflow", "runs that were triggered in a transaction wait for their creation: " .. err.message)
end

--- The transaction has committed. Raises only when the task is cancelled: what cannot be created now is done later.
function M.forward(list)
  own.note(TABLE)
  local ok, err = errors.pcall(function()
    for i = 1, #list do forward(list[i]) end
  end)
  if not ok then note_failure(err) end
end

local function forward_all()
  local at_us, id = -1, ""
  while own.exists(TABLE) do
    local rows = errors.check(store.query("app", "SELECT " .. COLUMNS .. " FROM " .. TABLE
      .. " WHERE at_us > $1 OR (at_us = $1 AND id > $2) ORDER BY at_us, id LIMIT " .. PAGE, { at_us, id }))
    for _, row in ipairs(rows) do
      at_us, id = row.at_us, row.id
      forward(row)
    end
    if #rows < PAGE then return end
  end
end

local looked_at = -math.huge

--- Forwards what was left behind. In a task; every few seconds.
function M.look()
  local is_ours = pending
  local others = runtime.worker() == 0 and runtime.mono() >= looked_at + LOOK_EVERY_S
  if not (is_ours or others) then return end
  pending, looked_at = false, runtime.mono()
  local ok, err = errors.pcall(forward_all)
  if ok then return end
  pending = pending or is_ours
  if errors.from(err).code ~= "unavailable" then own.forget(TABLE) end
  if is_ours then note_failure(err) end
end

return M
