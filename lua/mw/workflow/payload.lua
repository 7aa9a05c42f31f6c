-- SPDX-License-Identifier: MIT

--- Inputs, results and outputs as JSON text. What came as JSON (a raw box of mw.core.json) keeps its bytes; a Lua value is encoded once,
-- and what cannot be JSON, or is larger than `workflow.max_payload`, is refused with the place of the culprit.
--
--   local text, err = payload.encode(value, "the result of step \"charge\"")     -- nil value: nil, nil
--   local value = payload.decode(text)

local errors = require "mw.errors"
local json = require "mw.core.json"
local redact = require "mw.workflow.redact"
local runtime = require "mw._runtime"

local M = {}

local DEFAULT_MAX_BYTES = 1048576

local encode, decode, type = json.encode, json.decode, type
local max_bytes

local function limit()
  max_bytes = tonumber(runtime.config("workflow.max_payload")) or DEFAULT_MAX_BYTES
  return max_bytes
end

--- How many bytes of JSON `workflow.max_payload` allows.
function M.limit() return max_bytes or limit() end

local function too_large(what, size)
  return nil, errors.new("limit", string.format(
    "%s is %d bytes of JSON, more than the %d that workflow.max_payload allows; store it elsewhere and pass a reference",
    what, size, max_bytes))
end

local names = { name = "value" } -- kept, so that the hot path allocates no options

--- JSON text of a value, or nil for nil. Returns nil, err when it cannot be stored.
function M.encode(value, what)
  if value == nil then return nil end
  names.name = what
  local text, err = encode(value, names)
  if not text then return nil, errors.new("invalid_result", err.message .. ", so it cannot be stored") end
  if #text > (max_bytes or limit()) then return too_large(what, #text) end
  return text
end

--- True when JSON text is small enough to be stored, or absent; otherwise nil, err.
function M.check(text, what)
  if text and #text > (max_bytes or limit()) then return too_large(what, #text) end
  return true
end

--- The Lua value of JSON text, with what is redacted in it as it was; nil for nil.
function M.decode(text)
  if text == nil then return nil end
  local value = decode(text)
  if type(value) == "table" and redact.has_sealed(text) then return redact.open(value) end
  return value
end

--- What a later step sees of a result: the same as after a resume, so never the table that the step still holds.
function M.copy(value, text)
  local kind = type(value)
  if kind == "string" or kind == "number" or kind == "boolean" or text == nil then return value end
  return M.decode(text)
end

return M
