-- SPDX-License-Identifier: MIT

--- Specs of plugins, for `moonwatch test`: a whole server in the spec's own process, and time and the outside world in its hand.
--
--   local testing = require "mw.testing"
--
--   local app = testing.load("plugins/checkout.lua", { env = { APP_KEY = "k" } })
--   app:stub_fetch("POST", "https://pay.example/charges", { status = 200, json = { id = "ch_1" } })
--   local res = app:request("POST", "/checkout", { json = { amount = 42 } })    -- through the real router
--   local run = app:run("checkout", { amount = 42 }):ok()                        -- on the real engine, to its end
--   assert.equal("ch_1", run.results.charge.id)
--   app:advance("3d")                                                            -- nothing really waits
--   app:crash_at_each_step("checkout", { amount = 42 })
--   app:finish()                                                                 -- every stub was called
--
-- What is real: the loader with its sandbox and its refusals, router and HTTP server, workflow engine, mw.query and mw.transaction on
-- SQLite (with the project's migrations), mw.kv, limits and deadlines. What is not: the clock stands still until the spec, or something
-- the spec waits for, moves it; randomness and ids begin with the same seed; mw.fetch is answered by stubs and a call that none answers
-- fails the spec; nothing listens. One thread, so the order of things is the same every time.
--
-- The plugin runs in a Lua state of its own, as in a server: values cross as JSON, and a spec reaches nothing of the plugin that a
-- client, another plugin or the database could not see.

local app = require "mw.testing.app"
local errors = require "mw.errors"
local fetches = require "mw.testing.fetches"
require "mw.testing.request"
require "mw.testing.runs"
require "mw.testing.crashes"

local validate = require "mw.validate"

local M = { record = fetches.record, error = errors.public }

local START = 1767225600 -- 2026-01-01T00:00:00Z

---@class mw.testing.LoadOpts
---@field env? table<string, any> environment variables as mw.env gives them; those of the process are not seen
---@field config? table settings, as in moonwatch.lua: { http = { max_body = "1KB" }, env = { "STRIPE_KEY" } }
---@field config_file? string|false "moonwatch.lua", when it is there; false: none
---@field migrations? string|false folder of *.up.sql for the tables of mw.query: "migrations", when it is there; false: none
---@field now? number seconds since 1970 to begin at: 2026-01-01T00:00:00Z
---@field seed? integer another one, other random numbers and ids: 1
---@field fetch? table|fun(request: mw.testing.Request): table an answer for every call of mw.fetch that no other stub answers

local known = {
  env = "table", config = "table", config_file = "string|boolean", migrations = "string|boolean", now = "number", seed = "integer",
  fetch = "function|table",
}

-- ---- what to load ----

-- "a/plugins/shop/init.lua" -> "a/plugins", "shop"; without a folder plugins, the file's own.
local function split(path)
  local root, rest = path:match("^(.*plugins)/(.+)$")
  if not root then root, rest = path:match("^(.*)/([^/]+)$") end
  root, rest = root or ".", rest or path
  return root, rest:match("^([^/]+)%.lua$") or rest:match("^([^/]+)/")
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function add_file(target, path)
  local root, name = split(path)
  if not exists(path) then app.fail("there is no plugin %s", path) end
  if not name then app.fail("%s is no plugin: a plugin is plugins/name.lua or plugins/name/init.lua", path) end
  if target.plugins and target.plugins ~= root then app.fail("%s and %s are not in one plugins folder", path, target.plugins) end
  target.plugins, target.only = root, target.only or {}
  target.only[name] = true
end

local function target_of(what)
  local target = {}
  if type(what) == "string" and what:find("%.lua$") then
    add_file(target, what)
  elseif type(what) == "string" then
    if not exists(what) then app.fail("there is no folder %s", what) end
    target.plugins = what
  elseif type(what) == "table" and #what > 0 then
    for _, path in ipairs(what) do add_file(target, path) end
  elseif type(what) == "table" and next(what) then
    target.files = what
  else
    app.fail("testing.load(what): a plugin file, a list of them, a folder, or { [\"name.lua\"] = source }")
  end
  return target
end

-- ---- configuration ----

local function flatten(values, prefix, into)
  for name, value in pairs(values) do
    if type(value) == "table" and value[1] == nil and next(value) then
      flatten(value, prefix .. name .. ".", into)
    else
      into[prefix .. name] = type(value) == "table" and table.concat(value, ",") or tostring(value)
    end
  end
  return into
end

local function strings(values)
  local copy = {}
  for name, value in pairs(values or {}) do copy[name] = tostring(value) end
  return copy
end

local function path_or(value, default)
  if value == nil or value == true then return default end
  return value or nil
end

-- ---- apps end with their test ----

local open = setmetatable({}, { __mode = "k" })
local level -- of busted: inside a test, or in a setup around several

local function close_all(of)
  for one, where in pairs(open) do
    if where == of then
      open[one] = nil
      one:close()
    end
  end
end

local function follow_busted()
  if level then return end
  level = "file"
  local found, busted = pcall(require, "busted")
  if not found or type(busted) ~= "table" or not busted.subscribe then return end
  busted.subscribe({ "test", "start" }, function() level = "test" return nil, true end)
  busted.subscribe({ "test", "end" }, function() close_all "test" level = "file" return nil, true end)
  busted.subscribe({ "file", "end" }, function() close_all "file" return nil, true end)
end

--- Loads plugins as a server does and starts it, in memory. Raises what the server would refuse, with file, line and excerpt.
---
--- `what`: one plugin's file, a list of them, a plugins folder, or { ["name.lua"] = source, … }. `require` in a plugin finds the modules of
--- its plugins folder.
---@param what string|string[]|table<string, string>
---@param opts? mw.testing.LoadOpts
---@return mw.testing.App
function M.load(what, opts)
  opts = validate.options("testing.load", opts, known)
  follow_busted()
  local self = target_of(what)
  self.options = {
    plugins = self.plugins, migrations = path_or(opts.migrations, "migrations"), config_file = path_or(opts.config_file, "moonwatch.lua"),
    config = flatten(opts.config or {}, "", {}), env = strings(opts.env), now_us = (opts.now or START) * 1e6, seed = opts.seed or 1,
  }
  local copy = {}
  for key, value in pairs(self.options) do copy[key] = value end
  app.open(self, copy)
  if opts.fetch then self:stub_fetch("*", "*", opts.fetch, { optional = true }) end
  open[self] = level or "file"
  return self
end

return M
