-- SPDX-License-Identifier: MIT
-- The wall clock jumps by hours, while a server runs and between two starts: no execution is lost, doubled, or kept waiting for hours.

local ffi = require "ffi"
local engines = require "support.engines"
local posix = require "support.posix"
local server = require "support.server"
local upstream = require "support.upstream"

local HOURS = 3 * 3600

local plugin = [==[
  local mw = require "mw"
  local url = mw.env.APP_UPSTREAM
  local function call(name)
    return function(ctx) return mw.fetch(url .. "/" .. name, { method = "POST", json = { run = ctx.id, attempt = ctx.attempt } }):ok():json() end
  end
  mw.workflow("plain", { { name = "a", run = call "a" }, { name = "b", run = call "b" } })
  mw.workflow("retried", {
    { name = "a", retries = 3, backoff = { initial = "1500ms", max = "1500ms" }, run = function(ctx)
      local answer = call("a")(ctx)
      if ctx.attempt == 1 then error "the first attempt fails" end
      return answer
    end },
  })
  mw.workflow("slow", { { name = "a", run = call "a" }, { name = "b", timeout = "10s", run = function(ctx)
    mw.sleep("700ms")
    return call("b")(ctx)
  end } })
]==]

local can_move -- nil: not known yet

engines.describe("a clock that jumps on ", function(engine)
  local dir, up, s
  before_each(function()
    dir = posix.temp_dir()
    up = upstream.start { delay = 0.01 }
  end)
  after_each(function()
    if s then
      if s.pid then s:kill_all() end
      s:clean()
    end
    s = nil
    up:stop()
    posix.remove_dir(dir)
  end)

  local function set_clock(seconds)
    local us = ffi.new("int64_t[1]", seconds * 1000000)
    local file = assert(io.open(dir .. "/clock", "r+b") or io.open(dir .. "/clock", "wb"))
    file:write(ffi.string(us, 8))
    file:close()
  end

  local function start()
    set_clock(0)
    s = server.start { plugins = { ["w.lua"] = plugin }, args = { "--workers", "2" }, database = engine.fresh(),
      env = { MW_CLOCK_FILE = dir .. "/clock", APP_UPSTREAM = "http://127.0.0.1:" .. up.port } }
    if can_move == nil then
      local before = s:get("/livez").headers.date
      set_clock(86400)
      posix.pause(1.1) -- the date is made once a second
      can_move = s:get("/livez").headers.date:sub(1, 16) ~= before:sub(1, 16)
      set_clock(0)
    end
    return can_move
  end

  local function trigger(name) return s:post("/api/trigger", { json = { name = name, input = {} } }).json().executionId end

  local function wait_completed(ids, seconds)
    s:wait(function()
      for _, id in ipairs(ids) do
        local status = s:get("/api/v1/executions/" .. id).json().status
        if status ~= "completed" then return false, id .. " is " .. tostring(status) end
      end
      return true
    end, seconds, "the executions")
  end

  -- Calls by "run/step".
  local function counts()
    local found = {}
    for _, one in ipairs(up:calls()) do
      local key = one.json.run .. one.path
      found[key] = (found[key] or 0) + 1
    end
    return found
  end

  local function cpu_seconds()
    local fields = {}
    for field in (posix.read_file("/proc/" .. s:server_pid() .. "/stat"):match("%) (.*)")):gmatch("%S+") do fields[#fields + 1] = field end
    return (tonumber(fields[12]) + tonumber(fields[13])) / 100
  end

  for name, seconds in pairs { forward = HOURS, back = -HOURS } do
    it(name .. " while a server runs: steps, retries and new executions end in their time, once", function()
      if not start() then return pending("needs a build with MW_DEBUG") end
      local ids = {}
      for i = 1, 4 do ids[i] = trigger(i % 2 == 0 and "slow" or "retried") end
      s:wait(function() return #up:calls() >= 4 end, 10, "the first steps")
      set_clock(seconds)
      for i = 5, 8 do ids[i] = trigger "plain" end
      wait_completed(ids, 12)
      local found = counts()
      for i, id in ipairs(ids) do
        assert.equal((i <= 4 and i % 2 == 1) and 2 or 1, found[id .. "/a"], "calls of the first step of execution " .. i)
      end
      local began = cpu_seconds()
      posix.pause(0.5)
      assert.is_true(cpu_seconds() - began < 0.25, "the server is busy with nothing")
      s:stop { keep = true }
    end)

    it(name .. " between two starts: what was under way goes on, and finished steps do not run again", function()
      if not start() then return pending("needs a build with MW_DEBUG") end
      local ids = {}
      for i = 1, 4 do ids[i] = trigger "slow" end
      s:wait(function() return #up:calls() >= 4 end, 10, "the first steps")
      s:wait(function()
        for _, id in ipairs(ids) do
          local step = s:get("/api/v1/executions/" .. id).json().steps[1]
          if not step or step.status ~= "completed" then return false end
        end
        return true
      end, 10, "their results")
      s:kill_all()
      set_clock(seconds)
      s:restart()
      ids[5] = trigger "plain"
      wait_completed(ids, 20)
      local found = counts()
      for i = 1, 5 do assert.equal(1, found[ids[i] .. "/a"]) end
      s:stop { keep = true }
    end)
  end

  it("back between two starts does not keep what was queued waiting", function()
    if not start() then return pending("needs a build with MW_DEBUG") end
    set_clock(HOURS)
    local ids = {}
    for i = 1, 6 do ids[i] = trigger "slow" end
    s:stop { keep = true } -- they are handed back
    set_clock(0)
    s:restart()
    wait_completed(ids, 20)
    s:stop { keep = true }
  end)
end)
