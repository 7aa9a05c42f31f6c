-- SPDX-License-Identifier: MIT

--- How attempts of a step are made: retries, timeout, backoff and what else define.lua lists, checked. Also names.
--
--   local p = policy.of("ctx:step(\"charge\")", { retries = 5 }, base)     -- what is not said is as in `base`

local backoff = require "mw.workflow.backoff"
local errors = require "mw.errors"
local validate = require "mw.validate"

local M = {}

local MAX_RETRIES = 1000
local MAX_NAME = 200

--- What every step has if nothing is said.
M.default = { retries = 3, timeout = 300, backoff = backoff.default }

local function throw(...) errors.throw("invalid", string.format(...)) end

local function check_name(what, name)
  if type(name) ~= "string" or name == "" then throw("%s: the name must be a non-empty string, got %s", what, validate.describe(name)) end
  if #name > MAX_NAME then throw("%s: the name is %d bytes long; at most %d", what, #name, MAX_NAME) end
  if not name:find("^[%w_][%w_%.%-]*$") then
    throw("%s: the name %q may have letters, digits, \"_\", \"-\" and \".\"", what, name)
  end
  return name
end
M.check_name = check_name

local function check_retries(what, retries)
  if retries < 0 or retries > MAX_RETRIES then throw("%s: retries must be between 0 and %d, got %s", what, MAX_RETRIES, tostring(retries)) end
  return retries
end

-- A duration that is more than nothing, or nil.
local function check_span(what, name, value, is_timeout)
  if value == nil then return nil end
  local seconds = validate.duration(what .. ": " .. name, value, is_timeout)
  if seconds <= 0 then throw("%s: %s must be more than nothing", what, name) end
  return seconds
end

local function check_codes(what, codes)
  if codes == nil then return nil end
  local set = {}
  for key, code in pairs(codes) do
    if type(key) ~= "number" or type(code) ~= "string" then throw("%s: non_retryable is a list of error codes, like { \"declined\" }", what) end
    set[code] = true
  end
  return set
end

--- What `opts` says of attempts, each falling back to `base`.
function M.of(what, opts, base)
  if opts.undo_on ~= nil and opts.undo_on ~= "started" and opts.undo_on ~= "finished" then
    throw("%s: undo_on is \"finished\" or \"started\", got %q", what, opts.undo_on)
  end
  return {
    retries = opts.retries ~= nil and check_retries(what, opts.retries) or base.retries,
    timeout = check_span(what, "timeout", opts.timeout, true) or base.timeout,
    backoff = opts.backoff ~= nil and backoff.parse(what, opts.backoff) or base.backoff,
    max_elapsed = check_span(what, "max_elapsed", opts.max_elapsed) or base.max_elapsed,
    non_retryable = check_codes(what, opts.non_retryable) or base.non_retryable,
  }
end

M.check_span = check_span

--- Options of a workflow for all its steps.
M.options = { retries = "integer", timeout = "duration", backoff = "table|duration", max_elapsed = "duration", non_retryable = "table" }

--- `base` and `more` together.
function M.with(base, more)
  local all = {}
  for _, options in ipairs { base, more } do
    for name, kind in pairs(options) do all[name] = kind end
  end
  return all
end

--- Options of a step.
M.step_options = M.with(M.options, { undo = "function", undo_on = "string" })

return M
