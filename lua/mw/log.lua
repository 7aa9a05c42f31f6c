-- SPDX-License-Identifier: MIT

--- Log lines of plugins: mw.log.debug, info, warn, error.
--
--   mw.log.info("paid", { order = 7 })      -- fields are any JSON value's members; what cannot be encoded is said in its place
--
-- A line carries the plugin and, inside a request, its trace id. Logging never fails and never waits.

local core = require "mw.core.task"
local runtime = require "mw._runtime"
local validate = require "mw.validate"

local M = {}

---@class mw.Log
---@field debug fun(message: any, fields?: table)
---@field info fun(message: any, fields?: table)
---@field warn fun(message: any, fields?: table)
---@field error fun(message: any, fields?: table)

--- The log functions of one plugin.
function M.for_plugin(name)
  local log = {}
  for _, level in ipairs { "debug", "info", "warn", "error" } do
    log[level] = function(message, fields)
      if fields ~= nil then validate.arg("mw.log." .. level, 2, "fields", fields, "table") end
      local context = core.local_get()
      local trace_id = context and context.trace_id -- a step's context is the plugin's to write
      runtime.log(level, "plugin", tostring(message), fields, name, type(trace_id) == "string" and trace_id or nil)
    end
  end
  return log
end

return M
