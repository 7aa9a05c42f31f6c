-- SPDX-License-Identifier: MIT

--- What somebody changed: it commits together with its rows in `audit` and `changes`, or not at all.
--
--   local result = audit.change({ actor = "socket", action = "key.created", subject = id, after = {…} }, function(tx) … return result end)
--
-- `fn` may return nil and an error object: nothing is written then.

local errors = require "mw.errors"
local json = require "mw.core.json"
local runtime = require "mw._runtime"
local store = require "mw.core.store"

local M = {}

local TIMEOUT_S = 10

local function add_rows(tx, note, now_us)
  local app = note.app or "default"
  local before, after = note.before and json.encode(note.before, { sort = true }), note.after and json.encode(note.after, { sort = true })
  local rows, err = tx:query("INSERT INTO {{schema}}.audit (id, app, at_us, actor, action, subject, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    { { id = runtime.uuid() }, app, now_us, note.actor, note.action, note.subject, before, after })
  if not rows then return nil, err end
  rows, err = tx:query("INSERT INTO {{schema}}.change_counters AS c (app, last) VALUES ($1, 1) ON CONFLICT (app) DO UPDATE SET last = c.last + 1 RETURNING last",
    { app })
  if not rows then return nil, err end
  return tx:query("INSERT INTO {{schema}}.changes (app, number, at_us, kind, subject, actor, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    { app, tonumber(rows[1].last), now_us, note.action, note.subject, note.actor, after or before })
end

local function run(tx, note, fn)
  local result, err = fn(tx)
  if result == nil then return nil, err end
  local rows
  rows, err = add_rows(tx, note, runtime.now_us())
  if not rows then return nil, err end
  return result
end

--- Runs `fn(tx)`, adds the rows, commits. The result of `fn`; raises what failed.
function M.change(note, fn)
  local tx = errors.check(store.begin("engine", TIMEOUT_S))
  local ok, result, err = errors.pcall(run, tx, note, fn)
  if not ok then
    tx:finish(false)
    error(result, 0)
  end
  if result == nil then
    tx:finish(false)
    errors.raise(errors.from(err))
  end
  errors.check(tx:finish(true))
  return result
end

return M
