-- SPDX-License-Identifier: MIT

--- The small part of JSON Schema that the API's own documents use: one table both validates requests and is shown in
--- /api/v1/openapi.json.
--
--   local ok, err = schema.check({ type = "object", required = {"name"}, properties = { name = { type = "string" } } }, value, "the body")
--
-- Known: type (object array string integer number boolean; none: anything), properties, required, items, enum, minimum, maximum,
-- minLength, maxLength. Unknown members of an object are refused, with the nearest known name.

local validate = require "mw.validate"

local M = {}

local function describe(value)
  if type(value) ~= "table" then return validate.describe(value) end
  return #value > 0 and "an array" or "an object"
end

local is_type = {
  object = function(v) return type(v) == "table" and #v == 0 end,
  array = function(v) return type(v) == "table" and (#v > 0 or next(v) == nil) end,
  string = function(v) return type(v) == "string" end,
  number = function(v) return type(v) == "number" end,
  integer = function(v) return type(v) == "number" and v % 1 == 0 end,
  boolean = function(v) return type(v) == "boolean" end,
}

local function sorted_names(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return names
end

local function did_you_mean(name, known)
  local near = validate.nearest(name, known)
  return near and string.format("; did you mean %q?", near) or ""
end

local check

local function check_object(schema, value, where)
  for _, name in ipairs(schema.required or {}) do
    if value[name] == nil then return string.format("%s needs %q", where, name) end
  end
  local properties = schema.properties or {}
  for _, name in ipairs(sorted_names(value)) do
    if not properties[name] then return string.format("%s has an unknown field %q%s", where, name, did_you_mean(name, properties)) end
    local problem = check(properties[name], value[name], where .. "." .. name)
    if problem then return problem end
  end
end

local function check_array(schema, value, where)
  for i = 1, schema.items and #value or 0 do
    local problem = check(schema.items, value[i], where .. "[" .. i - 1 .. "]")
    if problem then return problem end
  end
end

local function check_string(schema, value, where)
  if schema.minLength and #value < schema.minLength then
    if schema.minLength == 1 then return where .. " must be a non-empty string" end
    return string.format("%s must have at least %d bytes", where, schema.minLength)
  end
  if schema.maxLength and #value > schema.maxLength then
    return string.format("%s must have at most %d bytes, got %d", where, schema.maxLength, #value)
  end
end

local function check_enum(schema, value, where)
  for _, allowed in ipairs(schema.enum) do
    if allowed == value then return nil end
  end
  return string.format("%s must be one of %s, got %s", where, table.concat(schema.enum, ", "), describe(value))
end

local function check_number(schema, value, where)
  if schema.minimum and value < schema.minimum then return string.format("%s must be at least %s", where, schema.minimum) end
  if schema.maximum and value > schema.maximum then return string.format("%s must be at most %s", where, schema.maximum) end
end

local by_type = {
  object = check_object, array = check_array, string = check_string, number = check_number, integer = check_number,
}

-- Returns what is wrong, or nil.
function check(schema, value, where)
  local kind = schema.type
  if not kind then return nil end
  if not is_type[kind](value) then
    return string.format("%s must be %s %s, got %s", where, kind:find("^[aio]") and "an" or "a", kind, describe(value))
  end
  if schema.enum then return check_enum(schema, value, where) end
  return by_type[kind] and by_type[kind](schema, value, where)
end

--- True, or nil and a sentence that says what is wrong and where.
function M.check(schema, value, where)
  local problem = check(schema, value, where)
  if problem then return nil, problem end
  return true
end

-- A query parameter is text; gives it the type its schema wants.
local function typed(schema, text)
  if schema.type == "integer" or schema.type == "number" then return tonumber(text) or text end
  return text
end

--- Checks the query of a request against `list` of { name, schema }. Returns the typed values, or nil and a sentence.
function M.check_query(list, query)
  local known, values = {}, {}
  for _, parameter in ipairs(list or {}) do known[parameter.name] = parameter.schema end
  for _, name in ipairs(sorted_names(query)) do
    local given = query[name]
    if type(given) == "table" then given = given[#given] end
    if not known[name] then return nil, string.format("unknown query parameter %q%s", name, did_you_mean(name, known)) end
    values[name] = typed(known[name], given)
    local problem = check(known[name], values[name], "the query parameter " .. name)
    if problem then return nil, problem end
  end
  return values
end

return M
