-- SPDX-License-Identifier: MIT

--- Steps that a service in any language owns: ctx:http, and `http` entries of a list.
--
--   { name = "ship", http = { url = mw.env.APP_SHIP_URL .. "/ship", secret = mw.env.APP_SHIP_SECRET }, retries = 5, callback_timeout = "2h" }
--
-- An attempt POSTs {execution, workflow, step, attempt, input, results, callback} as JSON, with Idempotency-Key (the same for every attempt),
-- traceparent and, when there is a `secret`, Moonwatch-Signature: t=SECONDS,v1=HEX, the HMAC-SHA256 of "SECONDS.BODY". What is answered:
--   2xx  with JSON, or nothing: the step's result
--   202  the service has taken it over, and POSTs {"result": …} or {"error": {code, message, retryable}} to `callback` later; the run waits
--        without taking memory, and when nothing comes within `callback_timeout` (1 day) the attempt has failed with "timeout"
--   408, 425, 429, 5xx: the attempt failed; Retry-After is kept to. Any other status fails the step for good.

local callbacks = require "mw.workflow.callbacks"
local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local json = require "mw.core.json"
local redact = require "mw.workflow.redact"
local runtime = require "mw._runtime"
local validate = require "mw.validate"

local M = {}

M.DEFAULT_CALLBACK_S = 86400
--- What an attempt returns whose outcome comes later.
M.ACCEPTED = {}

--- Of `http = {…}`.
M.options = { url = "string|function", method = "string", headers = "table|function", secret = "string" }

local methods = { POST = true, PUT = true, PATCH = true, DELETE = true, GET = true }

--- Raises unless it is a request that can be made.
function M.check(what, request)
  validate.options(what .. ": http", request, M.options)
  if request.url == nil then errors.throw("invalid", what .. ": http needs a url") end
  if request.method and not methods[request.method:upper()] then
    errors.throw("invalid", string.format("%s: http.method is POST, PUT, PATCH, DELETE or GET, got %q", what, request.method))
  end
  return request
end

local function given(ctx, value)
  if type(value) == "function" then return value(ctx) end
  return value
end

-- Of the run for all its steps; the span is this attempt's.
local function traceparent(ctx)
  local span = crypto.digest("sha256", ctx.step_key .. "#" .. ctx.attempt):sub(1, 16)
  return string.format("00-%s-%s-01", ctx.id:gsub("-", ""), span)
end

local function signature(secret, body)
  local now = string.format("%d", math.floor(runtime.now_us() / 1e6))
  return string.format("t=%s,v1=%s", now, crypto.hmac("sha256", secret, now .. "." .. body))
end

local function callback_of(ctx)
  local base = runtime.config("public_url") or ""
  return base:gsub("/+$", "") .. callbacks.path(ctx.id, ctx.step, ctx.attempt)
end

-- As it was given, byte for byte, unless something in it is redacted.
local function input_of(text)
  if redact.has_sealed(text) then return redact.open(json.decode(text, { null = json.null })) end
  return json.box(text)
end

local function body_of(ctx, input_text)
  local text, err = json.encode({
    execution = ctx.id, workflow = ctx.workflow, step = ctx.step, attempt = ctx.attempt, input = input_text and input_of(input_text) or nil,
    results = next(ctx.results) and ctx.results or nil, callback = callback_of(ctx),
  }, { sort = true, name = "the request of the step" })
  if not text then errors.throw("invalid", err.message) end
  return text
end

local function headers_of(ctx, request, body)
  local headers = { ["content-type"] = "application/json" }
  for name, value in pairs(given(ctx, request.headers) or {}) do headers[name] = value end
  headers.traceparent = traceparent(ctx)
  headers["idempotency-key"] = ctx.step_key
  if request.secret then headers["moonwatch-signature"] = signature(request.secret, body) end
  return headers
end

-- The answer's JSON as it came.
local function result_of(res)
  if res.body == "" then return nil end
  local box, err = json.raw(res.body)
  if box then return box end
  errors.raise(errors.new("invalid_result", "the service answered what is no JSON: " .. err.message, { final = true }))
end

--- The function of such a step: one attempt. Gives its result, or M.ACCEPTED.
function M.attempt(request, input_text)
  return function(ctx)
    local method = (request.method or "POST"):upper()
    local body = body_of(ctx, input_text)
    local res = require("mw.fetch").fetch(given(ctx, request.url), {
      method = method, body = method ~= "GET" and body or nil, headers = headers_of(ctx, request, body),
      timeout = ctx.deadline and math.max(0.001, ctx.deadline - runtime.now_us() / 1e6) or nil,
    }):ok()
    if res.status == 202 then return M.ACCEPTED end
    return result_of(res)
  end
end

return M
