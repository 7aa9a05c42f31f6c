-- SPDX-License-Identifier: MIT

--- mw.core.json by lua-cjson, for runs of the Lua specs without the binary.

local cjson = require("cjson").new()

local Raw, Array = {}, {}
local M = { null = cjson.null }

function M.array(t) return setmetatable(t or {}, Array) end
Raw.__tostring = function(box) return box.text end
function M.box(text) return setmetatable({ text = text }, Raw) end
M.raw = M.box

local encode

local function encode_object(value)
  local keys, items = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do items[i] = cjson.encode(key) .. ":" .. encode(value[key]) end
  return "{" .. table.concat(items, ",") .. "}"
end

function encode(value)
  local kind = type(value)
  if kind == "function" then error("cannot encode a function") end
  if kind == "number" and value % 1 == 0 then return string.format("%d", value) end
  if kind ~= "table" then return cjson.encode(value) end
  if getmetatable(value) == Raw then return value.text end
  if #value == 0 and getmetatable(value) ~= Array then return encode_object(value) end
  local items = {}
  for i = 1, #value do items[i] = encode(value[i]) end
  return "[" .. table.concat(items, ",") .. "]"
end

function M.encode(value)
  local ok, text = pcall(encode, value)
  if ok then return text end
  return nil, require("mw.errors").new("encode", tostring(text))
end

local function scrub(value)
  if type(value) ~= "table" or getmetatable(value) == Raw then return value end
  for key, member in pairs(value) do
    if member == cjson.null and type(key) == "string" then value[key] = nil else scrub(member) end
  end
  return value
end

function M.decode(text, opts)
  local ok, value = pcall(cjson.decode, text)
  if not ok then return nil, require("mw.errors").new("json", "the JSON is not valid: " .. tostring(value)) end
  for key in pairs(type(value) == "table" and opts and opts.raw or {}) do
    if value[key] ~= nil then value[key] = M.raw(value[key] == cjson.null and "null" or encode(value[key])) end
  end
  return scrub(value)
end

return M
