-- SPDX-License-Identifier: MIT

--- The request as a handler sees it. Fields are made when they are first read and kept then.
--
--   req.method  req.path (decoded, without the query)  req.params.id  req.query.page  req.headers["content-type"]
--   req.body    the whole body as a string        req.trace_id   32 hex digits
--   req.ip      the client's address ("unix" for a Unix socket)     req.scheme  "http" or "https"     req.host  "shop.example:8443", as asked for
--   req.peer    who is at the other end: differs from req.ip behind a proxy of http.trusted_proxies, which names client, scheme and host.
--               req.via is "proxy" then, "unknown" when that proxy named no client that can be read (req.ip is the proxy's), else nil
--   req.query_all.tag   every value of a doubled name, as a list (req.query has the last)
--   req.cookies.session
--   req:json()          the body as a value; raises what answers 400 (bad JSON) or 415 (another content type)
--   req:form()          a form's fields by name, and its files: local fields, files = req:form(); raises 400, 413 or 415
--                       files.photo is {name, filename, raw_filename, type, body}; files[1] … files[#files] are all of them in order
--   req:form_all()      the same fields, but each name has the list of its values; then the files
--   req:parts()         iterator over the parts of a multipart form, for large files: see lua/mw/http/multipart.lua
--   req:chunks()        iterator over the body, for routes declared with {stream = true}; the rest arrives while it is read
--
-- A body larger than the route takes was answered with 413 before the handler started (for a streaming route: ends the chunks).
-- Header names are read in any case: req.headers["X-Id"] is req.headers["x-id"]. Fields of your own may be added: req.user = …
-- After the handler has returned and no task of it runs, req is over and reading a field that was not read before raises.

local core = require "mw.core.http"
local errors = require "mw.errors"
local multipart = require "mw.http.multipart"

---@class mw.Request
---@field method string
---@field path string
---@field params table<string, string>
---@field query table<string, string>
---@field query_all table<string, string[]>
---@field headers table<string, string>
---@field cookies table<string, string>
---@field body string
---@field ip string
---@field peer string
---@field via? "proxy"|"unknown"
---@field scheme string
---@field host string
---@field trace_id string
---@field target string path and query as they were sent
local methods = {}

local any_case = {
  __index = function(headers, name)
    if type(name) ~= "string" then return nil end
    local lower = name:lower()
    return lower ~= name and rawget(headers, lower) or nil
  end,
  __metatable = false,
}

-- What is wrong with the request is the client's to mend: it answers with `status` when nobody catches it.
local function refuse(status, code, message)
  errors.raise(errors.new(code, message, { status = status }))
end

local function pairs_of(fn)
  return function(box)
    local values, err = fn(box)
    if not values then refuse(400, err.code, err.message) end
    return values
  end
end

local function whole_body(box)
  if core.streams(box) then
    errors.throw("invalid", "this route is declared with stream = true: read its body with req:chunks() or req:parts()")
  end
  return core.body(box)
end

local getters = {
  method = core.method,
  path = core.path,
  target = core.target,
  params = core.params,
  query = pairs_of(core.query),
  query_all = pairs_of(core.query_all),
  headers = function(box) return setmetatable(core.headers(box), any_case) end,
  cookies = core.cookies,
  body = whole_body,
  ip = core.ip,
  peer = core.peer,
  via = core.via,
  scheme = core.scheme,
  host = core.host,
  trace_id = core.trace_id,
}

-- "application/json; charset=utf-8" -> "application/json"
local function content_type(box)
  local value = core.request_header(box, "content-type")
  if value == "application/json" then return value end
  return value and value:match("^%s*([^;%s]*)"):lower()
end

--- The body as a value; raises what answers 400 (bad JSON) or 415 (another content type).
---@return any
function methods:json()
  local box = self[1]
  local kind = content_type(box)
  if kind and kind ~= "application/json" and kind:sub(-5) ~= "+json" then
    refuse(415, "content_type", ("the content type is %s; send application/json"):format(kind))
  end
  if whole_body(box) == "" then refuse(400, "json", "the body is empty; send JSON") end
  local value, err = core.json_body(box)
  if err then refuse(400, err.code, "the body is not valid JSON: " .. err.message) end
  return value
end

local function urlencoded(box, all)
  whole_body(box)
  local values, err = (all and core.form_all or core.form)(box)
  if not values then refuse(400, err.code, err.message) end
  return values, {}
end

-- The whole body as one piece.
local function once(box)
  local body = core.body(box)
  return function()
    local piece = body
    body = nil
    return piece
  end
end

local function form(box, all)
  local kind = content_type(box)
  if kind == "application/x-www-form-urlencoded" then return urlencoded(box, all) end
  if kind ~= "multipart/form-data" then
    refuse(415, "content_type", ("the content type is %s; send multipart/form-data or application/x-www-form-urlencoded"):format(kind or "missing"))
  end
  whole_body(box)
  local fields, files, lists = multipart.read(core.request_header(box, "content-type"), once(box))
  return all and lists or fields, files
end

--- A form's fields by name, and its files by name and, in order, by number. Raises 400, 413 or 415.
---@return table<string, string> fields
---@return table<string|integer, mw.FormFile> files
function methods:form() return form(self[1], false) end
--- The same, with a list of values for each field.
---@return table<string, string[]> fields
---@return table<string|integer, mw.FormFile> files
function methods:form_all() return form(self[1], true) end

local function next_chunk(box)
  local piece, err = core.read(box)
  if err then errors.raise(err) end
  return piece
end

--- Iterates over the body; with { stream = true } as it comes.
---@return fun(): string?
function methods:chunks()
  local box = self[1]
  if core.streams(box) then return next_chunk, box end
  local given = false
  return function()
    if given then return nil end
    given = true
    local body = self.body
    return body ~= "" and body or nil
  end
end

--- Iterates over the parts of a multipart form.
---@return fun(): mw.Part?
function methods:parts()
  local box = self[1]
  local kind = content_type(box)
  if kind ~= "multipart/form-data" then
    refuse(415, "content_type", ("the content type is %s; send multipart/form-data"):format(kind or "missing"))
  end
  local pull = core.streams(box) and function() return next_chunk(box) end or once(box)
  return multipart.parts(core.request_header(box, "content-type"), pull)
end

local M = {}

M.metatable = {
  __index = function(self, key)
    local method = methods[key]
    if method then return method end
    local get = getters[key]
    if not get then return nil end
    local value = get(self[1])
    rawset(self, key, value)
    return value
  end,
  __metatable = "mw.request",
}

return M
