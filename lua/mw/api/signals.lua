-- SPDX-License-Identifier: MIT

--- Signals over HTTP: POST /api/v1/executions/{id}/signals/{name}, whose body is the signal's data, any JSON, or empty; and POST
--- /api/v1/executions/{id}/steps/{name}/complete, by which a service ends a step that it took over: {"result": …} or {"error": {…}}. It is let in
--- by the token of the address that it was given (lua/mw/workflow/callbacks.lua), or by a key.

local callbacks = require "mw.workflow.callbacks"
local change = require "mw.runs.change"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local json = require "mw.core.json"
local sidecar = require "mw.api.sidecar"
local signals = require "mw.workflow.signals"
local store = require "mw.core.store"
local surface = require "mw.api.surface"

local M = {}

-- Data as it was written; nil when the body is empty.
local function read_data(req)
  local text = req.body
  if text == nil or text == "" then return nil end
  surface.read_json(req)
  return text
end

local function note(kind, id, who, detail)
  errors.check(store.add_change("default", kind, "execution " .. id, who.actor, json.encode(detail, { sort = true })))
end

local function send(req, res, _, _, who)
  local id, name, key = req.params.id:lower(), req.params.name, sidecar.idempotency_key(req)
  errors.check(signals.send(id, name, read_data(req), { id = key, actor = who.actor }))
  note("execution.signalled", id, who, { signal = name, id = key })
  res:status(202):json { id = id, signal = name }
end

-- ---- steps of others ----

local function proof(req)
  local token = req.query.token
  if token == nil then return nil end
  if type(token) == "table" then token = token[#token] end
  local id = req.params.id
  local attempt = filter.is_id(id) and callbacks.check(id, req.params.name, token)
  if attempt then return { actor = "callback", attempt = attempt } end
  return nil, errors.new("unauthorized", "the token is not that of this execution and step", { status = 401, hint = "POST to the address that came as `callback`, as it is" })
end

-- Which end this is, when no token says the attempt: the same as long as the journal is the same.
local function place_of(id)
  if not filter.is_id(id) then change.not_found(id) end
  local row = errors.check(store.query("engine", "SELECT max(number) AS number FROM {{schema}}.journal WHERE execution = $1", { { id = id } }))[1]
  return "row " .. tostring(row and row.number or 0)
end

local function complete(req, res, args, _, who)
  local id, step, body = req.params.id:lower(), req.params.name, args.body
  if body.error and body.result ~= nil then errors.throw("invalid", "the body has a result and an error; give one") end
  local key = who.attempt and "attempt " .. who.attempt or sidecar.idempotency_key(req) or place_of(id)
  local outcome = { result = body.result ~= nil and tostring(body.result) or nil, error = body.error }
  if outcome.error and not outcome.error.code then outcome.error.code = "error" end
  errors.check(signals.complete(id, step, outcome, { id = key, actor = who.actor }))
  res:status(202):json { id = id, step = step }
end

-- ---- documents ----

local send_doc = {
  summary = "Send a signal to an execution", tag = "executions", headers = { sidecar.key_header },
  description = "An execution that waits for the name goes on; otherwise the signal is there when it comes to wait. With Idempotency-Key the same "
    .. "signal sent to an execution again is not another, until the execution ends.",
  body = { description = "The signal's data: any JSON" }, is_body_free = true,
  responses = {
    ["202"] = { "Stored", { type = "object", properties = { id = { type = "string", format = "uuid" }, signal = { type = "string" } } } },
    ["400"] = { "What is wrong", "problem" }, ["404"] = { "There is no such execution", "problem" },
    ["409"] = { "The execution has ended, or has had 10,000 signals", "problem" }, ["413"] = { "The data is too large", "problem" },
    ["503"] = { "The database is away; see Retry-After", "problem" },
  },
}

local complete_doc = {
  summary = "End a step that a service took over", tag = "executions", raw = { result = true }, headers = { sidecar.key_header },
  description = "For the service behind an http step that answered 202. The address it got as `callback` has a token and needs no key. Sent again, it "
    .. "is the same end.",
  query = { { name = "token", schema = { type = "string" }, description = "Of the address that the service was given" } },
  body = {
    type = "object",
    properties = {
      result = { description = "The step's result: any JSON" },
      error = {
        type = "object", required = { "message" }, description = "The attempt failed",
        properties = {
          code = { type = "string", minLength = 1, maxLength = 100 }, message = { type = "string", minLength = 1, maxLength = 10000 },
          retryable = { type = "boolean", description = "false: it is not tried again" },
        },
      },
    },
  },
  responses = {
    ["202"] = { "Stored", { type = "object", properties = { id = { type = "string", format = "uuid" }, step = { type = "string" } } } },
    ["400"] = { "What is wrong", "problem" }, ["401"] = { "The token is another's", "problem" }, ["404"] = { "There is no such execution", "problem" },
    ["409"] = { "The execution has ended", "problem" }, ["413"] = { "The result is too large", "problem" },
    ["503"] = { "The database is away; see Retry-After", "problem" },
  },
}

M.endpoints = {
  {
    method = "POST", pattern = "/api/v1/executions/:id/steps/:name/complete", access = "key", scope = "signal", proof = proof, handler = complete,
    doc = complete_doc, opts = { secret_query = true },
  },
  { method = "POST", pattern = "/api/v1/executions/:id/signals/:name", access = "key", scope = "signal", handler = send, doc = send_doc },
}

return M
