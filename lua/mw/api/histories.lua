-- SPDX-License-Identifier: MIT

--- Histories over HTTP: GET /api/v1/executions/{id}/export, POST /api/v1/executions/import. The document: lua/mw/runs/history.lua.

local history = require "mw.runs.history"
local json = require "mw.core.json"
local scopes = require "mw.access.scopes"
local surface = require "mw.api.surface"

local M = {}

-- Code is for whom may see it elsewhere.
local function export(req, res, args, _, who)
  local with_code = args.query.code ~= "false" and scopes.allow(who.scopes, "plugins:read")
  res:json(json.box(history.export(req.params.id, { code = with_code })))
end

local function import(req, res, args, _, who)
  surface.check_json_type(req)
  local outcome = history.import(who, req.body or "", { resume = args.query.resume == "true" })
  res:status(outcome.created and 201 or 200):header("location", "/api/v1/executions/" .. outcome.id):json(outcome)
end

local truth = { type = "string", enum = { "true", "false" } }

local export_doc = {
  summary = "An execution's history as one document", tag = "executions",
  description = "Run, journal, signals and the code that it is pinned to (that with the scope plugins:read).",
  query = { { name = "code", schema = truth, description = "false: without its code" } },
  responses = {
    ["200"] = { "The document", { type = "object", properties = { format = { type = "string" }, version = { type = "integer" } } } },
    ["404"] = { "There is no such execution", "problem" }, ["413"] = { "It is more than 15 MiB", "problem" },
  },
}

local import_doc = {
  summary = "Take in an execution's history", tag = "executions",
  description = "It keeps its id; one that is here already stays as it is. What had not ended is paused. Code that this server does not have is taken only "
    .. "with every scope.",
  query = { { name = "resume", schema = truth, description = "true: what had not ended goes on at once" } },
  body = { description = "What export gave" }, is_body_free = true,
  responses = {
    ["201"] = { "Taken in", {
      type = "object", properties = { id = { type = "string", format = "uuid" }, created = { type = "boolean" }, status = { type = "string" } },
    } },
    ["200"] = { "It is here already" }, ["400"] = { "It is no history; says where", "problem" }, ["403"] = { "It brings code", "problem" },
    ["409"] = { "Its id, or its own id of the workflow, is another's here", "problem" }, ["413"] = { "It is more than 15 MiB", "problem" },
  },
}

M.endpoints = {
  {
    method = "GET", pattern = "/api/v1/executions/:id/export", access = "key", scope = "executions:read", handler = export, doc = export_doc,
    opts = { timeout = 60 },
  },
  {
    method = "POST", pattern = "/api/v1/executions/import", access = "key", scope = "executions:write", handler = import, doc = import_doc,
    opts = { body = 16 * 1024 * 1024, timeout = 60 },
  },
}

return M
