-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local json = require "mw.core.json"
local RUNNING, SLEEPING, WAITING, FAILED, STUCK = 2, 3, 4, 9, 7

describe("branches of a body", function()
  local server, calls

  before_each(function() server, calls = fakes.server(), {} end)
  after_each(function() server.close() end)

  local function work(name, seconds, value)
    return function()
      calls[#calls + 1] = name
      if seconds then server.nap(seconds) end
      return value
    end
  end

  it("go on beside each other and give their results by name", function()
    server.declare(function(ctx)
      local r = ctx:all {
        a = function(c) return c:step("s", work("a", 10, 1)) end,
        b = function(c) return c:step("s", work("b", 10, 2)) end,
      }
      return { r.a, r.b, ctx.results.s }
    end)
    local run = server.trigger("w")
    local began = server.task.now_us
    server.task.run(15)
    assert.equal("[1,2]", server.row(run).output)
    assert.is_true(server.task.now_us - began < 20e6)
    assert.same({ "a", "b" }, calls)
  end)

  it("store what they have at the same time in one commit", function()
    server.declare(function(ctx)
      local branches = {}
      for i = 1, 50 do branches["b" .. i] = function(c) return c:step("s", work("s", 1)) end end
      ctx:all(branches)
    end)
    server.trigger("w")
    server.task.run(0.5)
    assert.equal(50, #calls)
    assert.is_true(server.store.commits <= 3, server.store.commits .. " commits")
  end)

  it("do no finished step again after kill -9", function()
    local plugin = server.declare(function(ctx)
      local r = ctx:all {
        fast = function(c) return c:step("s", work("fast", 0.1, "f")) end,
        slow = function(c)
          c:step("s", work("slow", 0.1))
          return c:step("t", work("slower", 50, "t"))
        end,
      }
      return r.fast .. r.slow
    end)
    local run = server.trigger("w")
    server.task.run(5)
    server.restart(plugin)
    server.task.run(100)
    table.sort(calls)
    assert.same({ "fast", "slow", "slower", "slower" }, calls)
    assert.equal('"ft"', server.row(run).output)
  end)

  it("let the others end when one fails, and raise the first error by name", function()
    server.declare(function(ctx)
      local ok, err = pcall(ctx.all, ctx, {
        b = function(c) c:step("s", function() error("b is bad") end, { retries = 0 }) end,
        a = function(c) c:step("s", function() server.task.sleep(5) error("a is bad") end, { retries = 0 }) end,
        c = function(c) c:step("s", work("c", 10)) end,
      })
      return { ok, err.message, err.step }
    end)
    local run = server.trigger("w")
    server.task.run(20)
    assert.equal('[false,"a is bad","all:a/s"]', server.row(run).output)
    assert.same({ "c" }, calls)
  end)

  it("survive a step of one that runs out of time", function()
    server.declare(function(ctx)
      return ctx:all {
        a = function(c) return c:step("s", function(s) if s.attempt == 1 then server.nap(100) end return s.attempt end, { timeout = 1 }) end,
        b = function(c) return c:step("s", work("b", 3, "ok")) end,
      }
    end)
    local run = server.trigger("w")
    server.task.run(10)
    assert.same({ a = 2, b = "ok" }, json.decode(server.row(run).output))
    assert.same({ "b" }, calls)
  end)

  it("are given back together when all of them wait for long, and come back as each is due", function()
    local plugin = server.declare(function(ctx)
      return ctx:all {
        day = function(c)
          c:sleep("1d")
          return c:step("s", work("day", nil, "d"))
        end,
        week = function(c)
          c:sleep("7d")
          return c:step("s", work("week", nil, "w"))
        end,
        approval = function(c) return c:wait_for("go", { timeout = "30d" }) end,
      }
    end)
    local run = server.trigger("w")
    server.task.run(10)
    assert.equal(WAITING, server.row(run).status)
    assert.equal(0, (server.engine.load()))
    server.task.run(86400 * 2)
    assert.same({ "day" }, calls)
    server.restart(plugin)
    server.store.send(run.id, "go", '"went"')
    server.task.run(86400)
    assert.equal(SLEEPING, server.row(run).status)
    server.task.run(86400 * 5)
    assert.same({ day = "d", week = "w", approval = "went" }, json.decode(server.row(run).output))
    assert.same({ "day", "week" }, calls)
  end)

  it("take a signal while another is at work", function()
    server.declare(function(ctx)
      return ctx:all {
        work = function(c) return c:step("s", work("s", 60, 1)) end,
        wait = function(c)
          local value = c:wait_for("go")
          c:step("t", work("t"))
          return value
        end,
      }
    end)
    local run = server.trigger("w")
    server.task.run(10)
    server.store.send(run.id, "go", "5")
    server.task.run(10)
    assert.same({ "s", "t" }, calls)
    assert.equal(RUNNING, server.row(run).status)
    server.task.run(60)
    assert.same({ work = 1, wait = 5 }, json.decode(server.row(run).output))
  end)

  it("of a list are as many at a time as it says, with results in its order", function()
    local most, now = 0, 0
    server.declare(function(ctx)
      return ctx:map({ 5, 4, 3, 2, 1 }, function(c, item, index)
        return c:step("s", function()
          now = now + 1
          most = math.max(most, now)
          server.task.sleep(item)
          now = now - 1
          return item * 10 + index
        end)
      end, { concurrency = 2 })
    end)
    local run = server.trigger("w")
    server.task.run(30)
    assert.equal("[51,42,33,24,15]", server.row(run).output)
    assert.equal(2, most)
  end)

  it("may have branches themselves", function()
    local plugin = server.declare(function(ctx)
      local r = ctx:all {
        a = function(c)
          return c:map({ 1, 2, 3 }, function(d, item) return d:step("s", work("s", 1, item)) end)
        end,
        b = function(c)
          c:sleep("1h")
          return c:all { x = function(d) return d:step("s", work("x", nil, "x")) end }
        end,
      }
      return { r.a, r.b.x }
    end)
    local run = server.trigger("w")
    server.task.run(10)
    server.restart(plugin)
    server.task.run(3700)
    assert.equal('[[1,2,3],"x"]', server.row(run).output)
    assert.equal(4, #calls)
  end)

  it("have their own random numbers and time, the same each time", function()
    local seen = {}
    local plugin = server.declare(function(ctx)
      ctx:all {
        a = function(c) seen[#seen + 1] = c:uuid() .. c:random() .. c:now() end,
        b = function(c) seen[#seen + 1] = c:uuid() .. c:random() .. c:now() end,
      }
      ctx:step("long", work("long", 100))
    end)
    server.trigger("w")
    server.task.run(1)
    server.restart(plugin)
    server.task.run(1)
    assert.equal(4, #seen)
    assert.equal(seen[1], seen[3])
    assert.equal(seen[2], seen[4])
    assert.are_not.equal(seen[1], seen[2])
  end)

  it("say so when one uses the ctx of the body", function()
    server.declare(function(ctx)
      local ok, err = pcall(ctx.all, ctx, { a = function() return ctx:step("s", work("s")) end })
      return { ok, err.message }
    end)
    local run = server.trigger("w")
    server.task.run(1)
    assert.match("a ctx of its own", server.row(run).output)
  end)

  it("make the run stuck when one goes another way", function()
    server.declare(function(ctx)
      ctx:all { a = function(c) c:step("s", work("s")) c:step("t", work("t", 100)) end }
    end)
    local run = server.trigger("w")
    server.task.run(1)
    server.restart(function(workflow)
      workflow("w", function(ctx) ctx:all { a = function(c) c:step("u", work("u")) end } end)
    end)
    server.task.run(1)
    assert.equal(STUCK, server.row(run).status)
    assert.match("all:a/s", server.row(run).error)
  end)

  it("of which the watchdog ends one fail the run", function()
    server.declare(function(ctx)
      ctx:all { a = function() server.task.kill_running() end, b = function(c) c:step("s", work("s", 1)) end }
    end)
    local run = server.trigger("w")
    server.task.run(5)
    assert.equal(FAILED, server.row(run).status)
  end)

  it("are handed over with the run at their next steps when the server drains", function()
    local plugin = server.declare(function(ctx)
      return ctx:all {
        a = function(c)
          c:step("s", work("s", 30))
          return c:step("t", work("t", nil, 7))
        end,
      }
    end)
    local run = server.trigger("w")
    server.task.run(1)
    server.engine.stop()
    server.task.run(40)
    assert.equal(1, server.row(run).status)
    server.restart(plugin)
    server.task.run(40)
    assert.equal('{"a":7}', server.row(run).output)
    assert.same({ "s", "t" }, calls)
  end)
end)
