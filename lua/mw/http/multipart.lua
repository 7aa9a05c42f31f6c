-- SPDX-License-Identifier: MIT

--- Forms with files (multipart/form-data), read part by part as they come.
--
--   for part in req:parts() do
--     part.name  part.filename (nil for a plain field)  part.raw_filename  part.type
--     part:read([max])                      the rest of its content; more than max (1 MiB, or "5MB") raises `limit`, which answers 413
--     for chunk in part:chunks() do … end   the same piece by piece: memory stays small however large the file is
--   end
--
-- `filename` is what follows the last slash or backslash of what the client sent, which stands in `raw_filename`; it may be empty, and is
-- never "." or "..". It is a stranger's word all the same: two files can have one name, and `type` need not be true.
-- A part must be read before the next one is asked for; what is not read is passed over. The whole may be read once.
-- At most 1,000 parts, 8 KiB of headers each, names up to 1,024 bytes. A form that is malformed or cut off raises `invalid` (400).

local core = require "mw.core.multipart"
local errors = require "mw.errors"
local runtime = require "mw.core.runtime"

local M = {}

local DEFAULT_MAX = 1024 * 1024
local statuses = { invalid = 400, limit = 413 }

---@class mw.Part
---@field name string
---@field filename? string
---@field raw_filename? string
---@field type string
local Part = {}

---@class mw.FormFile
---@field name string
---@field filename string
---@field raw_filename string
---@field type string
---@field body string

local metatable = { __index = Part, __metatable = "mw.part" }

local function refuse(err) errors.raise(errors.new(err.code, err.message, { status = statuses[err.code] })) end

-- The next event; reads on from the request when the piece at hand is used up.
local function step(form)
  while true do
    local event, at, a, b, c, d = core.next(form.parser, form.piece, form.at)
    if not event then refuse(at) end
    form.at = at
    if event ~= "more" then return event, a, b, c, d end
    form.piece, form.at = form.pull(), 1
    if not form.piece then
      form.piece, form.over = "", true
      local ok, err = core.finish(form.parser)
      if not ok then refuse(err) end
      return "over"
    end
  end
end

local function form_of(part, what)
  local form = type(part) == "table" and rawget(part, 1)
  if type(form) ~= "table" then errors.throw("invalid", what .. ": call it with a colon on a part, as in part:read()") end
  if form.part ~= part then errors.throw("invalid", what .. ": the part is over: read it before asking for the next") end
  return form
end

local function next_chunk(part)
  local form = form_of(part, "part:chunks")
  if form.ended then return nil end
  local event, text = step(form)
  if event == "data" then return text end
  form.ended = true
end

--- An iterator over its content.
---@return fun(): string?
function Part:chunks()
  form_of(self, "part:chunks")
  return next_chunk, self
end

local function size_of(max)
  if max == nil then return DEFAULT_MAX end
  local bytes, err = runtime.size(max)
  if not bytes then errors.throw("invalid", "part:read: " .. err.message) end
  return bytes
end

local function read(part, max)
  local chunks, size = {}, 0
  for chunk in next_chunk, part do
    size = size + #chunk
    if size > max then
      errors.throw("limit", string.format("the part %q is larger than %d bytes", part.name, max), { status = 413 })
    end
    chunks[#chunks + 1] = chunk
  end
  return table.concat(chunks)
end

--- Its content, or the rest of it, as a string.
---@param max? integer|string bytes or "5MB", default 1 MiB
---@return string
function Part:read(max)
  form_of(self, "part:read")
  return read(self, size_of(max))
end

local function next_part(form)
  if form.over then return nil end
  if form.part and not form.ended then
    for _ in next_chunk, form.part do end
  end
  local event, name, kind, filename, raw = step(form)
  if event == "part" then
    local part = setmetatable({ form, name = name, type = kind or (filename and "application/octet-stream" or "text/plain"), filename = filename, raw_filename = raw }, metatable)
    form.part, form.ended = part, false
    return part
  end
  while event ~= "over" do event = step(form) end -- what follows the last boundary is nobody's
end

--- An iterator over the parts. `pull()` gives the next piece of the body, nil at its end.
function M.parts(content_type, pull)
  local parser, err = core.new(content_type)
  if not parser then refuse(err) end
  return next_part, { parser = parser, pull = pull, piece = "", at = 1 }
end

--- Reads all of it: fields by name, files by name and, in order, by number; and all values of each field's name as lists.
function M.read(content_type, pull)
  local fields, files, lists = {}, {}, {}
  for part in M.parts(content_type, pull) do
    local body = read(part, math.huge) -- the whole body was held to its limit already
    if part.filename == nil then
      fields[part.name] = body
      lists[part.name] = lists[part.name] or {}
      table.insert(lists[part.name], body)
    elseif part.filename ~= "" or body ~= "" then -- else none was chosen
      local file = { name = part.name, filename = part.filename, raw_filename = part.raw_filename, type = part.type, body = body }
      files[part.name], files[#files + 1] = file, file
    end
  end
  return fields, files, lists
end

return M
