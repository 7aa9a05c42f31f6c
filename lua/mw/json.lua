-- SPDX-License-Identifier: MIT

--- JSON (RFC 8259) to Lua values and back.
--
--   local order = mw.json.decode('{"id":7,"note":null,"tags":[]}')   -- order.note is nil, order.tags is a marked array
--   mw.json.encode({ id = 7, tags = mw.array {} })                    -- {"id":7,"tags":[]} in some order of the names
--   mw.json.encode(order, { sort = true })                            -- names in bytewise order: the same text every time
--
-- Decoding: an object's null member is absent; in arrays null is `mw.null`, and with { null = mw.null } everywhere. Arrays are
-- marked, so an empty one stays an array. Integers beyond 2^53 arrive as strings, because a Lua number would change them.
-- Of members with the same name the last wins. Texts over 64 MiB or deeper than 100 levels are refused; errors have the code "json"
-- (or "limit", "utf8") and say line, column and what was expected.
--
-- Encoding: a table with items 1…n is an array, `mw.array{}` is an empty one, a bare {} is an object. NaN, infinities, functions, cycles,
-- holes, mixed tables, keys that are no strings and strings that are no UTF-8 are refused with the code "encode" and the path:
-- "input.items[3].price is NaN". Metamethods are not called.
--
-- Raw JSON: `mw.json.raw(text)` is a value whose bytes are written as they stand when it is encoded; tostring gives them back.
-- `mw.json.decode(text, { raw = { input = true } })` gives the member "input" of the outermost object as such a value, whatever it is.

local core = require "mw.core.json"
local errors = require "mw.errors"
local validate = require "mw.validate"

local M = {}

--- JSON's null where Lua's nil cannot stand: in arrays, and in tables to be encoded.
M.null = core.null

---@class mw.Json
---@field null userdata

---@class mw.RawJson

local decode_options = { null = "any", raw = "table" }
local encode_options = { sort = "boolean", name = "string" }

--- The value of a JSON text.
---@param text string
---@param opts? { null?: any, raw?: table<string, true> } `null = mw.null` shows the nulls of objects
---@return any value a lone null is nil
function M.decode(text, opts)
  validate.arg("mw.json.decode", 1, "text", text, "string")
  if opts ~= nil then validate.options("mw.json.decode", opts, decode_options) end
  local value, err = core.decode(text, opts)
  if err then errors.raise(err) end
  return value
end

--- The JSON text of a value.
---@param value any
---@param opts? { sort?: boolean, name?: string } `name` is what errors call the value
---@return string text
function M.encode(value, opts)
  if opts ~= nil then validate.options("mw.json.encode", opts, encode_options) end
  local text, err = core.encode(value, opts)
  if not text then errors.raise(err) end
  return text
end

--- Marks a table as an array, so that it encodes as [] when it is empty. Without an argument: a new one.
---@generic T: table
---@param list? T
---@return T
function M.array(list)
  if list ~= nil then validate.arg("mw.array", 1, "list", list, "table") end
  return core.array(list)
end

--- Whether a table is marked as an array (decoded from one, or made by `mw.array`).
---@param value any
---@return boolean
function M.is_array(value) return core.is_array(value) end

--- Checks a JSON text and boxes it: encoding writes its bytes unchanged.
---@param text string
---@return mw.RawJson
function M.raw(text)
  validate.arg("mw.json.raw", 1, "text", text, "string")
  local box, err = core.raw(text)
  if not box then errors.raise(err) end
  return box
end

return M
