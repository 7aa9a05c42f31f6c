-- SPDX-License-Identifier: MIT

--- Moonwatch's own tables in the application database, each made in the transaction that needs it first: nothing is there in a database
--- whose plugins use none of it.
--
--   own.ensure(tx, "moonwatch_outbox", { "CREATE TABLE IF NOT EXISTS …" })     -- in the transaction; raises
--   own.note("moonwatch_outbox")                                               -- it has committed: the table is there from now on
--   own.forget("moonwatch_outbox")                                             -- a statement on it failed: look again next time

local store = require "mw.core.store"
local errors = require "mw.errors"

local M = {}

local there = {}

-- Two transactions that make the same table at once: the second would fail, and so waits for the first.
local LOCK = "SELECT pg_advisory_xact_lock(5570193308531893999)"

--- `query(sql, params)` runs a statement of the transaction and raises.
function M.ensure(query, name, ddl)
  if there[name] then return end
  if store.engine() == "postgres" then
    if query("SELECT 1 AS there WHERE to_regclass($1) IS NOT NULL", { name })[1] then return end
    query(LOCK)
  end
  for _, sql in ipairs(ddl) do query(sql) end
end

function M.note(name) there[name] = true end

function M.forget(name) there[name] = nil end

--- Whether the table is there; raises when that cannot be asked.
function M.exists(name)
  if there[name] then return true end
  local sql = store.engine() == "postgres" and "SELECT 1 AS there WHERE to_regclass($1) IS NOT NULL"
    or "SELECT 1 AS there FROM sqlite_master WHERE type = 'table' AND name = $1"
  there[name] = errors.check(store.query("app", sql, { name }))[1] and true or nil
  return there[name] or false
end

return M
