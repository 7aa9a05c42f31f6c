-- SPDX-License-Identifier: MIT

--- The sidecar that existing clients speak to: POST /api/trigger, GET /api/health.
--
-- Kept from FlowWatch: paths, success bodies, {"error": "…"} and the 401 body. Mended: an unknown workflow is 404, errors that were HTML
-- pages are JSON, `Idempotency-Key` makes a retried trigger safe (same key and body: same answer; another body: 422). Unknown fields
-- are ignored.

local access = require "mw.api.access"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local options = require "mw.workflow.trigger"
local surface = require "mw.api.surface"
local validate = require "mw.validate"
local workflow = require "mw.workflow"

local M = {}

local MAX_KEY = 255
-- The server answers a larger body before the handler, as a problem; up to here the answer has the sidecar's shape.
local READ_BYTES = 4 * 1024 * 1024
local DEFAULT_MAX_BODY = 1024 * 1024
M.key_header = { name = "Idempotency-Key", schema = { type = "string", minLength = 1, maxLength = MAX_KEY } }

--- The Idempotency-Key of a request, checked; nil when it has none.
function M.idempotency_key(req)
  local key = access.header(req, "idempotency-key")
  if key == nil then return nil end
  if key == "" or #key > MAX_KEY then
    errors.throw("invalid", string.format("Idempotency-Key must have 1 to %d bytes, got %d", MAX_KEY, #key))
  end
  return key
end

local function check_size(req)
  local limit = tonumber(runtime.config("http.max_body")) or DEFAULT_MAX_BODY
  if #req.body > limit then
    errors.throw("limit", string.format("the body is %d bytes, more than the %d that http.max_body allows", #req.body, limit))
  end
end

--- Members that say how a run is started, beside `id`.
M.option_schema = {
  group = { type = "string", minLength = 1, maxLength = 255 }, delay = { description = "Seconds, or a duration like 10m" },
  at = { description = "RFC 3339, or seconds since 1970" }, priority = { type = "integer", minimum = -100, maximum = 100 },
  tags = { type = "array", items = { type = "string", minLength = 1, maxLength = 64 } },
}

-- Seconds since 1970 of `at`.
local function moment(at)
  if type(at) ~= "string" then return at end
  local us = runtime.parse_time(at)
  if not us then errors.throw("invalid", string.format("at must be a time like 2026-03-29T03:00:00Z, or seconds since 1970, got %q", at:sub(1, 60))) end
  return us / 1e6
end

--- Options of a start, as workflow.create takes them, from a JSON object; other members are left alone.
function M.trigger_options(given)
  local opts = {}
  for name in pairs(options.options) do opts[name] = given[name] end
  opts.at = moment(opts.at)
  return options.check("the request", validate.options("the request", opts, options.options))
end

local function trigger(req, res)
  check_size(req)
  local body = surface.read_json(req, { input = true })
  local name = type(body) == "table" and body.name
  if type(name) ~= "string" or name == "" then errors.throw("invalid", "name must be a non-empty string") end
  local input = body.input ~= nil and tostring(body.input) or nil
  local opts = M.trigger_options(type(body.options) == "table" and body.options or {})
  opts.key = M.idempotency_key(req)
  local id, err = workflow.create(name, input, opts)
  if id then return res:json { executionId = id } end
  if err.code == "not_found" then err = errors.new("not_found", "workflow not found: " .. name) end
  error(err, 0)
end

local function health(_, res) res:json { status = "ok", sidecar = "flowwatch" } end

local trigger_doc = {
  summary = "Start a workflow", tag = "sidecar", headers = { M.key_header },
  description = "Unknown fields are ignored. With Idempotency-Key a repeated request gets the same answer for 24 hours.",
  body = {
    type = "object", required = { "name" },
    properties = {
      name = { type = "string", minLength = 1 }, input = { description = "Any JSON" },
      options = { type = "object", description = "id, group, delay, at, priority, tags" },
    },
  },
  responses = {
    ["200"] = { "The execution is stored", { type = "object", properties = { executionId = { type = "string", format = "uuid" } } } },
    ["400"] = { "What is wrong", "sidecar" }, ["401"] = { "No token, or a wrong one", "sidecar" },
    ["403"] = { "A foreign Host or Origin", "sidecar" }, ["404"] = { "No such workflow", "sidecar" },
    ["413"] = { "Too large", "sidecar" }, ["415"] = { "Not JSON", "sidecar" },
    ["422"] = { "The Idempotency-Key was used for another body", "sidecar" },
    ["429"] = { "Too much load; see Retry-After", "sidecar" }, ["503"] = { "The database is away; see Retry-After", "sidecar" },
  },
}

local health_doc = {
  summary = "Whether the sidecar answers", tag = "sidecar",
  responses = { ["200"] = { "It does", {
    type = "object", properties = { status = { type = "string" }, sidecar = { type = "string" } },
  } } },
}

M.endpoints = {
  {
    method = "POST", pattern = "/api/trigger", access = "key", scope = "trigger", shape = "flowwatch", handler = trigger, doc = trigger_doc,
    opts = { body = READ_BYTES },
  },
  { method = "GET", pattern = "/api/health", access = "status", scope = "any", shape = "flowwatch", handler = health, doc = health_doc },
}

return M
