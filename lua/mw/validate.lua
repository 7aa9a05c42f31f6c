-- SPDX-License-Identifier: MIT

--- Checks what a plugin hands to the public API. Mistakes raise an error object with code "invalid" that names the argument, what was
--- expected and what came; an unknown option names the nearest known one.
--
--   validate.arg("mw.sleep", 1, "duration", value, "string|number")
--   local opts = validate.options("mw.fetch", opts, { method = "string", timeout = "duration", json = "any" })

local errors = require "mw.errors"
local runtime = require "mw.core.runtime"

local M = {}

local function describe(value)
  local kind = type(value)
  if kind == "string" then return string.format("the string %q", #value > 40 and value:sub(1, 40) .. "…" or value) end
  if kind == "number" or kind == "boolean" then return tostring(value) end
  if kind == "nil" then return "nothing" end
  return "a " .. kind
end

local function matches(value, expected)
  local kind = type(value)
  if kind == expected then return true end
  for name in expected:gmatch("[^|]+") do
    if name == kind or name == "any" then return true end
    if name == "integer" and kind == "number" and value % 1 == 0 then return true end
    if name == "duration" and (kind == "number" or kind == "string") then return true end
    if name == "callable" and kind == "function" then return true end
  end
  return false
end

--- Raises unless `value` has one of the types in `expected` ("string|number", "integer", "duration", "any").
function M.arg(what, index, name, value, expected)
  if matches(value, expected) then return value end
  errors.throw("invalid", string.format("%s: argument %d (%s) must be %s, got %s", what, index, name,
    expected:gsub("|", " or "), describe(value)))
end

--- The nearest of `names` (a set) to `name`, or nil when none is near.
function M.nearest(name, names)
  local best, distance = nil, math.max(2, math.floor(#name / 3)) + 1
  for candidate in pairs(names) do
    local d = runtime.distance(name, candidate)
    if d < distance or (d == distance and best and candidate < best) then best, distance = candidate, d end
  end
  return best
end

--- Raises when `value` is not a table, has a key that `known` has not, or a value of another type than `known` says.
function M.options(what, value, known)
  if value == nil then return {} end
  if type(value) ~= "table" then
    errors.throw("invalid", string.format("%s: the options must be a table, got %s", what, describe(value)))
  end
  for key, option in pairs(value) do
    local expected = known[key]
    if not expected then
      local near = type(key) == "string" and M.nearest(key, known)
      errors.throw("invalid", string.format("%s: unknown option %s%s", what, type(key) == "string" and string.format("%q", key) or describe(key),
        near and string.format("; did you mean %q?", near) or ""))
    end
    if not matches(option, expected) then
      errors.throw("invalid", string.format("%s: option %q must be %s, got %s", what, key, expected:gsub("|", " or "),
        describe(option)))
    end
  end
  return value
end

--- Seconds of a duration argument ("250ms", 10); raises with the grammar. With `is_timeout` a bare number over 3600 is refused, because
--- whoever ports milliseconds would wait for hours.
function M.duration(what, value, is_timeout)
  if is_timeout and type(value) == "number" and value > 3600 then
    errors.throw("invalid", string.format("%s: %s seconds are %.1f hours; write \"%gms\" for milliseconds or \"%gs\" for seconds",
      what, value, value / 3600, value, value))
  end
  if type(value) ~= "number" and type(value) ~= "string" then
    errors.throw("invalid", string.format("%s: the duration must be a number of seconds or a string like \"10s\", got %s",
      what, describe(value)))
  end
  local seconds, err = runtime.duration(value)
  if not seconds then errors.throw("invalid", what .. ": " .. err.message) end
  return seconds
end

M.describe = describe

return M
