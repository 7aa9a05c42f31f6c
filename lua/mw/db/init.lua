-- SPDX-License-Identifier: MIT

--- SQL on the application database: app.db in the data folder, or the user's PostgreSQL.
--
--   local rows = mw.query("SELECT id, name FROM users WHERE plan = $1", { "pro" })     -- list of rows
--   local changed = mw.query("UPDATE users SET plan = 'free'").affected                  -- for statements that give no rows
--   local user = mw.one("SELECT … WHERE id = $1", { id })                               -- the first row, or nil
--   mw.transaction(function(tx)
--     tx:query("UPDATE accounts SET cents = cents - $1 WHERE id = $2", { 100, from })
--     tx:query("UPDATE accounts SET cents = cents + $1 WHERE id = $2", { 100, to })
--     tx:trigger("notify", { account = to })                                             -- a run that exists only if the rows do
--   end)                                                                                 -- commits; an error rolls back and is raised again
--
-- Parameters are `$1`, `$2` … on both engines; the statement says how many are read, so a missing one is NULL. Values: text, numbers,
-- booleans, nil or mw.null; text that is not UTF-8 goes in as bytes. A NULL column is absent from its row; an integer beyond 2^53 is text.
-- Options, third argument: timeout (default 30 s). A transaction: timeout (default 10 s) for the whole of it; then it is rolled back.
-- At most 100,000 rows come back; more raise "limit".
--
-- The same for a further database: mw.db("reports").query, lua/mw/db/named.lua.
--
-- Errors: constraint, serialization (retryable), sql, denied, timeout, limit, unavailable (retryable); err.sqlstate has the database's own
-- word. Transaction control (BEGIN, COMMIT, SET …) belongs to mw.transaction and is refused elsewhere.

local errors = require "mw.errors"
local store = require "mw.core.store"
local validate = require "mw.validate"

local M = {}

local options = { timeout = "duration" }

local function check(what, sql, params, opts)
  validate.arg(what, 1, "sql", sql, "string")
  if params ~= nil then validate.arg(what, 2, "params", params, "table") end
  if opts == nil then return nil end
  opts = validate.options(what, opts, options)
  return opts.timeout and validate.duration(what .. ": timeout", opts.timeout, true)
end

local function first(rows) return rows[1] end

-- `what` names the call in errors; `db` is "app" or a name that is open.
local function query_on(db, what, sql, params, opts)
  local timeout = check(what, sql, params, opts)
  return (errors.check(store.query(db, sql, params, timeout)))
end

---@class mw.QueryOptions
---@field timeout? mw.Duration default 30 s

---@class mw.Rows
---@field [integer] table<string, any>
---@field affected integer rows that the statement changed

--- All rows, and how many were changed.
---@param sql string with $1, $2 …
---@param params? any[]
---@param opts? mw.QueryOptions
---@return mw.Rows
function M.query(sql, params, opts)
  return query_on("app", "mw.query", sql, params, opts)
end

--- The first row, or nil.
---@param sql string
---@param params? any[]
---@param opts? mw.QueryOptions
---@return table<string, any>? row
function M.one(sql, params, opts)
  return first(query_on("app", "mw.one", sql, params, opts))
end

---@class mw.Tx
local Tx = {}
Tx.__index = Tx
Tx.__metatable = "mw.tx"

local handles = setmetatable({}, { __mode = "k" })
local outboxes = setmetatable({}, { __mode = "k" }) -- runs that begin when it commits; none on further databases

local function handle_of(tx, what)
  local handle = handles[tx]
  if not handle then errors.throw("invalid", what .. ": the transaction is over; use tx inside the function given to mw.transaction") end
  return handle
end

--- As mw.query, inside the transaction.
---@param sql string
---@param params? any[]
---@param opts? mw.QueryOptions
---@return mw.Rows
function Tx:query(sql, params, opts)
  local timeout = check("tx:query", sql, params, opts)
  return (errors.check(handle_of(self, "tx:query"):query(sql, params, timeout)))
end

--- As mw.one, inside the transaction.
---@param sql string
---@param params? any[]
---@param opts? mw.QueryOptions
---@return table<string, any>? row
function Tx:one(sql, params, opts)
  local timeout = check("tx:one", sql, params, opts)
  return first(errors.check(handle_of(self, "tx:one"):query(sql, params, timeout)))
end

--- Starts a workflow if the transaction commits, and not otherwise; options as of mw.trigger. The run is stored when mw.transaction returns, or
--- soon after, whatever happens to the server meanwhile.
---@param name string
---@param input? any JSON
---@param opts? { id?: string, group?: string, delay?: mw.Duration, at?: number, priority?: integer, tags?: string[] }
---@return { id: string }
function Tx:trigger(name, input, opts)
  local handle = handle_of(self, "tx:trigger")
  local list = outboxes[self]
  if not list then
    errors.throw("invalid", "tx:trigger works in mw.transaction, on the application's database; a run cannot depend on rows of another one")
  end
  return { id = require("mw.workflow.outbox").add(handle, list, name, input, opts) }
end

local function packed(...) return { n = select("#", ...), ... } end

local function transaction_on(db, what, tx, fn, opts)
  validate.arg(what, 1, "fn", fn, "function")
  opts = validate.options(what, opts, options)
  local timeout = opts.timeout and validate.duration(what .. ": timeout", opts.timeout, true)
  local handle = errors.check(store.begin(db, timeout))
  local list = db == "app" and {} or nil
  handles[tx], outboxes[tx] = handle, list
  local result = packed(errors.pcall(fn, tx))
  handles[tx] = nil
  if not result[1] then
    handle:finish(false)
    error(result[2], 0)
  end
  local outbox = list and list[1] and require "mw.workflow.outbox"
  if outbox then outbox.expect() end
  errors.check(handle:finish(true))
  if outbox then outbox.forward(list) end
  return unpack(result, 2, result.n)
end

--- Calls fn(tx) in a transaction and gives what it returns; an error rolls back and is raised again.
---@param fn fun(tx: mw.Tx): ...
---@param opts? { timeout?: mw.Duration } for the whole of it, default 10 s
---@return any ...
function M.transaction(fn, opts) return transaction_on("app", "mw.transaction", setmetatable({}, Tx), fn, opts) end

-- For lua/mw/db/named.lua.
M.query_on = query_on
function M.transaction_on(db, what, fn, opts) return transaction_on(db, what, setmetatable({}, Tx), fn, opts) end

return M
