-- SPDX-License-Identifier: MIT
-- Bad luck for servers under test: they are killed, started again on a failing disk or network, hang past their lease, lose connections, and the clock
-- of one jumps.
--
--   local clock = trouble.clock(dir .. "/clock")        -- MW_CLOCK_FILE of a server; clock(us) sets how far it is ahead
--   local t = trouble.new { nodes = nodes, network = proxy or nil, clock = clock, random = random, ends = 9 }
--                                                       -- network: of a PostgreSQL with several nodes
--   t:strike()          -- something happens to somebody; what it was is in t.log
--   t:tend()            -- call it often: starts again what has ended by itself, wakes what hung long enough
--   t:node()            -- one that can be asked
--   t:wake()            -- at once; before nodes are stopped
--   t:calm()            -- ends all of it; every node is up, and nothing fails any more
--   t.interruptions     -- how often work was interrupted: a step may have been called so many times more. Stays below `ends`.
--
-- random(n): 1 to n. Without `clock` none jumps: on SQLite what sleeps waits for the clock when it was set back between two starts. After `ends` interruptions only what interrupts nothing strikes.

local ffi = require "ffi"
local posix = require "support.posix"

local M = {}
local Trouble = {}
Trouble.__index = Trouble

local SIGSTOP, SIGCONT = 19, 18
local PAST_LEASE_S = 12 -- a lease is 10 s
local HOUR_US = 3600 * 1000000

-- N becomes a random number, so that the moment differs.
local FAULTS = {
  sqlite = {
    "sqlite_write=error:EIO,p0.03", "sqlite_sync=p0.05", "sqlite_commit=p0.05", "sqlite_sync=delay:4ms;sqlite_commit=p0.03", "sqlite_write=crash,after=N",
    "sqlite_commit=crash,after=N",
  },
  postgres = {
    "pg_send=p0.03", "pg_receive=p0.03", "pg_commit=p0.05", "pg_claim=p0.2", "pg_tx=p0.05", "pg_commit=crash,after=N", "pg_receive=crash,after=N",
  },
}

-- Written in place, since a server has the file mapped.
function M.clock(path)
  posix.write_file(path, ("\0"):rep(8))
  local file = assert(io.open(path, "r+b"))
  return function(us)
    file:seek("set", 0)
    file:write(ffi.string(ffi.new("int64_t[1]", us), 8))
    file:flush()
  end
end

function M.new(opts)
  return setmetatable({
    nodes = opts.nodes, network = opts.network, clock = opts.clock, random = opts.random, ends = opts.ends, interruptions = 0, log = {}, hung = nil, has_hung = false,
  }, Trouble)
end

function Trouble:note(...) self.log[#self.log + 1] = string.format(...) end

local function index_of(self, node)
  for i, one in ipairs(self.nodes) do if one == node then return i end end
end

local function interrupt(self, what, node)
  self.interruptions = self.interruptions + 1
  self:note("%s node %d", what, index_of(self, node))
end

function Trouble:node()
  local node
  repeat node = self.nodes[self.random(#self.nodes)] until not (self.hung and self.hung.node == node)
  return node
end

-- A broken disk or network may keep it from coming up, or end it there: then it starts without.
local function start(self, node, fault)
  node.opts.env.MW_FAULTS = fault
  node.opts.env.MW_FAULT_SEED = fault and tostring(self.random(1000000)) or nil
  if pcall(node.restart, node) then return end
  if node.pid then node:kill_all() end
  node.opts.env.MW_FAULTS = nil
  node:restart()
end

local function kill(self, node, fault)
  interrupt(self, fault and "killed, and started with " .. fault .. ":" or "killed", node)
  node:kill_all()
  start(self, node, fault)
end

local function hang(self, node)
  interrupt(self, "hung", node)
  posix.kill(node.pid, SIGSTOP)
  self.hung, self.has_hung = { node = node, till = posix.now() + PAST_LEASE_S }, true
end

---Wakes who hangs.
function Trouble:wake()
  if not self.hung then return end
  posix.kill(self.hung.node.pid, SIGCONT)
  self:note("woke node %d", index_of(self, self.hung.node))
  self.hung = nil
end

function Trouble:tend()
  if self.hung and posix.now() >= self.hung.till then self:wake() end
  for _, node in ipairs(self.nodes) do
    if node.pid and posix.wait_exit(node.pid, 0) ~= nil then
      node.pid = nil
      interrupt(self, "ended by itself", node)
      start(self, node)
    end
  end
end

local function worsen_network(self)
  local kind = self.random(4)
  if kind == 1 then self:note("cut %d connections", self.network:cut()) end
  if kind == 2 then self.network:set("cut_reply", 0.01) self:note "replies are cut" end
  if kind == 3 then self.network:set("cut_request", 0.01) self:note "requests are cut" end
  if kind == 4 then self.network:set("delay", 0.01) self:note "answers are late" end
end

local function move_clock(self)
  local hours = self.random(7) - 4
  self.clock(hours * HOUR_US)
  self:note("a clock is %d h ahead", hours)
end

local function soothe_network(self)
  for _, name in ipairs { "cut_reply", "cut_request", "delay" } do self.network:set(name, 0) end
end

function Trouble:strike()
  self:tend()
  if self.network then soothe_network(self) end
  if self.clock and self.random(5) == 1 then return move_clock(self) end
  local is_spent = self.interruptions >= self.ends
  if self.network and (is_spent or self.random(2) == 1) then return worsen_network(self) end
  if is_spent then return end
  if #self.nodes > 1 and not self.has_hung then return hang(self, self:node()) end
  local faults = FAULTS[self.network and "postgres" or "sqlite"]
  local fault = self.random(2) == 1 and faults[self.random(#faults)]:gsub("N", tostring(self.random(30))) or nil
  kill(self, self:node(), fault)
end

function Trouble:calm()
  if self.network then soothe_network(self) end
  while self.hung do
    self:tend()
    posix.pause(0.05)
  end
  self:tend()
  for _, node in ipairs(self.nodes) do
    if node.opts.env.MW_FAULTS then
      interrupt(self, "started without faults:", node)
      node:kill_all()
      start(self, node)
    end
  end
end

return M
