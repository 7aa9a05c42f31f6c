-- SPDX-License-Identifier: MIT

--- What C calls: load a generation's plugins and build its routes (on the loader thread), then start and stop what runs by itself
--- (on the worker).

local json = require "mw.core.json"
local loader = require "mw._loader"
local registry = require "mw._registry"
local runtime = require "mw._runtime"

local M = {}

-- Listener tags, as in core/app/listen.h.
local tags = { main = 0, app = 1, api = 2, ops = 3, control = 4, redirect = 5 }

-- The listeners that have an address of their own, by name; what they answer, the main one does not.
local function split_listeners()
  local split = {}
  for _, name in ipairs { "app", "api", "ops", "redirect" } do
    local address = runtime.config("listen_" .. name)
    split[name] = address ~= nil and address ~= ""
  end
  return split
end

local function joined(...)
  local list = {}
  for i = 1, select("#", ...) do
    for _, route in ipairs((select(i, ...))) do list[#list + 1] = route end
  end
  return list
end

local function build_routes(split)
  local api, http, reserved = require "mw.api", require "mw.http.routes", require("mw.routes").reserved
  local main = api.routes("main", split)
  http.build(tags.main, split.app and main or joined(main, reserved(), registry.routes))
  http.build(tags.control, api.routes("control", split))
  if split.app then http.build(tags.app, joined(api.routes("app", split), registry.routes)) end
  if split.api then http.build(tags.api, api.routes("api", split)) end
  if split.redirect then http.build(tags.redirect, joined(api.routes("redirect", split), require("mw.api.redirect").routes())) end
  if split.ops then http.build(tags.ops, api.routes("ops", split)) end
end

local function log_failure(failure)
  local where = failure.line and failure.file .. ":" .. failure.line or failure.file
  runtime.log("error", "plugins", where .. ": " .. failure.message, {
    file = failure.file, line = failure.line, code = failure.code, excerpt = failure.excerpt, fix = failure.hint,
  }, failure.plugin)
end

local function load()
  local split = split_listeners()
  registry.app_listener = split.app
  local ok, report = loader.load_all()
  if not ok then return false, report end
  local job, problem = require("mw.cron").find_dangling()
  if job then
    loader.add_problem(report, require("mw.errors").new("not_found", problem, { where = job.where }))
    return false, report
  end
  local built, err = xpcall(build_routes, debug.traceback, split)
  if not built then loader.add_problem(report, err) end
  return built, report
end

--- Loads all plugins and builds the routes. Returns whether all is well, and the report (see mw._loader.load_all) as JSON.
function M.load()
  local ok, report = load()
  for _, failure in ipairs(report.errors) do log_failure(failure) end
  return ok, json.encode(report)
end

--- The same for `moonwatch check --json`: nothing is logged.
function M.check_json()
  local ok, report = load()
  return ok, json.encode(report)
end

local function counted(n, word) return n .. " " .. word .. (n == 1 and "" or "s") end

--- The same for `moonwatch check`: the report in words.
function M.check()
  local ok, report = load()
  local lines, declared = {}, 0
  for _, plugin in ipairs(report.plugins) do
    lines[#lines + 1] = plugin.file
    for _, declaration in ipairs(plugin.declarations) do
      declared = declared + 1
      lines[#lines + 1] = ("  %-9s %-32s %s"):format(declaration.kind, declaration.name, declaration.where or "")
    end
  end
  for _, failure in ipairs(report.errors) do
    lines[#lines + 1] = ""
    lines[#lines + 1] = ("error: %s%s: %s"):format(failure.file, failure.line and ":" .. failure.line or "", failure.message)
    if failure.excerpt then lines[#lines + 1] = failure.excerpt end
    lines[#lines + 1] = ("fix: mend %s%s and run `moonwatch check` again"):format(failure.file, failure.line and ", line " .. failure.line or "")
  end
  lines[#lines + 1] = ("%s%s, %s, %s"):format(#lines > 0 and "\n" or "", counted(#report.plugins, "plugin"), counted(declared, "declaration"),
    counted(#report.errors, "error"))
  return ok, table.concat(lines, "\n")
end

-- One row a generation and node in `changes`, so that what happened later can be held against what was loaded.
local function note_generation()
  local plugins = json.array {}
  for i, plugin in ipairs(registry.plugins) do plugins[i] = { name = plugin.name, bundle = plugin.bundle } end
  local ok, err = require("mw.core.store").add_change("default", "plugins.loaded", "generation " .. runtime.generation(), "server",
    json.encode({ plugins = plugins }, { sort = true }))
  if not ok then runtime.log("warn", "plugins", "the change log has no row for this generation: " .. err.message) end
end

local function welcome()
  local ok, err = require("mw.errors").try(require("mw.api.login").welcome)
  if not ok and err then runtime.log("warn", "access", "no login link could be made: " .. err.message) end
end

-- What transactions of the application left for later.
local function look_around()
  require("mw.workflow.outbox").look()
  require("mw.workflow.transaction").sweep()
end

--- The generation serves on this worker and the store is ready: starts the workflow engine, and on the first worker the cron jobs.
function M.start()
  if runtime.worker() == 0 then
    require("mw.core.task").spawn(note_generation, "change log")
    require("mw.core.task").spawn(welcome, "login link")
  end
  if runtime.worker() == 0 then
    require("mw.core.task").spawn(require("mw.cron.scheduler").start, "cron")
    require("mw.core.task").spawn(require("mw.runs.retention").start, "retention")
  end
  local engine = require "mw.workflow.engine"
  engine.on_cancelled, engine.on_paused = require("mw.runs.cancel").children, require("mw.runs.actions").check_pause
  engine.read_pauses = require("mw.runs.pauses").start
  engine.on_look = look_around
  if runtime.worker() == 0 then require("mw.core.task").spawn(look_around, "workflow outbox") end
  require("mw.workflow").start()
end

--- Executions may be due at that time.
function M.wake(due_us) require("mw.workflow").wake(due_us) end

--- Somebody wants something of that execution.
function M.control(id) require("mw.workflow.engine").control(id) end

--- Another generation serves, or the worker drains: what would go on by itself ends.
function M.unload()
  require("mw.redis").stop()
  require("mw.runs.retention").stop()
end

--- The worker drains.
function M.stop()
  require("mw.runs.retention").stop()
  require("mw.cron.scheduler").stop()
  require("mw.workflow").stop()
end

return M
