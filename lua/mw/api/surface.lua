-- SPDX-License-Identifier: MIT

--- Puts access, validation and the surface's error shape around a built-in handler.
--
-- An endpoint is { method, pattern, access, scope, shape, handler = function(req, res, args, listener, who) … end, opts, doc }. `access` and
-- `scope` say who may use it (lua/mw/api/access.lua, lua/mw/access/scopes.lua), `who` is who does; proof(req), if there is one, is asked first:
-- who, or nil and a refusal, or nil when the request carries no proof of its own; `doc` describes it
-- for /api/v1/openapi.json and checks requests (not those of shape "flowwatch", which ignore unknown fields):
--   summary, description, query = { {name, schema, description} }, body = schema, raw = {input = true} (members kept byte for byte),
--   is_body_free = true (the handler reads the body, which may be absent), is_body_optional = true (absent, it counts as {}),
--   responses = { ["200"] = {description, schema} }
-- args.query and args.body are what was checked. Shapes: "problem" (RFC 9457, the default), "flowwatch" ({"error": "…"}).

local access = require "mw.api.access"
local errors = require "mw.errors"
local json = require "mw.core.json"
local problem = require "mw.http.problem"
local schema = require "mw.api.schema"

local M = {}

local statuses = {
  invalid = 400, invalid_result = 400, json = 400, utf8 = 400, validation = 400, unauthorized = 401, denied = 403, not_found = 404,
  conflict = 409, exists = 409, limit = 413, busy = 429, rate_limited = 429, unavailable = 503, circuit_open = 503, timeout = 503,
  serialization = 503, closed = 503, io = 503,
}
local RETRY_AFTER_S = 1
local SIDECAR_TYPE = "application/json; charset=utf-8" -- what FlowWatch's clients have always got

--- The HTTP status of an error object.
function M.status_of(err) return err.status or statuses[err.code] or 500 end

--- Answers an error in the sidecar's shape; returns the status.
function M.flowwatch_error(_, res, err)
  err = errors.from(err)
  local status = M.status_of(err)
  res:status(status):header("content-type", SIDECAR_TYPE)
  if status == 429 or status == 503 then res:header("retry-after", tostring(math.ceil(err.retry_after or RETRY_AFTER_S))) end
  if status == 401 then
    res:header("www-authenticate", 'Bearer realm="moonwatch"')
    res:json { error = { code = "unauthorized", message = "Unauthorized" } }
  else
    res:json { error = err.hint and err.message .. "; " .. err.hint or err.message }
  end
  return status
end

local function is_json_type(kind)
  return kind == "application/json" or kind ~= nil and kind:find("^application/[%w%.%-]+%+json$") ~= nil
end

--- Refuses a body that does not say that it is JSON in UTF-8 (415).
local function check_json_type(req)
  local kind = access.content_type(req)
  if not is_json_type(kind) then
    errors.throw("invalid", "the body must be JSON with content-type: application/json, got " .. (kind or "no content type"), { status = 415 })
  end
  local value = access.header(req, "content-type")
  local charset = value ~= kind and value:match("[;%s]charset%s*=%s*\"?([%w%-_]+)")
  if charset and not charset:lower():find("^utf%-?8$") then
    errors.throw("invalid", "the body must be UTF-8, got charset " .. charset, { status = 415 })
  end
end

M.check_json_type = check_json_type

--- The JSON body as a Lua value; members in `raw` as boxes. Raises what is wrong with it (400, 413, 415).
function M.read_json(req, raw)
  check_json_type(req)
  local text = req.body
  if text == nil or text == "" then errors.throw("json", "the body is empty; JSON is expected") end
  local value, err = json.decode(text, { raw = raw })
  if err then
    if err.code ~= "limit" then err.message = "the body is not valid JSON: " .. err.message end
    errors.raise(err)
  end
  return value
end

local function check_request(doc, req)
  local query, problem = schema.check_query(doc.query, req.query or {})
  if not query then errors.throw("invalid", problem) end
  if not doc.body or doc.is_body_free then return { query = query } end
  if doc.is_body_optional and (req.body == nil or req.body == "") then return { query = query, body = {} } end
  local body = M.read_json(req, doc.raw)
  local ok
  ok, problem = schema.check(doc.body, body, "the body")
  if not ok then errors.throw("invalid", problem) end
  return { query = query, body = body }
end

local NOTHING = { query = {} }

local function refuse(endpoint, res, refusal)
  if endpoint.on_refusal and endpoint.on_refusal(res, refusal) then return end
  if refusal.status == 401 then res:header("www-authenticate", 'Bearer realm="moonwatch"') end
  error(refusal, 0)
end

--- The route entry (core/bind/bind_http.h) of an endpoint on a listener: "main", "app", "api", "ops" or "control".
function M.route(endpoint, listener)
  local handler, doc, kind, scope, proof = endpoint.handler, endpoint.doc, endpoint.access, endpoint.scope, endpoint.proof
  local is_sidecar = endpoint.shape == "flowwatch"
  local is_strict = not is_sidecar and doc ~= nil
  local function serve(req, res)
    local who, refusal
    if proof then who, refusal = proof(req) end
    if not (who or refusal) then who, refusal = access.check(req, kind, scope, listener) end
    if refusal then return refuse(endpoint, res, refusal) end
    if is_sidecar then res:header("content-type", SIDECAR_TYPE) end
    return handler(req, res, is_strict and check_request(doc, req) or NOTHING, listener, who)
  end
  return {
    methods = { endpoint.method }, pattern = endpoint.pattern, handler = serve, opts = endpoint.opts or {},
    what = endpoint.method .. " " .. endpoint.pattern, where = "built in", plugin = "moonwatch", sort = true,
    on_error = is_sidecar and M.flowwatch_error or problem.answer_own,
  }
end

return M
