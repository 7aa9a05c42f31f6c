-- SPDX-License-Identifier: MIT

--- The program around the Lua code, in Lua values: configuration, plugins, readiness, reload. A face for mw.core.runtime.

local core = require "mw.core.runtime"
local json = require "mw.core.json"

local M = {
  env = core.env,
  token_matches = core.token_matches,
  is_draining = core.is_draining,
  wake_engines = core.wake_engines,
  now_us = core.now_us,
  mono = core.mono,
  uuid = core.uuid,
  random = core.random,
  worker = core.worker,
  generation = core.generation,
  format_time = core.format_time,
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

--- {generation, plugins = [...], error = {...} | nil}
function M.plugins() return json.decode(core.plugins()) end

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
    local ok, encoded = pcall(json.encode, fields, { sort = true })
    text = ok and encoded or json.encode { unloggable = tostring(encoded) }
  end
  core.log(level, area, message, plugin, trace_id, text)
end

return M
