-- SPDX-License-Identifier: MIT

--- The server itself: /livez, /readyz, GET /api/v1/plugins, POST /api/v1/reload.

local access = require "mw.api.access"
local errors = require "mw.errors"
local json = require "mw.core.json"
local runtime = require "mw._runtime"

local M = {}

local function livez(_, res) res:json { status = "ok" } end

local function readyz(req, res, _, listener)
  local status = runtime.status()
  local answer = { status = status.ready and "ready" or "unready" }
  if access.may_see_details(req, listener) then
    answer.reasons = json.array(status.reasons or {})
    answer.version, answer.engine = status.version, status.engine
  end
  if not status.ready then res:status(503):header("retry-after", "1") end
  res:json(answer)
end

local function plugins(_, res)
  local report = runtime.plugins()
  res:json { generation = report.generation, items = report.plugins, errors = report.errors, next = json.null, total = #report.plugins }
end

local function first_problem(report)
  local problem = report.errors and report.errors[1]
  if type(problem) ~= "table" then return "the plugins do not load" end
  local where = problem.file and problem.file .. (problem.line and ":" .. problem.line or "") .. ": " or ""
  return where .. tostring(problem.message)
end

local function reload(_, res)
  local report, err = runtime.reload()
  if not report then errors.raise(errors.from(err)) end
  if not report.ok then
    errors.throw("invalid", "nothing was changed, the version before keeps serving: " .. first_problem(report), {
      status = 422, hint = "mend the file and reload again; GET /api/v1/plugins shows the whole report",
    })
  end
  res:json(report)
end

local status_schema = { type = "object", properties = { status = { type = "string" } } }

local livez_doc = { summary = "Whether the process serves", tag = "system", responses = { ["200"] = { "It does", status_schema } } }

local readyz_doc = {
  summary = "Whether the server should get traffic", tag = "system",
  responses = { ["200"] = { "Yes", status_schema }, ["503"] = { "Not now; with a key, why", status_schema } },
}

local plugins_doc = {
  summary = "Plugins, what they declare, and why one does not load", tag = "system",
  responses = { ["200"] = { "The plugins", { type = "object" } } },
}

local reload_doc = {
  summary = "Load the plugins again", tag = "system",
  responses = { ["200"] = { "A new generation serves", { type = "object" } }, ["422"] = { "A plugin does not load; nothing changed", "problem" } },
}

M.probes = {
  { method = "GET", pattern = "/livez", access = "open", handler = livez, doc = livez_doc },
  { method = "GET", pattern = "/readyz", access = "status", scope = "status:read", handler = readyz, doc = readyz_doc },
}

M.endpoints = {
  { method = "GET", pattern = "/api/v1/plugins", access = "key", scope = "plugins:read", handler = plugins, doc = plugins_doc },
  { method = "POST", pattern = "/api/v1/reload", access = "key", scope = "plugins:reload", handler = reload, opts = { timeout = 60 }, doc = reload_doc },
}

return M
