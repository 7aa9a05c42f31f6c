-- SPDX-License-Identifier: MIT

--- Changes to keys and sessions: as lua/mw/audit.lua, and every worker of this process knows of it before the call returns.

local audit = require "mw.audit"
local runtime = require "mw._runtime"

local M = {}

function M.change(note, fn)
  local result = audit.change(note, fn)
  runtime.access_version(true)
  return result
end

return M
