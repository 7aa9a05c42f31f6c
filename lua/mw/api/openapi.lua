-- SPDX-License-Identifier: MIT

--- /api/v1/openapi.json (OpenAPI 3.1), made from the same tables that check requests.

local json = require "mw.core.json"
local runtime = require "mw._runtime"

local M = {}

local function text() return { type = "string" } end

local problem = {
  type = "object",
  properties = { type = text(), title = text(), status = { type = "integer" }, detail = text(), hint = text(), trace_id = text() },
}

local sidecar_error = {
  type = "object",
  properties = { error = { description = "A sentence; for 401 an object with code and message", type = json.array { "string", "object" } } },
}

local NAMED = {
  problem = { "application/problem+json", { ["$ref"] = "#/components/schemas/Problem" } },
  sidecar = { "application/json", { ["$ref"] = "#/components/schemas/SidecarError" } },
}

-- A copy that encodes as it should: lists as arrays, empty tables as objects.
local function shown(schema)
  if type(schema) ~= "table" then return schema end
  local copy = {}
  for key, value in pairs(schema) do copy[key] = shown(value) end
  return #schema > 0 and json.array(copy) or copy
end

local function content(schema)
  local named = NAMED[schema]
  if named then return { [named[1]] = { schema = named[2] } } end
  return { ["application/json"] = { schema = shown(schema) } }
end

local function responses(doc)
  local out = {}
  for status, response in pairs(doc.responses) do
    out[status] = { description = response[1], content = response[2] and content(response[2]) or nil }
  end
  return out
end

local function parameters(endpoint)
  local out = json.array {}
  for name in endpoint.pattern:gmatch(":([%w_]+)") do
    out[#out + 1] = { name = name, ["in"] = "path", required = true, schema = text() }
  end
  for _, place in ipairs { { "query", "query" }, { "headers", "header" } } do
    for _, parameter in ipairs(endpoint.doc[place[1]] or {}) do
      out[#out + 1] = { name = parameter.name, ["in"] = place[2], schema = shown(parameter.schema), description = parameter.description }
    end
  end
  return out
end

local function request_body(endpoint)
  if not endpoint.doc.body then return nil end
  local body = { required = not (endpoint.doc.is_body_free or endpoint.doc.is_body_optional), content = content(endpoint.doc.body) }
  if endpoint.shape ~= "flowwatch" and endpoint.doc.body.type == "object" then body.content["application/json"].schema.additionalProperties = false end
  return body
end

local function operation(endpoint)
  local doc = endpoint.doc
  return {
    operationId = endpoint.method:lower() .. endpoint.pattern:gsub("[^%w]+", "_"), summary = doc.summary, description = doc.description,
    tags = json.array { doc.tag }, parameters = parameters(endpoint), requestBody = request_body(endpoint), responses = responses(doc),
    security = endpoint.access == "key" and json.array { { token = json.array { endpoint.scope } }, { session = json.array {} }, {} } or json.array {},
  }
end

--- The document for a list of endpoints.
function M.document(endpoints)
  local paths = {}
  for _, endpoint in ipairs(endpoints) do
    if endpoint.doc then
      local path = endpoint.pattern:gsub(":([%w_]+)", "{%1}")
      paths[path] = paths[path] or {}
      paths[path][endpoint.method:lower()] = operation(endpoint)
    end
  end
  return {
    openapi = "3.1.0",
    info = {
      title = "Moonwatch", version = tostring(runtime.status().version or "0"), license = { name = "MIT", identifier = "MIT" },
      description = "Without a configured token the API is for this machine only and needs none.",
    },
    paths = paths,
    components = {
      schemas = { Problem = problem, SidecarError = sidecar_error },
      securitySchemes = {
        token = { type = "http", scheme = "bearer", description = "The server's token, or a key that has the named scope (any: every key)" },
        session = { type = "apiKey", ["in"] = "cookie", name = "mw_session", description = "With x-moonwatch-csrf on unsafe methods" },
      },
    },
  }
end

--- The endpoint that shows the document of `endpoints`.
function M.endpoint(endpoints)
  return {
    method = "GET", pattern = "/api/v1/openapi.json", access = "key", scope = "any",
    handler = function(_, res) res:json(M.document(endpoints)) end,
    doc = { summary = "This document", tag = "system", responses = { ["200"] = { "OpenAPI 3.1", { type = "object" } } } },
  }
end

return M
