-- SPDX-License-Identifier: MIT

--- Signals over HTTP: POST /api/v1/executions/{id}/signals/{name}. The body is the signal's data, any JSON, or empty.

local errors = require "mw.errors"
local sidecar = require "mw.api.sidecar"
local signals = require "mw.workflow.signals"
local store = require "mw.core.store"
local surface = require "mw.api.surface"
local json = require "mw.core.json"

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

M.endpoints = {
  { method = "POST", pattern = "/api/v1/executions/:id/signals/:name", access = "key", scope = "signal", handler = send, doc = send_doc },
}

return M
