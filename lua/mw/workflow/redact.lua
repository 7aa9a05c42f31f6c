-- SPDX-License-Identifier: MIT

--- `redact = { "input.card", "results.charge.token" }` of a workflow: these values are stored encrypted (AES-256-GCM), given to the workflow's own code
-- as they were, and shown as "•••" everywhere else.
--
--   local paths = redact.compile(what, { "input.card", "results.charge.*.token" })     -- at load; * is every member or item
--   redact.prepare()                                                   -- in a task, before the others: reads the key
--   text = redact.seal(paths, "results", "charge", text)                -- JSON in, JSON out
--   value = redact.open(value)                                          -- a decoded value, as it was
--   text = redact.mask(text)                                            -- for people
--
-- A sealed value is {"$sealed": "…"}. The key is the server's own (lua/mw/access/server_key.lua), which the database keeps: the values are safe from who
-- sees journals, answers, exports and logs of statements, and not from who has the whole database. A run that was imported into another server cannot open
-- its values: the step or body that asks for one fails.

local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local json = require "mw.core.json"

local M = {}

local SEALED, DOTS = "$sealed", "•••"
local MARK = '"' .. SEALED .. '"'
local NULLS = { null = json.null }
local roots = { input = true, results = true, output = true }
local key

local function throw(...) errors.throw("invalid", string.format(...)) end

local function parts_of(what, path)
  if type(path) ~= "string" then throw("%s: redact is a list of paths like \"input.card\"", what) end
  local parts = {}
  for part in (path .. "."):gmatch("([^.]*)%.") do
    if part == "" then throw("%s: redact: the path %q has an empty part", what, path) end
    parts[#parts + 1] = part
  end
  if not roots[parts[1]] then throw("%s: redact: the path %q begins with input, results or output", what, path) end
  if parts[1] == "results" and #parts < 2 then throw("%s: redact: the path %q names no step", what, path) end
  return parts
end

--- The paths by where they hold: "input", "output", or "results" and a step.
function M.compile(what, paths)
  if paths == nil then return nil end
  local compiled = { input = {}, output = {}, results = {} }
  for name, path in pairs(paths) do
    if type(name) ~= "number" then throw("%s: redact is a list of paths like \"input.card\"", what) end
    local parts = parts_of(what, path)
    local root = table.remove(parts, 1)
    local list = compiled[root]
    if root == "results" then
      local step = table.remove(parts, 1)
      list[step] = list[step] or {}
      list = list[step]
    end
    list[#list + 1] = parts
  end
  return compiled
end

--- Reads the key; may wait.
function M.prepare()
  if key then return end
  key = crypto.digest("sha256", "redact\n" .. require("mw.access.server_key").get "redact", true)
end

local function seal_value(value)
  if type(value) == "table" and value[SEALED] then return value end -- it comes from another run
  local text = json.encode(value, { sort = true })
  return { [SEALED] = crypto.base64_encode(crypto.seal(key, text)) }
end

-- Replaces what the parts from `at` on lead to; other shapes are left alone.
local function seal_at(value, parts, at)
  if at > #parts then return seal_value(value) end
  if type(value) ~= "table" then return value end
  local part = parts[at]
  if part == "*" then
    for name, member in next, value do value[name] = seal_at(member, parts, at + 1) end
  else
    local name = value[part] ~= nil and part or tonumber(part)
    if name and value[name] ~= nil and value[name] ~= json.null then value[name] = seal_at(value[name], parts, at + 1) end
  end
  return value
end

--- JSON text with what the paths name sealed. `step` only for results.
function M.seal(paths, root, step, text)
  local list = paths[root]
  if root == "results" then list = list[step] end
  if not text or not list or #list == 0 then return text end
  local value = json.decode(text, NULLS)
  for _, parts in ipairs(list) do value = seal_at(value, parts, 1) end
  return json.encode(value, { sort = true })
end

local function open_value(sealed)
  M.prepare()
  local bytes = type(sealed) == "string" and crypto.base64_decode(sealed)
  local text = bytes and crypto.open(key, bytes)
  if not text then errors.throw("redacted", "a redacted value was sealed by another server, whose key is not here") end
  return (json.decode(text))
end

--- Whether JSON text has sealed values.
function M.has_sealed(text) return text:find(MARK, 1, true) ~= nil end

--- The value with what was sealed in it opened.
function M.open(value)
  if type(value) ~= "table" then return value end
  local sealed = value[SEALED]
  if sealed ~= nil then return open_value(sealed) end
  for name, member in next, value do
    if type(member) == "table" then value[name] = M.open(member) end
  end
  return value
end

local function masked(value)
  if type(value) ~= "table" then return value end
  if value[SEALED] ~= nil then return DOTS end
  for name, member in next, value do value[name] = masked(member) end
  return value
end

--- JSON text with dots in place of what is sealed.
function M.mask(text)
  if not M.has_sealed(text) then return text end
  return json.encode(masked(json.decode(text, NULLS)), { sort = true })
end

return M
