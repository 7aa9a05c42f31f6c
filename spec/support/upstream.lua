-- SPDX-License-Identifier: MIT
-- An outside HTTP server that counts: it answers every request with {"n": how many of that path}, after a delay, and writes each down
-- before it answers, so that a spec sees calls whose answer nobody received.
--
--   local up = require("support.upstream").start { delay = 0.01 }
--   up.port; up:calls() -> list of { method, path, headers, body, json }; up:set_delay(0.5); up:stop()

local dkjson = require "dkjson"
local http = require "support.http"
local posix = require "support.posix"

local M = {}
local Upstream = {}
Upstream.__index = Upstream

local function parse(bytes)
  local head_end = select(2, bytes:find("\r\n\r\n", 1, true))
  if not head_end then return nil end
  local method, path = bytes:match("^(%S+) (%S+)")
  local headers = {}
  for name, value in bytes:sub(1, head_end):gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do headers[name:lower()] = value end
  local length = tonumber(headers["content-length"] or "0")
  if (headers["transfer-encoding"] or ""):lower() == "chunked" then
    local body, at = {}, head_end + 1
    while true do
      local size, next_at = bytes:match("^(%x+)[^\r\n]*\r\n()", at)
      if not size then return nil end
      size = tonumber(size, 16)
      if #bytes < next_at + size + 1 then return nil end
      if size == 0 then return { method = method, path = path, headers = headers, body = table.concat(body) }, next_at + 2 end
      body[#body + 1] = bytes:sub(next_at, next_at + size - 1)
      at = next_at + size + 2
    end
  end
  if #bytes < head_end + length then return nil end
  return { method = method, path = path, headers = headers, body = bytes:sub(head_end + 1, head_end + length) }, head_end + length + 1
end

local function serve(listener, log_path, delay)
  local clients, due, counts = {}, {}, {}
  local log = assert(io.open(log_path, "a"))
  local function answer(fd, request)
    if request.path:match("^/%-/") then
      delay = tonumber(request.path:match("^/%-/delay/([%d%.]+)$")) or delay
      request.quiet = true
    else
      counts[request.path] = (counts[request.path] or 0) + 1
      log:write(dkjson.encode(request), "\n")
      log:flush()
    end
    local body = ('{"n":%d}'):format(counts[request.path] or 0)
    local text = ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body)
    due[#due + 1] = { at = posix.now() + (request.quiet and 0 or delay), fd = fd, text = text }
  end
  local function read_from(fd)
    local bytes = posix.read(fd, posix.now())
    if not bytes or bytes == "" then
      posix.close(fd)
      clients[fd] = nil
      return
    end
    clients[fd] = clients[fd] .. bytes
    while true do
      local request, after = parse(clients[fd])
      if not request then return end
      clients[fd] = clients[fd]:sub(after)
      answer(fd, request)
    end
  end
  while true do
    local now, waiting, left = posix.now(), 0.5, {}
    for _, one in ipairs(due) do
      if one.at > now then
        left[#left + 1] = one
        waiting = math.min(waiting, one.at - now)
      elseif clients[one.fd] then posix.write(one.fd, one.text, now + 1) end
    end
    due = left
    local fds = { listener }
    for fd in pairs(clients) do fds[#fds + 1] = fd end
    for fd in pairs(posix.poll_readable(fds, waiting)) do
      if fd == listener then clients[posix.accept(listener)] = "" else read_from(fd) end
    end
  end
end

function M.start(opts)
  local listener, port = posix.listen()
  local log_path = os.tmpname()
  local pid = posix.fork(function() serve(listener, log_path, opts and opts.delay or 0) end)
  posix.close(listener)
  return setmetatable({ port = port, pid = pid, log_path = log_path, url = "http://127.0.0.1:" .. port }, Upstream)
end

function Upstream:calls()
  local list = {}
  for line in (posix.read_file(self.log_path) or ""):gmatch("([^\n]+)\n") do
    local call = dkjson.decode(line)
    call.json = dkjson.decode(call.body or "")
    list[#list + 1] = call
  end
  return list
end

---How many calls there were.
function Upstream:count()
  local _, lines = (posix.read_file(self.log_path) or ""):gsub("\n", "")
  return lines
end

function Upstream:set_delay(seconds) http.request("127.0.0.1", self.port, "GET", ("/-/delay/%g"):format(seconds)) end

---Returns once what was sent before has been written down.
function Upstream:settle()
  for _ = 1, 2 do http.request("127.0.0.1", self.port, "GET", "/-/settle") end
end

function Upstream:stop()
  posix.kill(self.pid, posix.SIGKILL)
  posix.wait_exit(self.pid, 5)
  os.remove(self.log_path)
end

return M
