-- SPDX-License-Identifier: MIT

--- The built-in surfaces, as lists of routes for the HTTP server. lua/mw/boot.lua puts them before the plugins' routes.
--
--   api.routes("main", split)      what has no listener of its own: split = {app = bool, api = bool, ops = bool}, none without
--   api.routes("api", split)       /api, and whatever has no other home
--   api.routes("ops", split)       /ops and /metrics
--   api.routes("control", split)   everything, without asking who is there: DATA/moonwatch.sock is only its owner's
--   api.routes("app", split)       probes only: the listener for plugin routes that faces the world; "redirect" the same
--
-- Every listener answers the probes.

local cron = require "mw.api.cron"
local executions = require "mw.api.executions"
local execution_actions = require "mw.api.execution_actions"
local histories = require "mw.api.histories"
local keys = require "mw.api.keys"
local login = require "mw.api.login"
local openapi = require "mw.api.openapi"
local ops = require "mw.api.ops"
local sidecar = require "mw.api.sidecar"
local signals = require "mw.api.signals"
local surface = require "mw.api.surface"
local system = require "mw.api.system"
local workflows = require "mw.api.workflows"

local M = {}

local all = {}
for _, list in ipairs { sidecar.endpoints, executions.endpoints, execution_actions.endpoints, histories.endpoints, signals.endpoints, cron.endpoints, workflows.endpoints, system.endpoints, system.probes, keys.endpoints, login.endpoints, ops.endpoints } do
  for _, endpoint in ipairs(list) do all[#all + 1] = endpoint end
end
all[#all + 1] = openapi.endpoint(all)

--- Endpoints with their documents.
M.endpoints = all

local is_probe = {}
for _, endpoint in ipairs(system.probes) do is_probe[endpoint] = true end

-- The listener that a surface moves to when that one is split off.
local function home_of(endpoint)
  local first = endpoint.pattern:match("^/[^/]*")
  return (first == "/ops" or first == "/metrics") and "ops" or "api"
end

local function is_answered(endpoint, listener, split)
  if listener == "control" or is_probe[endpoint] then return true end
  local home = home_of(endpoint)
  return listener == (split[home] and home or "main")
end

function M.routes(listener, split)
  local routes = {}
  split = split or {}
  for _, endpoint in ipairs(all) do
    if is_answered(endpoint, listener, split) then routes[#routes + 1] = surface.route(endpoint, listener) end
  end
  return routes
end

return M
