-- SPDX-License-Identifier: MIT

--- How long to wait before the next attempt of a step: exponential, with jitter, so that many runs that failed together do not come
-- back together.
--
--   backoff = { initial = 0.2, factor = 2, max = 60, jitter = 0.5 }     -- the default: about 0.2 s, 0.4 s, 0.8 s … 60 s, each minus up to a half
--   backoff = "1s"                                         -- always about a second
--
-- jitter: which part of a wait is left to chance, 0 to 1.
--
-- An error that carries `retry_after` (a 429 or 503 with Retry-After) is waited for, up to an hour.

local runtime = require "mw._runtime"
local validate = require "mw.validate"
local errors = require "mw.errors"

local M = {}

local MAX_RETRY_AFTER = 3600

M.default = { initial = 0.2, factor = 2, max = 60, jitter = 0.5 }

local known = { initial = "duration", factor = "number", max = "duration", jitter = "number" }

--- Checks what was written; fills in the rest.
function M.parse(what, value)
  if value == nil then return M.default end
  if type(value) ~= "table" then
    local seconds = validate.duration(what .. ": backoff", value, true)
    return { initial = seconds, factor = 1, max = seconds, jitter = M.default.jitter }
  end
  validate.options(what .. ": backoff", value, known)
  local initial = value.initial and validate.duration(what .. ": backoff.initial", value.initial, true) or M.default.initial
  local max = value.max and validate.duration(what .. ": backoff.max", value.max, true) or math.max(M.default.max, initial)
  local factor = value.factor or M.default.factor
  if factor < 1 then errors.throw("invalid", what .. ": backoff.factor must be at least 1") end
  if max < initial then errors.throw("invalid", what .. ": backoff.max is smaller than backoff.initial") end
  local jitter = value.jitter or M.default.jitter
  if jitter < 0 or jitter > 1 then errors.throw("invalid", what .. ": backoff.jitter must be between 0 and 1") end
  return { initial = initial, factor = factor, max = max, jitter = jitter }
end

--- Seconds to wait after the n-th failure.
function M.delay(conf, failures, err)
  local seconds = math.min(conf.max, conf.initial * conf.factor ^ math.min(failures - 1, 64))
  seconds = seconds * (1 - conf.jitter * (1 - runtime.random()))
  local after = type(err) == "table" and tonumber(err.retry_after)
  if after and after > seconds then seconds = math.min(after, MAX_RETRY_AFTER) end
  return seconds
end

return M
