-- SPDX-License-Identifier: MIT

--- The `mw` table that plugins get from `require "mw"`: one copy a plugin, so that what one alters nobody else sees.
--
-- Effects (everything that waits, writes or differs from run to run) pass a guard: while a plugin loads, and in the body of a workflow
-- outside a step, they raise with the place where they belong.

local core = require "mw.core.task"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local validate = require "mw.validate"

local M = {}

local journaled = {
  ["mw.now"] = "ctx:now()", ["mw.random"] = "ctx:random()", ["mw.uuid"] = "ctx:uuid()", ["mw.sleep"] = "ctx:sleep(duration)",
}

local function refuse(name)
  if core.loading() then
    errors.throw("invalid", name .. " cannot run while a plugin loads: move it into a handler, a step or a task")
  end
  local form = journaled[name]
  errors.throw("invalid", name .. " differs from run to run, and the body of a workflow runs again on resume: use " ..
    (form or "ctx:step(\"name\", function() return " .. name .. "(…) end)"))
end

-- Wraps an effect so that it refuses where it must not run.
local function guard(name, fn)
  return function(...)
    local context = core.local_get()
    if context == nil then
      if core.loading() then refuse(name) end
    elseif context.body then
      refuse(name)
    end
    return fn(...)
  end
end

local function guard_all(prefix, functions)
  local guarded = {}
  for name, fn in pairs(functions) do guarded[name] = type(fn) == "function" and guard(prefix .. name, fn) or fn end
  return guarded
end

---@alias mw.Duration number|string seconds, or "250ms" "10s" "5m" "3d"

---@class mw: mw.Routes
---@field log mw.Log
---@field env table<string, string?> variables listed in `env = {…}` of moonwatch.lua, and APP_*
---@field redis mw.Redis
---@field db fun(name: string): mw.Database a further database that `databases` of moonwatch.lua names
---@field null userdata JSON's null
---@field uuid fun(): string a UUIDv7
---@field version string

--- Seconds since 1970.
---@return number
local function now() return runtime.now_us() / 1e6 end

--- As math.random.
---@param m? integer
---@param n? integer
---@return number
local function random(m, n)
  local unit = runtime.random()
  if m == nil then return unit end
  if n == nil then m, n = 1, m end
  validate.arg("mw.random", 1, "m", m, "integer")
  validate.arg("mw.random", 2, "n", n, "integer")
  if n < m then errors.throw("invalid", string.format("mw.random: the interval %d … %d is empty", m, n)) end
  return m + math.floor(unit * (n - m + 1))
end

local function copy(value)
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local fresh = {}
  for k, v in pairs(value) do fresh[k] = copy(v) end
  return fresh
end

local api

-- Everything but what belongs to one plugin; made at the first plugin, after all modules are there.
local function build()
  local task, routes, db = require "mw.task", require "mw.routes", require "mw.db"
  local workflow, crypto = require "mw.workflow", require "mw.crypto"
  api = routes.public()
  api.use, api.use_all = routes.use, routes.use_all
  api.workflow = workflow.define
  api.cron = require("mw.cron").define
  api.trigger = guard("mw.trigger", workflow.trigger)
  api.signal = guard("mw.signal", require("mw.workflow.signals").signal)
  api.sleep, api.spawn, api.all = guard("mw.sleep", task.sleep), guard("mw.spawn", task.spawn), guard("mw.all", task.all)
  api.fetch = guard("mw.fetch", require("mw.fetch").fetch)
  api.query, api.one = guard("mw.query", db.query), guard("mw.one", db.one)
  api.transaction = guard("mw.transaction", db.transaction)
  api.now, api.random, api.uuid = guard("mw.now", now), guard("mw.random", random), guard("mw.uuid", runtime.uuid)
  api.json = require "mw.json"
  api.null, api.array = api.json.null, api.json.array
  api.crypto = copy(crypto)
  api.crypto.random = guard("mw.crypto.random", crypto.random)
  api.kv = guard_all("mw.kv.", require "mw.kv")
  api.try, api.error = errors.try, errors.public
  api.version = require("mw.core.runtime").version
end

--- The `mw` of one plugin.
function M.public(plugin)
  if not api then build() end
  local mw = copy(api)
  mw.log, mw.env = require("mw.log").for_plugin(plugin.name), require("mw.env").for_plugin()
  mw.redis, mw.db = require("mw.redis").for_plugin(guard), require("mw.db.named").for_plugin(guard)
  return mw
end

return M
