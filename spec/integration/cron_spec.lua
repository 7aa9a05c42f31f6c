-- SPDX-License-Identifier: MIT
-- Cron jobs of real servers: restarts, kill -9, two nodes, reloads, clocks that jump.

local ffi = require "ffi"
local engines = require "support.engines"
local posix = require "support.posix"
local server = require "support.server"

local function job(name, expression, opts, body)
  return ('require("mw").cron(%q, %q, function(ctx) %s return ctx.scheduled_at end, { %s })\n'):format(name, expression, body or "", opts or "")
end

engines.describe("cron on ", function(engine)
  local servers, dir, database

  before_each(function()
    servers, dir = {}, posix.temp_dir()
    database = engine.fresh()
  end)
  after_each(function()
    for _, s in ipairs(servers) do
      if s.pid then s:kill_all() end
      s:clean()
    end
    posix.remove_dir(dir)
  end)

  local function set_clock(seconds)
    local us = ffi.new("int64_t[1]", seconds * 1000000)
    local file = assert(io.open(dir .. "/clock", "r+b") or io.open(dir .. "/clock", "wb"))
    file:write(ffi.string(us, 8))
    file:close()
  end

  local function start(source)
    set_clock(0)
    local s = server.start { plugins = { ["jobs.lua"] = source }, database = database, args = { "--workers", "2" }, env = { MW_CLOCK_FILE = dir .. "/clock" } }
    servers[#servers + 1] = s
    return s
  end

  local function ticks(s, name) return s:get("/api/v1/cron/" .. name .. "?limit=500").json().ticks end
  local function fired(s, name)
    local list = {}
    for _, tick in ipairs(ticks(s, name)) do
      if tick.status == "fired" then table.insert(list, 1, tick) end
    end
    return list
  end
  local function executions(s, name) return s:get("/api/v1/executions?limit=500&workflow=cron:" .. name).json() end

  it("runs each tick once, also when the server is killed in between", function()
    local s = start(job("often", "* * * * * *", [[misfire = "all", overlap = "allow"]]))
    s:wait(function() return #fired(s, "often") >= 2 end, 10, "two ticks")
    s:kill_all()
    s:restart()
    local before = #fired(s, "often")
    s:wait(function() return #fired(s, "often") >= before + 3 end, 20, "three more")
    -- What the kill left claimed another look takes up after ten seconds.
    s:wait(function()
      local newest = fired(s, "often")[before + 3].scheduled_at
      for _, tick in ipairs(ticks(s, "often")) do
        if tick.status == "claimed" and tick.scheduled_at < newest then return false, tick.scheduled_at .. " is claimed" end
      end
      return true
    end, 50, "the tick that was dealt with at the kill")
    local list, seen = fired(s, "often"), {}
    for i, tick in ipairs(list) do
      assert.is_nil(seen[tick.scheduled_at])
      seen[tick.scheduled_at] = true
      if i > 1 then -- no second is left out
        local a, b = list[i - 1].scheduled_at_utc:match(":(%d+)%."), tick.scheduled_at_utc:match(":(%d+)%.")
        assert.equal((tonumber(a) + 1) % 60, tonumber(b), list[i - 1].scheduled_at .. " is followed by " .. tick.scheduled_at)
      end
    end
  end)

  it("makes up for what it missed as the job says, when a server comes back after days", function()
    local source = job("all", "@hourly", [[misfire = "all", misfire_max = 5, overlap = "allow"]]) .. job("once", "@hourly", [[misfire = "once"]])
      .. job("skip", "@hourly", [[misfire = "skip"]])
    local s = start(source)
    s:wait(function() return #s:get("/api/v1/cron").json().items == 3 end, 10, "the jobs")
    s:wait(function() return s:get("/api/v1/cron/skip").json().dealt_with_until ~= nil end, 10, "the scheduler")
    s:stop { keep = true }
    if engine.url then return end -- the fleet's clock is the database's, which stays where it is
    set_clock(2 * 86400)
    s:restart()
    s:wait(function() return #fired(s, "all") == 5 and #fired(s, "once") >= 1 and (ticks(s, "skip")[1] or {}).status == "skipped" end, 15,
      "the missed ticks")
    assert.equal(1, #fired(s, "once"))
    assert.equal(0, #fired(s, "skip"))
    assert.matches("no server dealt with it and %d+ before it in time", ticks(s, "skip")[1].reason)
  end)

  it("follows an edited schedule at once, makes up for nothing of the new one, and stops when it is removed", function()
    local s = start(job("a", "* * * * * *"))
    s:wait(function() return #fired(s, "a") >= 1 end, 10, "a tick")
    s:write("jobs.lua", job("a", "@yearly") .. job("b", "@hourly"))
    s:wait(function() return s:get("/api/v1/cron/a").json().expression == "@yearly" end, 10, "the new schedule")
    s:wait(function() return s:get("/api/v1/cron/b").json().dealt_with_until ~= nil end, 10, "the new job")
    local before = #ticks(s, "a")
    s:pause(2.2)
    assert.equal(before, #ticks(s, "a"))
    s:write("jobs.lua", job("b", "@hourly"))
    s:wait(function() return s:get("/api/v1/cron/a").json().declared == false end, 10, "the job to go")
    assert.equal(409, s:post("/api/v1/cron/a/run", { json = {} }).status)
  end)

  it("is one run a tick for two servers", function()
    if not engine.url then return end -- two servers never share a folder
    local source = job("often", "* * * * * *", [[overlap = "allow"]])
    local a = start(source)
    local b = start(source)
    a:wait(function() return #fired(a, "often") >= 4 end, 15, "four ticks")
    b:kill_all()
    a:wait(function() return #fired(a, "often") >= 7 end, 20, "more, of the one that is left")
    local list = executions(a, "often")
    local ids = {}
    for _, item in ipairs(list.items) do
      assert.is_nil(ids[item.external_id])
      ids[item.external_id] = true
    end
    assert.is_true(list.total >= 7 and list.total <= #fired(a, "often") + 1)
  end)
end)

describe("moonwatch cron", function()
  local s
  setup(function() s = server.start { plugins = { ["jobs.lua"] = job("nightly", "0 3 * * *", [[timezone = "Europe/Berlin"]]) } } end)
  teardown(function() s:stop() end)

  it("lists, shows, runs, pauses and resumes jobs", function()
    local function command(...)
      local code, text = server.command({ "cron", "--data", s.data, ... }, { dir = s.dir })
      return text, code
    end
    assert.matches("nightly +0 3 %* %* %* +Europe/Berlin", (command("list")))
    local id = command("run", "nightly"):match("^(%x+%-%S+)")
    s:wait(function() return s:get("/api/v1/executions/" .. id).json().status == "completed" end, 10, "its run")
    assert.matches("nightly is paused", (command("pause", "nightly")), 1, true)
    local text = command("show", "nightly")
    assert.matches("paused by socket", text, 1, true)
    assert.matches("manual +completed", text)
    assert.matches("nightly goes on", (command("resume", "nightly")), 1, true)
    local missing, code = command("show", "nightl")
    assert.equal(1, code)
    assert.matches('did you mean "nightly"', missing, 1, true)
  end)
end)
