-- SPDX-License-Identifier: MIT

--- A server in a table: the Lua library over fakes of the C modules that need one, with a virtual clock.
--
--   local server = fakes.server()
--   server.plugin(function(workflow) workflow("checkout", {…}) end)     -- declares, as a plugin file does
--   server.boot()                                                      -- starts the engine
--   local plugin = server.declare(definition, opts)                    -- both, of one workflow "w"
--   local run = server.trigger("checkout", { amount = 1 });  server.task.run()
--   server.restart(declare)                                            -- kill -9, and a new process over the same store
--   server.close()                                                     -- in after_each: gives the real modules back

local fake_task = require "support.fakes.task"
local fake_store = require "support.fakes.store"

local M = {}

local function is_ours(name) return name == "mw" or name:find("^mw%.") end

local function real(name)
  local ok, module = pcall(require, name)
  return ok and type(module) == "table" and module or nil
end

local function plain_digest(_, text)
  local sum = 5381
  for i = 1, #text do sum = (sum * 33 + text:byte(i)) % 2 ^ 32 end
  return string.format("%064x", sum)
end

local function crypto_module()
  return real "mw.core.crypto" or { digest = plain_digest, equal = function(a, b) return a == b end }
end

local units = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400 }

local function plain_duration(value)
  if type(value) == "number" then return value end
  local n, unit = value:match("^([%d%.]+)(%a+)$")
  if not units[unit] then return nil, { message = "not a duration" } end
  return tonumber(n) * units[unit]
end

local function plain_distance(a, b)
  local same = 0
  for i = 1, math.min(#a, #b) do if a:sub(i, i) == b:sub(i, i) then same = same + 1 end end
  return math.max(#a, #b) - same
end

local function runtime_module(server)
  local ours = real "mw.core.runtime" or { duration = plain_duration, distance = plain_distance }
  local fake = {
    now_us = function() return server.task.now_us end,
    random = function() return server.random end,
    uuid = function() return "0190bbbb-0000-7000-8000-000000000001" end,
    config = function(name) return server.config[name] end,
    log = function(level, area, message) server.logs[#server.logs + 1] = { level = level, area = area, message = message } end,
    worker = function() return 0 end,
    generation = function() return 1 end,
    tell_control = function(id) server.told[#server.told + 1] = id end,
    wake_engines = function(due_us) server.woken[#server.woken + 1] = due_us end,
    token_matches = function(token) return server.token ~= nil and server.token == token, server.token ~= nil end,
    is_draining = function() return false end,
    plugins = function() return server.json.encode(server.plugins) end,
    status = function() return server.json.encode(server.status) end,
    reload = function() return server.reload() end,
    format_time = ours.format_time or function(us) return string.format("T%d", us) end,
  }
  return setmetatable(fake, { __index = ours })
end

local function load_bundle(server)
  return function(hash)
    if server.bundles[hash] then return server.bundles[hash] end
    return nil, require("mw.errors").new("not_found", "the code store has no bundle " .. hash)
  end
end

local function forget_ours()
  for name in pairs(package.loaded) do
    if is_ours(name) then package.loaded[name] = nil end
  end
end

-- The Lua library afresh over the server's fakes, as a new process has it.
local function load_library(server)
  forget_ours()
  package.loaded["mw.core.json"], package.loaded["mw.core.crypto"] = server.json, server.crypto
  package.loaded["mw.core.task"], package.loaded["mw.core.store"] = server.task, server.store
  package.loaded["mw.core.runtime"] = server.runtime
  package.loaded["mw._loader"] = {
    bundle_code = function(hash) return { { hash = hash, text = "code of " .. hash } } end,
    load_bundle = load_bundle(server),
  }
  require("mw.errors").pcall = server.task.pcall
  server.workflow, server.engine, server.registry = require "mw.workflow", require "mw.workflow.engine", require "mw._registry"
end

function M.server()
  local server = {
    config = {}, logs = {}, woken = {}, told = {}, random = 0.5, plugins = {}, status = { ready = true, reasons = {} },
    bundle = "bundle-1", bundles = {},
  }
  local saved = {}
  for name, module in pairs(package.loaded) do
    if is_ours(name) then saved[name] = module end
  end
  server.json, server.crypto = real "mw.core.json" or require "support.fakes.json", crypto_module()
  server.runtime = runtime_module(server)
  server.task = fake_task.new()
  server.store = fake_store.new(server.task)
  load_library(server)

  --- Declares as a plugin file does: declare(mw.workflow).
  function server.plugin(declare)
    local plugin = { name = "spec", declarations = {}, workflows = {} }
    server.registry.loading = plugin
    local ok, err = pcall(declare, server.workflow.define)
    server.registry.loading = nil
    if not ok then error(err, 0) end
    for _, workflow in pairs(plugin.workflows) do workflow.bundle = server.bundle end
    server.bundles[server.bundle] = plugin.workflows
  end

  --- Declares the workflow "w", starts the engine; returns the plugin, for restart.
  function server.declare(definition, opts)
    local function plugin(workflow) workflow("w", definition, opts) end
    server.plugin(plugin)
    server.boot()
    return plugin
  end

  --- mw.sleep: raises when the task ends meanwhile.
  function server.nap(seconds)
    local ok, err = server.task.sleep(seconds)
    if not ok then error(err, 0) end
  end

  function server.boot()
    server.task.spawn(server.workflow.start, "engine")
    server.task.turn()
  end

  function server.trigger(name, input, opts)
    return server.task.call(server.workflow.trigger, name, input, opts)
  end

  --- kill -9 and a new process: `declare` are its plugins.
  function server.restart(declare)
    server.task.crash()
    local now = server.task.now_us
    server.task = fake_task.new()
    server.task.now_us = now + 1000
    server.store = fake_store.new(server.task, server.store)
    load_library(server)
    if declare then server.plugin(declare) end
    server.boot()
  end

  --- What a run looks like on disk.
  function server.row(run) return server.store.rows[run.id or run] end

  function server.close()
    forget_ours()
    for name, module in pairs(saved) do package.loaded[name] = module end
  end

  return server
end

return M
