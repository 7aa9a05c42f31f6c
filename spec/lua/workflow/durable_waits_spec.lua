-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local SLEEPING, WAITING, COMPLETED, FAILED, STUCK = 3, 4, 8, 9, 7
local DAY = 86400

describe("a durable wait", function()
  local server, calls

  before_each(function() server, calls = fakes.server(), {} end)
  after_each(function() server.close() end)

  local function note(name, value)
    return function()
      calls[#calls + 1] = name
      return value
    end
  end

  describe("that is a sleep", function()
    local function body(ctx)
      ctx:step("a", note("a"))
      ctx:sleep("7d")
      ctx:step("b", note("b"))
      return ctx:now()
    end

    it("gives the run back until it is due, with the result before it in the same commit", function()
      server.declare(body)
      local run = server.trigger("w")
      local began = server.task.now_us
      server.task.run(1)
      assert.same({ "a" }, calls)
      assert.equal(SLEEPING, server.row(run).status)
      assert.near(began + 7 * DAY * 1e6, server.row(run).due_us, 1e6)
      assert.equal(1, #server.store.journals[run.id])
      assert.equal(0, (server.engine.load()))
      server.task.run(7 * DAY)
      assert.same({ "a", "b" }, calls)
      assert.equal(COMPLETED, server.row(run).status)
      assert.is_true(tonumber(server.row(run).output) >= began / 1e6 + 7 * DAY)
    end)

    it("ends when it was to end, whatever happened to the server", function()
      local plugin = server.declare(body)
      local run = server.trigger("w")
      server.task.run(3 * DAY)
      local due = server.row(run).due_us
      server.restart(plugin)
      server.task.run(DAY)
      assert.equal(due, server.row(run).due_us)
      server.task.run(4 * DAY)
      assert.same({ "a", "b" }, calls)
    end)

    it("stays in memory when it is short, and is not slept again after a crash", function()
      local plugin = server.declare(function(ctx)
        ctx:sleep(0.5)
        ctx:step("a", function() server.task.sleep(100) end)
      end)
      local run = server.trigger("w")
      server.task.run(2)
      assert.equal(0, server.store.claims - 1)
      server.restart(plugin)
      local began = server.task.now_us
      server.task.turn()
      assert.is_true(server.task.now_us - began < 1e5)
      assert.equal(2, server.row(run).status)
    end)

    it("until a moment that is over ends at once", function()
      server.declare(function(ctx)
        ctx:sleep_until(1)
        return "over"
      end)
      local run = server.trigger("w")
      server.task.run(1)
      assert.equal('"over"', server.row(run).output)
    end)

    it("refuses what is no time", function()
      local messages = {}
      server.declare(function(ctx)
        for i, fn in ipairs { function() ctx:sleep("soon") end, function() ctx:sleep_until(1.7e12) end, function() ctx:sleep(-1) end } do
          messages[i] = select(2, pcall(fn)).message
        end
      end)
      server.trigger("w")
      server.task.run(1)
      assert.match("ctx:sleep", messages[1])
      assert.match("milliseconds", messages[2])
      assert.match("ctx:sleep", messages[3])
    end)
  end)

  describe("for a signal", function()
    local function body(ctx)
      ctx:step("ask", note("ask"))
      local answer = ctx:wait_for("approved", { timeout = "3d", form = { title = "May it?" } })
      ctx:step("tell", note(answer and "yes" or "no"))
      return answer
    end

    it("takes one that comes later", function()
      server.declare(body)
      local run = server.trigger("w")
      server.task.run(60)
      assert.equal(WAITING, server.row(run).status)
      assert.same({ "approved" }, server.row(run).waits)
      server.store.send(run.id, "other", "1")
      server.task.run(10)
      assert.equal(WAITING, server.row(run).status)
      server.store.send(run.id, "approved", '{"by":"eva"}')
      server.task.run(10)
      assert.same({ "ask", "yes" }, calls)
      assert.equal('{"by":"eva"}', server.row(run).output)
    end)

    it("takes one that came before the wait began", function()
      server.declare(function(ctx)
        ctx:sleep("1h")
        return ctx:wait_for("approved")
      end)
      local run = server.trigger("w")
      server.task.run(1)
      server.store.send(run.id, "approved")
      server.task.run(3601)
      assert.equal("true", server.row(run).output)
    end)

    it("is not missed when it comes between looking and waiting", function()
      server.declare(body)
      local sent
      server.store.refuse = function(kind, id, _, _, to)
        if kind == "append" and to == WAITING and not sent then
          sent = true
          server.store.send(id, "approved", "1")
        end
      end
      local run = server.trigger("w")
      server.task.run(1)
      assert.equal(COMPLETED, server.row(run).status)
    end)

    it("gives nil when its time is over", function()
      server.declare(body)
      local run = server.trigger("w")
      server.task.run(3 * DAY + 1)
      assert.same({ "ask", "no" }, calls)
      assert.is_nil(server.row(run).output)
      assert.equal(COMPLETED, server.row(run).status)
    end)

    it("takes each signal once, in the order in which they were sent", function()
      server.declare(function(ctx)
        local got = {}
        for i = 1, 3 do got[i] = ctx:wait_for("item") end
        return got
      end)
      local run = server.trigger("w")
      server.task.run(1)
      for i = 1, 3 do
        server.store.send(run.id, "item", tostring(i))
        server.store.send(run.id, "item", tostring(i), "s" .. i)
      end
      server.task.run(10)
      assert.equal("[1,2,3]", server.row(run).output)
    end)

    it("recalls what came after a crash, without asking for it again", function()
      local plugin = server.declare(function(ctx)
        local answer = ctx:wait_for("approved")
        ctx:step("long", function()
          calls[#calls + 1] = answer
          server.task.sleep(100)
        end)
        return answer
      end)
      local run = server.trigger("w")
      server.task.run(1)
      server.store.send(run.id, "approved", "7")
      server.task.run(10)
      server.restart(plugin)
      server.task.run(200)
      assert.same({ 7, 7 }, calls)
      assert.equal("7", server.row(run).output)
    end)

    it("is stuck when the body waits for another one after a resume", function()
      server.declare(body)
      local run = server.trigger("w")
      server.task.run(1)
      server.restart(function(workflow)
        workflow("w", function(ctx)
          ctx:step("ask", note("ask"))
          return ctx:wait_for("refused")
        end)
      end)
      server.store.send(run.id, "approved")
      server.task.run(10)
      assert.equal(STUCK, server.row(run).status)
      assert.match("the wait for", server.row(run).error)
    end)
  end)

  describe("for a retry", function()
    it("gives the run back, and goes on with the next attempt", function()
      server.declare(function(ctx)
        return ctx:step("a", function(s)
          calls[#calls + 1] = s.attempt
          if s.attempt < 3 then error("not yet") end
          return s.attempt
        end, { backoff = { initial = "10m", factor = 1, max = "10m", jitter = 0 } })
      end)
      local run = server.trigger("w")
      server.task.run(60)
      assert.equal(SLEEPING, server.row(run).status)
      server.task.run(1200)
      assert.same({ 1, 2, 3 }, calls)
      assert.equal("3", server.row(run).output)
    end)

    it("ends with max_elapsed, with a code that is not to be tried again, and with retryable = false", function()
      local tries = {}
      local function failing(name, err)
        return function()
          tries[name] = (tries[name] or 0) + 1
          error(err)
        end
      end
      server.declare(function(ctx)
        pcall(ctx.step, ctx, "elapsed", failing("elapsed", "x"), { max_elapsed = 25, retries = 100, backoff = 10 })
        pcall(ctx.step, ctx, "code", failing("code", { code = "declined", message = "no" }), { non_retryable = { "declined" } })
        pcall(ctx.step, ctx, "said", failing("said", { code = "odd", retryable = false }))
      end)
      server.random = 1
      local run = server.trigger("w")
      server.task.run(100)
      assert.equal(COMPLETED, server.row(run).status)
      assert.same({ elapsed = 3, code = 1, said = 1 }, tries)
    end)

    it("ends an attempt that goes on longer than max_elapsed leaves", function()
      server.declare(function(ctx)
        ctx:step("a", function() server.nap(1000) end, { max_elapsed = 5 })
      end)
      local run = server.trigger("w")
      server.task.run(60)
      assert.equal(FAILED, server.row(run).status)
      assert.match("max_elapsed", server.row(run).error)
    end)
  end)

  describe("with a deadline of the workflow", function()
    it("fails the run in a sleep, in a wait and in a step", function()
      for _, body in ipairs {
        function(ctx) ctx:sleep("7d") end,
        function(ctx) ctx:wait_for("never") end,
        function(ctx) ctx:step("a", function() server.nap(1e6) end) end,
      } do
        server.close()
        server = fakes.server()
        server.declare(body, { deadline = "1m", retries = 0 })
        local run = server.trigger("w")
        server.task.run(59)
        assert.is_true(server.row(run).status < COMPLETED)
        server.task.run(5)
        assert.equal(FAILED, server.row(run).status)
        assert.match('"deadline"', server.row(run).error)
      end
    end)
  end)

  it("of a start is a delay", function()
    server.declare(function(ctx) ctx:step("a", note("a")) end)
    local run = server.trigger("w", nil, { delay = "1d" })
    server.task.run(3600)
    assert.equal(SLEEPING, server.row(run).status)
    server.task.run(DAY)
    assert.same({ "a" }, calls)
    run = server.trigger("w", nil, { at = server.task.now_us / 1e6 - 5, tags = { "x" }, priority = 3 })
    server.task.run(1)
    assert.equal(COMPLETED, server.row(run).status)
    assert.equal('["x"]', server.row(run).tags)
    local ok, err = pcall(server.trigger, "w", nil, { at = 1, delay = 1 })
    assert.is_false(ok)
    assert.match("not both", tostring(err))
  end)
end)
