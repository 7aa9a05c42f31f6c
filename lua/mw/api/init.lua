-- SPDX-License-Identifier: MIT

--- The built-in surfaces, as lists of routes for the HTTP server. lua/mw/boot.lua puts them before the plugins' routes.
--
--   api.routes("main")       everything: sidecar, /api/v1, probes, /ops
--   api.routes("control")    the same, without asking who is there: DATA/moonwatch.sock is only its owner's
--   api.routes("app")        probes only: the listener for plugin routes that faces the world

local executions = require "mw.api.executions"
local openapi = require "mw.api.openapi"
local ops = require "mw.api.ops"
local sidecar = require "mw.api.sidecar"
local surface = require "mw.api.surface"
local system = require "mw.api.system"

local M = {}

local all = {}
for _, list in ipairs { sidecar.endpoints, executions.endpoints, system.endpoints, system.probes, ops.endpoints } do
  for _, endpoint in ipairs(list) do all[#all + 1] = endpoint end
end
all[#all + 1] = openapi.endpoint(all)

--- Endpoints with their documents.
M.endpoints = all

function M.routes(listener)
  local routes = {}
  for i, endpoint in ipairs(listener == "app" and system.probes or all) do routes[i] = surface.route(endpoint, listener) end
  return routes
end

return M
