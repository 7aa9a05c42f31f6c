-- SPDX-License-Identifier: MIT

--- What C calls: load a generation's plugins and build its routes (on the loader thread), then start and stop what runs by itself
--- (on the worker).

local loader = require "mw._loader"
local registry = require "mw._registry"
local runtime = require "mw._runtime"

local M = {}

-- Listener tags, as in core/app/runtime.h.
local MAIN, APP, CONTROL = 0, 1, 2

local function joined(...)
  local list = {}
  for i = 1, select("#", ...) do
    for _, route in ipairs((select(i, ...))) do list[#list + 1] = route end
  end
  return list
end

local function build_routes(has_app_listener)
  local api, http = require "mw.api", require "mw.http.routes"
  local plugin_routes = registry.routes
  http.build(MAIN, has_app_listener and api.routes("main") or joined(api.routes("main"), plugin_routes))
  http.build(CONTROL, api.routes("control"))
  if has_app_listener then http.build(APP, joined(api.routes("app"), plugin_routes)) end
end

local function log_failure(failure)
  local where = failure.line and failure.file .. ":" .. failure.line or failure.file
  runtime.log("error", "plugins", where .. ": " .. failure.message, {
    file = failure.file, line = failure.line, code = failure.code, excerpt = failure.excerpt, fix = failure.hint,
  }, failure.plugin)
end

--- Loads all plugins. Returns whether all is well, and the report (see mw._loader.load_all) as JSON.
function M.load(has_app_listener)
  registry.app_listener = has_app_listener
  local ok, report = loader.load_all()
  if ok then
    local built, err = xpcall(build_routes, debug.traceback, has_app_listener)
    if not built then
      ok = false
      loader.add_problem(report, err)
    end
  end
  for _, failure in ipairs(report.errors) do log_failure(failure) end
  return ok, require("mw.core.json").encode(report)
end

--- The generation serves on this worker and the store is ready: starts the workflow engine.
function M.start() require("mw.workflow").start() end

--- Executions may be due at that time.
function M.wake(due_us) require("mw.workflow").wake(due_us) end

--- The worker drains.
function M.stop() require("mw.workflow").stop() end

return M
