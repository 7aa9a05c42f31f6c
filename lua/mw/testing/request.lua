-- SPDX-License-Identifier: MIT

--- Requests of a spec, through the app's real HTTP server and router: app:request and what it gives. Bytes go in and come out of the
--- server as on a connection, so limits, framing, middleware and answers to errors are those of production.

local app = require "mw.testing.app"
local json = require "mw.core.json"

local App = app.App

local M = {}

local any_case = {
  __index = function(headers, name) return type(name) == "string" and rawget(headers, name:lower()) or nil end,
}

---@class mw.testing.Response
---@field status integer
---@field headers table<string, string> any case; several Set-Cookie are a list
---@field body string what has come so far
---@field done boolean whether all of it is there
---@field broken boolean whether the server cut the connection before that
---@field trace_id string
local Response = {}
Response.__index = function(self, key)
  if key == "trace_id" then return self.headers and self.headers["x-trace-id"] end
  return Response[key]
end

--- The body's value; raises when it is not JSON.
---@return any
function Response:json()
  local value, err = json.decode(self.body)
  if err then app.fail("the answer %s is not JSON: %s\n%s", tostring(self.status), err.message, self.body:sub(1, 500)) end
  return value
end

--- The answer itself when its status is 2xx; else fails with its body.
---@return mw.testing.Response
function Response:ok()
  if self.status and self.status >= 200 and self.status < 300 then return self end
  app.fail("%s", tostring(self))
end

--- Cuts the connection, as a client that goes away.
function Response:close()
  self.app.rig:hang_up(self.connection)
  self.app.responses[self] = nil
  self.app:settle()
end

function Response:__tostring()
  return ("%s is answered with %s%s\n%s"):format(self.what, self.status or "nothing", self.broken and ", and cut off" or "", self.body:sub(1, 2000))
end

-- ---- reading answers ----

