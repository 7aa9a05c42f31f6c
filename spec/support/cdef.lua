-- SPDX-License-Identifier: MIT
-- The C declarations that specs need, taken from the headers themselves: what stands between /* ffi-begin */ and
-- /* ffi-end */ of core/**/*.h, dependencies first.
--
--   local cdef = require "support.cdef"
--   local ffi = cdef("base/buf.h", "ops/breaker.h")   -- those headers and what they include
--   cdef.define [[ int mw_something(int x); ]]        -- more, as ffi.cdef, but a repetition does no harm
--
-- LuaJIT keeps declarations for the whole process and refuses a struct it has seen, while each spec file should stand alone.
-- So a declaration that was made before, word for word, is passed over; support/helper.lua puts that into ffi.cdef too.

local ffi = require "ffi"

-- Survives busted's insulation of spec files, which reloads modules.
local registry = debug.getregistry()
local state = registry["moonwatch.cdef"]
if not state then
  state = { headers = {}, seen = {}, cdef = ffi.cdef }
  registry["moonwatch.cdef"] = state
end

local M = {}

-- Splits C text into top-level declarations, without comments.
local function declarations(text)
  text = text:gsub("/%*.-%*/", " "):gsub("//[^\n]*", " ")
  local list, depth, start = {}, 0, 1
  for at, char in text:gmatch("()([{};])") do
    if char == "{" then depth = depth + 1
    elseif char == "}" then depth = depth - 1
    elseif depth == 0 then
      list[#list + 1] = text:sub(start, at)
      start = at + 1
    end
  end
  local rest = text:sub(start)
  if rest:find("%S") then list[#list + 1] = rest end
  return list
end

---Declares C text; declarations seen before are skipped.
---@param text string
function M.define(text, ...)
  if select("#", ...) > 0 then return state.cdef(text, ...) end
  for _, declaration in ipairs(declarations(text)) do
    local key = declaration:gsub("%s+", " "):gsub("^ ", "")
    if not state.seen[key] then
      state.cdef(declaration)
      state.seen[key] = true
    end
  end
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function load_header(name)
  if state.headers[name] then return end
  state.headers[name] = true
  local text = read("core/" .. name)
  for include in text:gmatch('#include "([%w_/%.]+)"') do load_header(include) end
  for slice in text:gmatch("/%* ffi%-begin %*/(.-)/%* ffi%-end %*/") do
    local ok, err = pcall(M.define, slice)
    if not ok then error("core/" .. name .. ": " .. err, 0) end
  end
end

return setmetatable(M, {
  __call = function(_, ...)
    for _, name in ipairs { ... } do load_header(name) end
    return ffi
  end,
})
