-- SPDX-License-Identifier: MIT
-- A small blocking HTTP/1.1 client for specs; it can also send what no well-behaved client would.
--
--   local http = require "support.http"
--   local answer = http.request("127.0.0.1", port, "POST", "/x", { json = { a = 1 }, headers = { ["x-y"] = "z" }, timeout = 5 })
--   answer.status, answer.headers["content-type"], answer.body, answer.json().a
--   local conn = http.connect("127.0.0.1", port); conn:request("GET", "/"); conn:send("GET / HT"); conn:close()

local dkjson = require "dkjson"
local posix = require "support.posix"

local M = {}
local Connection = {}
Connection.__index = Connection

---Wraps a plain {status, headers, body} with its json().
function M.answer(fields)
  fields.json = function()
    local value, _, err = dkjson.decode(fields.body, 1, nil)
    if err then error(("the answer is no JSON (%s): status %s, %s"):format(err, fields.status, fields.body), 2) end
    return value
  end
  return fields
end

---@return table? connection, string? why
function M.try_connect(host, port, timeout)
  local fd, why = posix.connect(host, port)
  if not fd then return nil, why end
  return setmetatable({ fd = fd, rest = "", host = host, port = port, timeout = timeout or 10 }, Connection)
end

function M.connect(host, port, timeout)
  local conn, why = M.try_connect(host, port, timeout)
  return conn or error(("connect to %s:%s: %s"):format(host, tostring(port), why), 2)
end

function Connection:close()
  if self.fd then posix.close(self.fd) end
  self.fd = nil
end

function Connection:send(bytes)
  local ok, why = posix.write(self.fd, bytes, posix.now() + self.timeout)
  if not ok then error("send: " .. why, 2) end
end

-- Reads more; returns false at the end of the stream.
function Connection:fill(give_up)
  local bytes, why = posix.read(self.fd, give_up)
  if not bytes then error({ why = why }, 0) end
  self.rest = self.rest .. bytes
  return bytes ~= ""
end

local function take(self, n)
  local bytes = self.rest:sub(1, n)
  self.rest = self.rest:sub(n + 1)
  return bytes
end

local function read_until(self, mark, give_up)
  while true do
    local at, last = self.rest:find(mark, 1, true)
    if at then
      local text = self.rest:sub(1, at - 1)
      self.rest = self.rest:sub(last + 1)
      return text
    end
    if not self:fill(give_up) then error({ why = self.rest == "" and "closed" or "closed in the middle of an answer" }, 0) end
  end
end

local function read_exactly(self, n, give_up)
  while #self.rest < n do
    if not self:fill(give_up) then error({ why = "closed in the middle of a body" }, 0) end
  end
  return take(self, n)
end

local function read_chunks(self, give_up)
  local parts = {}
  while true do
    local size = tonumber(read_until(self, "\r\n", give_up):match("^%x+"), 16)
    if not size then error({ why = "a bad chunk" }, 0) end
    if size == 0 then
      repeat until read_until(self, "\r\n", give_up) == ""
      return table.concat(parts)
    end
    parts[#parts + 1] = read_exactly(self, size, give_up)
    read_exactly(self, 2, give_up)
  end
end

local function parse_head(head)
  local headers, list = {}, {}
  for name, value in head:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
    name = name:lower()
    list[#list + 1] = { name, value }
    headers[name] = headers[name] and (headers[name] .. ", " .. value) or value
  end
  return tonumber(head:match("^HTTP/1%.%d (%d%d%d)")), headers, list
end

local function read_body(self, method, status, headers, give_up)
  if method == "HEAD" or status == 204 or status == 304 then return "" end
  if (headers["transfer-encoding"] or ""):lower():find("chunked", 1, true) then return read_chunks(self, give_up) end
  if headers["content-length"] then return read_exactly(self, tonumber(headers["content-length"]), give_up) end
  while self:fill(give_up) do end
  return take(self, #self.rest)
end

---Reads one answer; informational ones (1xx) are returned only with opts.interim.
function Connection:read_answer(method, opts)
  opts = opts or {}
  local give_up = posix.now() + (opts.timeout or self.timeout)
  while true do
    local head = read_until(self, "\r\n\r\n", give_up)
    local status, headers, list = parse_head(head)
    if not status then error({ why = "the answer is no HTTP: " .. head }, 0) end
    if status >= 200 or opts.interim then
      local body = status >= 200 and read_body(self, method, status, headers, give_up) or ""
      return M.answer { status = status, headers = headers, header_list = list, body = body }
    end
  end
end

local function write_request(self, method, path, opts)
  local body = opts.body
  local lines = { ("%s %s HTTP/1.1"):format(method, path) }
  local given = {}
  for name, value in pairs(opts.headers or {}) do
    given[name:lower()] = true
    if value ~= false then lines[#lines + 1] = name .. ": " .. value end
  end
  if not given.host then lines[#lines + 1] = "Host: " .. (self.port and (self.host .. ":" .. self.port) or "localhost") end
  if opts.json ~= nil then
    body = next(opts.json) == nil and "{}" or dkjson.encode(opts.json)
    if not given["content-type"] then lines[#lines + 1] = "Content-Type: application/json" end
  end
  if body and not given["content-length"] and not given["transfer-encoding"] then
    lines[#lines + 1] = "Content-Length: " .. #body
  end
  self:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or ""))
end

---Sends a request and reads its answer on this connection. Returns nil and why when the connection fails.
function Connection:try_request(method, path, opts)
  opts = opts or {}
  local ok, answer = pcall(function()
    write_request(self, method, path, opts)
    return self:read_answer(method, opts)
  end)
  if ok then return answer end
  return nil, type(answer) == "table" and answer.why or tostring(answer)
end

function Connection:request(method, path, opts)
  local answer, why = self:try_request(method, path, opts)
  return answer or error(("%s %s: %s"):format(method, path, why), 2)
end

---True when the server has closed, within `seconds`.
function Connection:is_closed(seconds)
  local give_up = posix.now() + (seconds or 1)
  while true do
    local bytes, why = posix.read(self.fd, give_up)
    if bytes == "" then return true end
    if not bytes then return why ~= "timeout" end
  end
end

---One request on a connection of its own.
function M.try_request(host, port, method, path, opts)
  opts = opts or {}
  local conn, why = M.try_connect(host, port, opts.timeout)
  if not conn then return nil, "connect: " .. why end
  local headers = { Connection = "close" }
  for name, value in pairs(opts.headers or {}) do headers[name] = value end
  local with = setmetatable({ headers = headers }, { __index = opts })
  local answer
  answer, why = conn:try_request(method, path, with)
  conn:close()
  return answer, why
end

function M.request(host, port, method, path, opts)
  local answer, why = M.try_request(host, port, method, path, opts)
  return answer or error(("%s %s: %s"):format(method, path, why), 2)
end

return M