local function read_headers(text)
  local headers = setmetatable({}, any_case)
  for name, value in text:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
    name = name:lower()
    local before = rawget(headers, name)
    if before == nil then headers[name] = value
    elseif name ~= "set-cookie" then headers[name] = before .. ", " .. value
    elseif type(before) == "table" then before[#before + 1] = value
    else headers[name] = { before, value } end
  end
  return headers
end

local function read_head(res)
  while true do
    local from, to = res.input:find("\r\n\r\n", 1, true)
    if not from then return false end
    local head = res.input:sub(1, from - 1)
    res.input = res.input:sub(to + 1)
    local status = tonumber(head:match("^HTTP/1%.%d (%d%d%d)"))
    if not status then app.fail("the server sent what is no answer: %s", head:sub(1, 200)) end
    if status >= 200 then -- else an interim answer, "100 Continue"
      res.status, res.headers = status, read_headers(head)
      return true
    end
  end
end

-- Takes whole chunks; true after the last.
local function read_chunks(res)
  while true do
    local size, to = res.input:match("^(%x+)[^\r\n]*\r\n()")
    if not size then return false end
    size = tonumber(size, 16)
    if size == 0 then return res.input:find("\r\n\r\n", 1, true) ~= nil end
    if #res.input < to + size + 1 then return false end
    res.body = res.body .. res.input:sub(to, to + size - 1)
    res.input = res.input:sub(to + size + 2)
  end
end

local function read_body(res)
  local length = tonumber(res.headers["content-length"])
  if res.method == "HEAD" or res.status == 204 or res.status == 304 then return true end
  if (res.headers["transfer-encoding"] or ""):find("chunked", 1, true) then return read_chunks(res) end
  res.body, res.input = res.body .. res.input, ""
  return length ~= nil and #res.body >= length or (length == nil and res.ended)
end

local function read(self, res)
  local bytes, ended = self.rig:receive(res.connection)
  res.input, res.ended = res.input .. bytes, ended
  res.done = (res.headers ~= nil or read_head(res)) and read_body(res)
  res.broken = ended and not res.done
  if not res.done and not ended then return end
  self.responses[res] = nil
  self.rig:hang_up(res.connection)
end

-- Called whenever the app has come to rest: what has arrived is taken.
function App:after_turn()
  for res in pairs(self.responses) do read(self, res) end
end

-- ---- writing requests ----

local function encode_form(form)
  local parts = {}
  for name, value in pairs(form) do
    local function escape(text)
      return (tostring(text):gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
    end
    parts[#parts + 1] = escape(name) .. "=" .. escape(value)
  end
  table.sort(parts)
  return table.concat(parts, "&")
end

local function body_of(opts, headers)
  if opts.json ~= nil then
    headers["content-type"] = headers["content-type"] or "application/json"
    local text, err = json.encode(opts.json)
    return text or app.fail("app:request: json: %s", err.message)
  elseif opts.form then
    headers["content-type"] = headers["content-type"] or "application/x-www-form-urlencoded"
    return encode_form(opts.form)
  end
  return opts.body
end

local function chunked(pieces)
  local out = {}
  for i, piece in ipairs(pieces) do out[i] = ("%x\r\n%s\r\n"):format(#piece, piece) end
  return table.concat(out) .. "0\r\n\r\n"
end

local function message_of(method, target, opts)
  local headers, lines = {}, {}
  for name, value in pairs(opts.headers or {}) do headers[name:lower()] = tostring(value) end
  local body = body_of(opts, headers)
  if opts.query then target = target .. (target:find("?", 1, true) and "&" or "?") .. encode_form(opts.query) end
  headers.host = headers.host or "localhost"
  if opts.chunks then
    headers["transfer-encoding"], body = "chunked", chunked(opts.chunks)
  elseif body or method == "POST" or method == "PUT" or method == "PATCH" then
    headers["content-length"] = headers["content-length"] or tostring(#(body or ""))
  end
  for name, value in pairs(headers) do lines[#lines + 1] = name .. ": " .. value end
  table.sort(lines)
  return ("%s %s HTTP/1.1\r\n%s\r\n\r\n%s"):format(method, target, table.concat(lines, "\r\n"), body or "")
end

---@class mw.testing.RequestOpts
---@field json? any the body, with its content type
---@field form? table<string, any> the body, urlencoded
---@field body? string
---@field chunks? string[] the body in pieces, sent chunked
---@field query? table<string, any> added to the target
---@field headers? table<string, string>
---@field ip? string the client's address: 127.0.0.1
---@field listener? string "main" ("app" when `listen_app` is configured), "api", "ops", "control"
---@field wait? boolean false: return as soon as nothing goes on without time moving

local known = {
  json = "any", body = "string", form = "table", query = "table", headers = "table", chunks = "table", ip = "string", listener = "string",
  wait = "boolean",
}

local function default_listener(self)
  local address = self.rig:option "listen_app"
  return address and address ~= '""' and "app" or "main"
end

--- Sends a request and lets time pass until the answer is complete. With `wait = false`: `res.body` grows while the app runs, `res.done`
--- says when it is complete, `res:close()` hangs up.
---@param method string
---@param target string path and query
---@param opts? mw.testing.RequestOpts
---@return mw.testing.Response
function App:request(method, target, opts)
  opts = require("mw.validate").options("app:request", opts, known)
  method = method:upper()
  local connection = self.rig:connect(opts.listener or default_listener(self), opts.ip or "127.0.0.1")
  if not connection then app.fail("app:request: no listener %q, or the address %q is none", opts.listener or "main", opts.ip or "127.0.0.1") end
  local res = setmetatable({
    app = self, connection = connection, method = method, what = method .. " " .. target, input = "", body = "", done = false, broken = false,
  }, Response)
  self.responses[res] = true
  self.rig:send(connection, message_of(method, target, opts))
  if opts.wait == false then
    self:settle()
    return res
  end
  self:advance_until(function() return res.done or res.broken end)
  if not (res.done or res.broken) then app.fail("%s is not answered: nothing is due any more", res.what) end
  return res
end

return M
