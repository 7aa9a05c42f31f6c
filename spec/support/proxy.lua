-- SPDX-License-Identifier: MIT
-- A TCP proxy in front of a server, that behaves as bad networks do. It runs in a process of its own and dies with the spec's.
--
--   local p = require("support.proxy").start(port)      -- p.port leads to 127.0.0.1:port
--   p:cut(); p:cut_one()                 -- closes all connections, or the oldest; returns how many were closed
--   p:set("delay", 0.05)                 -- what the server says arrives so many seconds later
--   p:set("cut_reply", 0.02)             -- probability, a chunk: the server's answer is thrown away, and the connection closed
--   p:set("cut_request", 0.02)           -- probability, a chunk: half of what the client sends goes on, and the connection is closed
--   p:set("hold", 1)                     -- nothing goes on in either direction, and nothing is closed, until it is 0 again
--   p:set("refuse", 1)                   -- new connections are closed at once
--   p:connections(); p:seen "cut_reply"  -- how many are open; how often that has happened
--   p:stop()

local posix = require "support.posix"

local M = {}
local Proxy = {}
Proxy.__index = Proxy

local function serve(listener, control, target, seed)
  math.randomseed(seed)
  local settings = { delay = 0, cut_reply = 0, cut_request = 0, hold = 0, refuse = 0 }
  local seen = { cut_reply = 0, cut_request = 0 }
  local pairs_, by_fd, due, controllers = {}, {}, {}, {} -- connections, oldest first; descriptor -> connection

  local function close(pair)
    for i, one in ipairs(pairs_) do
      if one == pair then table.remove(pairs_, i) break end
    end
    for _, fd in ipairs { pair.client, pair.server } do
      by_fd[fd] = nil
      posix.close(fd)
    end
    pair.closed = true
  end

  local function accept()
    local client = posix.accept(listener)
    local server = settings.refuse == 0 and posix.connect("127.0.0.1", target)
    if not server then return posix.close(client) end
    local pair = { client = client, server = server }
    pairs_[#pairs_ + 1] = pair
    by_fd[client], by_fd[server] = pair, pair
  end

  local function happens(what)
    if math.random() >= settings[what] then return false end
    seen[what] = seen[what] + 1
    return true
  end

  local function forward(fd)
    local pair = by_fd[fd]
    local bytes = posix.read(fd, posix.now())
    if not bytes or bytes == "" then return close(pair) end
    if fd == pair.client then
      local cut = happens "cut_request"
      if cut then bytes = bytes:sub(1, math.floor(#bytes / 2)) end
      posix.write(pair.server, bytes, posix.now() + 1)
      if cut then close(pair) end
    elseif happens "cut_reply" then close(pair)
    elseif settings.delay > 0 or pair.late then -- behind what is late already
      pair.late = math.max(pair.late or 0, posix.now() + settings.delay)
      due[#due + 1] = { at = pair.late, pair = pair, bytes = bytes }
    else posix.write(pair.client, bytes, posix.now() + 1) end
  end

  local commands = {
    set = function(name, value) settings[name] = tonumber(value) return 0 end,
    seen = function(name) return seen[name] end,
    connections = function() return #pairs_ end,
    cut = function()
      local count = #pairs_
      while pairs_[1] do close(pairs_[1]) end
      return count
    end,
    cut_one = function()
      if not pairs_[1] then return 0 end
      close(pairs_[1])
      return 1
    end,
  }

  local function obey(fd)
    local line = posix.read(fd, posix.now())
    if not line or line == "" then
      posix.close(fd)
      controllers[fd] = nil
      return
    end
    local words = {}
    for word in line:gmatch("%S+") do words[#words + 1] = word end
    posix.write(fd, commands[words[1]](words[2], words[3]) .. "\n", posix.now() + 1)
  end

  while true do
    local now, waiting, left = posix.now(), 0.5, {}
    for _, one in ipairs(due) do
      if one.at > now and not one.pair.closed then
        left[#left + 1] = one
        waiting = math.min(waiting, one.at - now)
      elseif not one.pair.closed then
        posix.write(one.pair.client, one.bytes, now + 1)
        if one.at == one.pair.late then one.pair.late = nil end
      end
    end
    due = left
    local fds = { listener, control }
    for fd in pairs(controllers) do fds[#fds + 1] = fd end
    if settings.hold == 0 then
      for fd in pairs(by_fd) do fds[#fds + 1] = fd end
    end
    for fd in pairs(posix.poll_readable(fds, waiting)) do
      if fd == listener then accept()
      elseif fd == control then controllers[posix.accept(control)] = true
      elseif controllers[fd] then obey(fd)
      elseif by_fd[fd] then forward(fd) end
    end
  end
end

---@param target integer the port on loopback that it leads to
function M.start(target, seed)
  local listener, port = posix.listen()
  local control, control_port = posix.listen()
  local pid = posix.fork(function() serve(listener, control, target, seed or 1) end)
  posix.close(listener)
  posix.close(control)
  return setmetatable({ port = port, pid = pid, fd = assert(posix.connect("127.0.0.1", control_port)) }, Proxy)
end

function Proxy:ask(...)
  assert(posix.write(self.fd, table.concat({ ... }, " ") .. "\n", posix.now() + 5))
  return tonumber(assert(posix.read(self.fd, posix.now() + 5)))
end

function Proxy:set(name, value) return self:ask("set", name, value) end
function Proxy:seen(name) return self:ask("seen", name) end
function Proxy:connections() return self:ask "connections" end
function Proxy:cut() return self:ask "cut" end
function Proxy:cut_one() return self:ask "cut_one" end

---The same database URL, through the proxy.
function Proxy:url(url) return (url:gsub("(@[^/:]+):%d+", "@127.0.0.1:" .. self.port)) end

function Proxy:stop()
  posix.close(self.fd)
  posix.kill(self.pid, posix.SIGKILL)
  posix.wait_exit(self.pid, 5)
end

return M
