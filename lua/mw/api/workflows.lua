-- SPDX-License-Identifier: MIT

--- Workflows: GET /api/v1/workflows, and pausing them: POST /api/v1/workflows/{name}/pause and …/resume, POST /api/v1/pause and /api/v1/resume for
--- everything. Policy: lua/mw/runs/pauses.lua.

local errors = require "mw.errors"
local json = require "mw.core.json"
local pauses = require "mw.runs.pauses"
local registry = require "mw._registry"
local time = require("mw.api.steps").time
local validate = require "mw.validate"

local M = {}

local NULL = json.null
local ALL = "*"

local function workflow_of(def, paused)
  local steps = json.array {}
  for i, step in ipairs(def.steps or {}) do steps[i] = { name = step.name, kind = step.kind, retries = step.retries, timeout = step.timeout } end
  local pause = paused[def.name]
  return {
    name = def.name, form = def.form, steps = steps, plugin = def.plugin, where = def.where, bundle = def.bundle, paused_by = pause and pause.actor or NULL,
    paused_at = pause and time(pause.at_us) or NULL,
  }
end

local function list(_, res)
  local paused, items = {}, json.array {}
  for _, pause in ipairs(pauses.list()) do paused[pause.workflow] = pause end
  for _, def in pairs(registry.workflows) do items[#items + 1] = workflow_of(def, paused) end
  table.sort(items, function(a, b) return a.name < b.name end)
  local all = paused[ALL]
  res:json { items = items, next = NULL, total = #items, paused_by = all and all.actor or NULL, paused_at = all and time(all.at_us) or NULL }
end

local function is_paused(name)
  for _, pause in ipairs(pauses.list()) do if pause.workflow == name then return true end end
end

-- A workflow that no plugin declares any more may still be resumed.
local function check_name(name)
  if registry.workflows[name] or is_paused(name) then return end
  local near = validate.nearest(name, registry.workflows)
  errors.throw("not_found", string.format("there is no workflow %q", name:sub(1, 100)),
    { hint = near and string.format("did you mean %q?", near) or "GET /api/v1/workflows lists them" })
end

local function setter(value)
  return function(req, res, _, _, who)
    local name = req.params.name or ALL
    if name ~= ALL then check_name(name) end
    res:json(pauses.set(who, name, value))
  end
end

-- ---- documents ----

local text, moment, name_or_null = { type = "string" }, { type = { "string", "null" }, format = "date-time" }, { type = { "string", "null" } }

local outcome = {
  type = "object", properties = { workflow = text, paused = { type = "boolean" }, changed = { type = "boolean", description = "false: it was so already" } },
}

local list_doc = {
  summary = "The workflows that plugins declare", tag = "workflows",
  responses = { ["200"] = { "All of them; paused_by of the answer: everything is paused", {
    type = "object",
    properties = {
      items = { type = "array", items = { type = "object" } }, next = name_or_null, total = { type = "integer" }, paused_by = name_or_null, paused_at = moment,
    },
  } } },
}

local function doc(summary, description)
  return {
    summary = summary, description = description, tag = "workflows", body = { type = "object", properties = {} }, is_body_optional = true,
    responses = { ["200"] = { "How it is then", outcome }, ["404"] = { "No such workflow", "problem" }, ["503"] = { "The database is away; see Retry-After", "problem" } },
  }
end

local held = "Starts are stored and queued; runs under way stop at their next step; what waits goes on waiting. It holds over restarts, on every node."

local function endpoint(pattern, value, its_doc)
  return { method = "POST", pattern = pattern, access = "key", scope = "executions:write", handler = setter(value), doc = its_doc }
end

M.endpoints = {
  { method = "GET", pattern = "/api/v1/workflows", access = "key", scope = "plugins:read", handler = list, doc = list_doc },
  endpoint("/api/v1/workflows/:name/pause", true, doc("Pause a workflow", held)),
  endpoint("/api/v1/workflows/:name/resume", false, doc("Let a paused workflow go on")),
  endpoint("/api/v1/pause", true, doc("Pause every workflow", held)),
  endpoint("/api/v1/resume", false, doc("Take back the pause of everything; workflows that were paused by name stay paused")),
}

return M
