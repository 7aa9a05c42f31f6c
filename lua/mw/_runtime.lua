-- SPDX-License-Identifier: MIT

--- The program around the Lua code, in Lua values: configuration, plugins, readiness, reload. A face for mw.core.runtime.

local core = require "mw.core.runtime"
local json = require "mw.core.json"

local M = {
  env = core.env,
  token_matches = core.token_matches,
  access_version = core.access_version,
  say = core.say,
  is_draining = core.is_draining,
  wake_engines = core.wake_engines,
  tell_control = core.tell_control,
  now_us = core.now_us,
  mono = core.mono,
  uuid = core.uuid,
  random = core.random,
  worker = core.worker,
  generation = core.generation,
  format_time = core.format_time,
  parse_time = core.parse_time,
}

local cached = {}

--- The value of a configuration option by its full name ("workflow.concurrency"); nil when it is unset, unknown or secret.
function M.config(name)
  local box = cached[name]
  if box == nil then
    local text = core.config(name)
    box = { value = text and json.decode(text) }
    cached[name] = box
  end
  return box.value
end

--- What serves and what did not load: { generation, plugins = [{name, file, bundle, declarations, error}], errors = [...] }. `errors` is
--- empty when the newest load succeeded; a plugin that failed in it carries its own as `error`.
function M.plugins()
  local reports = json.decode(core.plugins())
  local serving = reports.serving or { generation = 0, plugins = {} }
  local view = { generation = serving.generation, plugins = json.array {}, errors = json.array {} }
  local by_name = {}
  for _, plugin in ipairs(serving.plugins) do
    view.plugins[#view.plugins + 1] = plugin
    by_name[plugin.name] = plugin
  end
  for _, failure in ipairs(reports.failed and reports.failed.errors or {}) do
    view.errors[#view.errors + 1] = failure
    local plugin = by_name[failure.plugin]
    if plugin then plugin.error = failure
    elseif failure.plugin then
      view.plugins[#view.plugins + 1] = { name = failure.plugin, file = failure.file, declarations = json.array {}, error = failure }
    end
  end
  return view
end

--- {ready, reasons = [...], version, engine, uptime_seconds, …}
function M.status() return json.decode(core.status()) end

--- Whether the server should get traffic, and if not, why.
function M.ready()
  local status = M.status()
  return status.ready, status.reasons
end

--- Loads the plugins again; waits. The report of the loader (see mw._loader), with `ok`.
function M.reload()
  local ok, report = core.reload()
  if ok == nil then return nil, report end
  report = json.decode(report)
  report.ok = ok
  return report
end

--- Writes a log line. `fields` is a table or nil; what cannot be encoded is said in its place.
function M.log(level, area, message, fields, plugin, trace_id)
  local text
  if fields ~= nil then
    local err
    text, err = json.encode(fields, { sort = true, name = "fields" })
    if not text then text = json.encode { unloggable = err.message } end
  end
  core.log(level, area, message, plugin, trace_id, text)
end

return M
