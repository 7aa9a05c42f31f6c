-- SPDX-License-Identifier: MIT

--- mw.db(name): a further database of the configuration, by its name.
--
--   -- moonwatch.lua: databases = { reports = "postgres://user:password@host/reports", cache = "sqlite:cache.db" }
--   local reports = mw.db("reports")                             -- also at the top of a file; opens nothing
--   local rows = reports.query("SELECT … WHERE day = $1", { day })
--   local row = reports.one("SELECT …")
--   reports.transaction(function(tx) tx:query("…") end)
--
-- The same rules, values, options and errors as mw.query, mw.one and mw.transaction. It is opened when it is first used: one that is away
-- raises `unavailable` there and holds up nothing else. A name that is not configured raises `not_found` with the line to add.

local db = require "mw.db"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local store = require "mw.core.store"
local validate = require "mw.validate"

local M = {}

---@class mw.Database
---@field query fun(sql: string, params?: any[], opts?: mw.QueryOptions): mw.Rows
---@field one fun(sql: string, params?: any[], opts?: mw.QueryOptions): table<string, any>?
---@field transaction fun(fn: (fun(tx: mw.Tx): ...), opts?: { timeout?: mw.Duration }): any

local function check_name(name)
  validate.arg("mw.db", 1, "name", name, "string")
  local known = {}
  for _, one in ipairs(runtime.config("databases") or {}) do known[one] = true end
  if known[name] then return end
  local near = validate.nearest(name, known)
  errors.throw("not_found", ("mw.db(%q): there is no such database; %s"):format(name, near and ("did you mean %q?"):format(near)
    or ("add it to moonwatch.lua: databases = { %s = \"postgres://user@host/name\" }"):format(name)), { status = 500 })
end

local function open(name)
  if not store.is_open(name) then errors.check(store.open_database(name)) end
end

local function make(name, guard)
  local what = ("mw.db(%q)."):format(name)
  local function method(word, fn)
    return guard(what .. word, function(...)
      open(name)
      return fn(name, what .. word, ...)
    end)
  end
  return {
    query = method("query", db.query_on),
    one = method("one", function(...) return db.query_on(...)[1] end),
    transaction = method("transaction", db.transaction_on),
  }
end

--- A plugin's own, so that what one alters nobody else sees. `guard(name, fn)` wraps effects (lua/mw/init.lua).
function M.for_plugin(guard)
  local made = {}
  return function(name)
    if not made[name or ""] then
      check_name(name)
      made[name] = make(name, guard)
    end
    return made[name]
  end
end

return M
