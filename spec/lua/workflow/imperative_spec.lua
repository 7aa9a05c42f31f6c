-- SPDX-License-Identifier: MIT

local json = require "mw.core.json"
local fakes = require "support.fakes"
local COMPLETED, FAILED, STUCK, QUEUED = 8, 9, 7, 1

describe("a workflow written as a function", function()
  local server, calls

  before_each(function()
    server, calls = fakes.server(), {}
  end)
  after_each(function() server.close() end)

  local function note(name, value)
    return function()
      calls[#calls + 1] = name
      return value
    end
  end

  it("runs its steps and completes with what the body returns", function()
    server.declare(function(ctx, input)
      local a = ctx:step("a", note("a", input.n))
      local b = ctx:step("b", note("b", { n = a + 1 }))
      return { sum = a + b.n }
    end)
    local run = server.trigger("w", { n = 1 })
    server.task.run(1)
    assert.same({ "a", "b" }, calls)
    assert.equal('{"sum":3}', server.row(run).output)
  end)

  it("makes one commit a step and one for the trigger", function()
    server.declare(function(ctx)
      for _, name in ipairs { "a", "b", "c" } do ctx:step(name, note(name)) end
    end)
    server.trigger("w")
    server.task.run(1)
    assert.equal(4, server.store.commits)
  end)

  it("commits a result before the next step's function is called", function()
    server.declare(function(ctx)
      ctx:step("a", note("a"))
      ctx:step("b", function() calls[#calls + 1] = #server.store.journals[ctx.id] end)
    end)
    server.trigger("w")
    server.task.run(1)
    assert.same({ "a", 1 }, calls)
  end)

  it("numbers a name that is used again", function()
    local keys = {}
    server.declare(function(ctx)
      for _ = 1, 3 do ctx:step("send", function(s) keys[#keys + 1] = s.step end) end
    end)
    server.trigger("w")
    server.task.run(1)
    assert.same({ "send", "send#2", "send#3" }, keys)
  end)

  it("replays finished steps after kill -9 instead of running them again", function()
    local plugin = server.declare(function(ctx)
      local a = ctx:step("a", note("a", { n = 1 }))
      local b = ctx:step("b", function()
        calls[#calls + 1] = "b"
        server.task.sleep(10)
        return 2
      end)
      return a.n + b
    end)
    local run = server.trigger("w")
    server.task.run(1)
    server.restart(plugin)
    server.task.run(20)
    assert.same({ "a", "b", "b" }, calls)
    assert.equal("3", server.row(run).output)
  end)

  it("draws the same times, numbers and ids when it runs again", function()
    local seen = {}
    local plugin = server.declare(function(ctx)
      local mine = { ctx:now(), ctx:random(), ctx:random(10), ctx:uuid() }
      ctx:step("a", function() server.task.sleep(0.5) end)
      mine[#mine + 1] = ctx:now()
      seen[#seen + 1] = mine
      ctx:step("b", function() server.task.sleep(10) end)
    end)
    server.trigger("w")
    server.task.run(1)
    server.restart(plugin)
    server.task.run(1)
    assert.equal(2, #seen)
    assert.same(seen[1], seen[2])
    assert.near(0.5, seen[1][5] - seen[1][1], 0.001)
    assert.match("^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$", seen[1][4])
    assert.equal(36, #seen[1][4])
  end)

  it("tries a step again by its own retries and then raises its error, which the body may catch", function()
    server.declare(function(ctx)
      local ok, err = pcall(ctx.step, ctx, "a", function() calls[#calls + 1] = "a" error("bad") end, { retries = 1 })
      return { ok = ok, message = err.message }
    end)
    local run = server.trigger("w")
    server.task.run(5)
    assert.same({ "a", "a" }, calls)
    assert.same({ ok = false, message = "bad" }, json.decode(server.row(run).output))
  end)

  it("raises the same error when it runs again", function()
    local messages = {}
    local plugin = server.declare(function(ctx)
      local _, err = pcall(ctx.step, ctx, "a", function() error(require("mw.errors").new("teapot", "no coffee"), 0) end, { retries = 0 })
      messages[#messages + 1] = err.code .. ": " .. err.message
      ctx:step("b", function() server.task.sleep(10) end)
    end)
    server.trigger("w")
    server.task.run(1)
    server.restart(plugin)
    server.task.run(1)
    assert.same({ "teapot: no coffee", "teapot: no coffee" }, messages)
  end)

  it("fails when a step fails for good and nobody catches it", function()
    server.declare(function(ctx) ctx:step("a", function() error("bad") end) end, { retries = 0 })
    local run = server.trigger("w")
    server.task.run(1)
    assert.equal(FAILED, server.row(run).status)
    assert.match('"message":"bad"', server.row(run).error, 1, true)
  end)

  it("commits the pending result also when the body fails", function()
    server.declare(function(ctx)
      ctx:step("a", note("a", 7))
      error("oops")
    end)
    local run = server.trigger("w")
    server.task.run(1)
    assert.equal(FAILED, server.row(run).status)
    assert.match('"r":["a",1,', server.store.journals[run.id][1].data, 1, true)
  end)

  it("goes on after a result that was written by itself while the body computed", function()
    server.store.late = true
    local plugin = server.declare(function(ctx)
      local a = ctx:step("a", note("a", 1))
      local b = ctx:step("b", function() server.task.sleep(10) return note("b", a + 1)() end)
      return a + b
    end)
    local run = server.trigger("w")
    server.task.turn()
    server.restart(plugin)
    server.task.run(60)
    assert.same({ "a", "b" }, calls)
    assert.equal(COMPLETED, server.row(run).status)
    assert.equal("3", server.row(run).output)
  end)

  it("fails, keeping a result that was written by itself, when the body fails or is killed", function()
    server.store.late = true
    server.declare(function(ctx)
      ctx:step("a", note("a", 1))
      error("broken", 0)
    end)
    local run = server.trigger("w")
    server.task.run(5)
    assert.equal(FAILED, server.row(run).status)
    assert.equal(1, #server.store.journals[run.id])
    assert.match('"v":1', server.store.journals[run.id][1].data, 1, true)
  end)

  it("gets stuck, with what was expected and what came, when the body goes another way", function()
    server.declare(function(ctx)
      ctx:step("a", note("a"))
      ctx:step("b", function() server.task.sleep(10) end)
    end)
    local run = server.trigger("w")
    server.task.run(1)
    server.restart(function(workflow)
      workflow("w", function(ctx)
        ctx:step("other", note("other"))
        ctx:step("b", note("b"))
      end)
    end)
    server.task.run(1)
    assert.equal(STUCK, server.row(run).status)
    assert.match('"expected":"a"', server.row(run).error, 1, true)
    assert.match('"actual":"other"', server.row(run).error, 1, true)
    assert.same({ "a" }, calls)
  end)

  it("gets stuck when the body ends before its journal does", function()
    server.declare(function(ctx)
      ctx:step("a", note("a"))
      ctx:step("b", function() server.task.sleep(10) end)
    end)
    local run = server.trigger("w")
    server.task.run(1)
    server.restart(function(workflow) workflow("w", function() return 1 end) end)
    server.task.run(1)
    assert.equal(STUCK, server.row(run).status)
    assert.match("the end of the body", server.row(run).error, 1, true)
  end)

  it("goes on after a step's timeout in a fresh task", function()
    server.declare(function(ctx)
      ctx:step("a", note("a"))
      local ok, err = server.task.pcall(ctx.step, ctx, "slow", function()
        calls[#calls + 1] = "slow"
        local slept, why = server.task.sleep(100)
        if not slept then error(why, 0) end
      end, { timeout = 1, retries = 1 })
      return { ok = ok, code = err.code }
    end)
    local run = server.trigger("w")
    server.task.run(30)
    assert.same({ "a", "slow", "slow" }, calls)
    assert.same({ ok = false, code = "timeout" }, json.decode(server.row(run).output))
  end)

  it("hands the run to the next generation before a new step", function()
    server.declare(function(ctx)
      ctx:step("a", note("a", 1))
      server.task.current = false
      ctx:step("b", note("b", 2))
    end)
    local run = server.trigger("w")
    server.task.turn()
    assert.same({ "a" }, calls)
    assert.equal(QUEUED, server.row(run).status)
    server.restart(function(workflow)
      workflow("w", function(ctx) return ctx:step("a", note("a")) + ctx:step("b", note("b", 2)) end)
    end)
    server.task.run(1)
    assert.same({ "a", "b" }, calls)
    assert.equal("3", server.row(run).output)
  end)

  it("refuses steps and waits inside steps, with the fix", function()
    server.declare(function(ctx)
      local _, inner = pcall(ctx.step, ctx, "a", function() ctx:step("b", note("b")) end, { retries = 0 })
      local _, sleep = pcall(ctx.step, ctx, "c", function(s) s:sleep("3d") end, { retries = 0 })
      return { inner.message, sleep.message }
    end)
    local run = server.trigger("w")
    server.task.run(1)
    assert.match("ctx:step cannot run inside a step", server.row(run).output, 1, true)
    assert.match("ctx:sleep belongs to the body of a workflow", server.row(run).output, 1, true)
  end)

  it("marks body code for the guard of public effects, and steps not", function()
    local marks = {}
    server.declare(function(ctx)
      marks[1] = server.task.local_get().body
      ctx:step("a", function() marks[2] = server.task.local_get().body or false end)
      marks[3] = server.task.local_get().body
    end)
    server.trigger("w")
    server.task.run(1)
    assert.same({ true, false, true }, marks)
    assert.is_false(require("mw.workflow.determinism").is_in_body())
  end)

  it("completes without steps", function()
    server.declare(function() return "done" end)
    local run = server.trigger("w")
    server.task.run(1)
    assert.equal(COMPLETED, server.row(run).status)
    assert.equal('"done"', server.row(run).output)
  end)
end)

describe("determinism", function()
  local server, determinism, env

  before_each(function()
    server = fakes.server()
    determinism = require "mw.workflow.determinism"
    env = determinism.install {
      pairs = pairs, next = next, tostring = tostring, os = { time = os.time, date = os.date, clock = os.clock },
      math = { random = math.random, randomseed = math.randomseed },
    }
  end)
  after_each(function()
    determinism.leave()
    server.close()
  end)

  it("leaves everything as it was outside of a body", function()
    assert.is_number(env.os.time())
    assert.is_number(env.math.random())
    assert.is_string(env.tostring({}))
    assert.equal("b", env.next { b = 1 })
  end)

  it("walks numbers ascending, then strings bytewise", function()
    determinism.enter()
    local keys = {}
    for key in env.pairs { zeta = 1, alpha = 2, [10] = 3, [2] = 4, Beta = 5 } do keys[#keys + 1] = key end
    assert.same({ 2, 10, "Beta", "alpha", "zeta" }, keys)
  end)

  it("names the journaled form of what differs from run to run", function()
    determinism.enter()
    for call, fix in pairs {
      ["os.time"] = "ctx:now", ["math.random"] = "ctx:random", ["os.clock"] = "ctx:now",
    } do
      local group, name = call:match("(%w+)%.(%w+)")
      local ok, err = pcall(env[group][name])
      assert.is_false(ok)
      assert.match(fix, err.message, 1, true)
    end
    assert.has_error(function() env.tostring({}) end)
    assert.has_error(function() env.tostring(print) end)
    assert.has_error(function() env.pairs { [{}] = 1 } end)
    assert.has_error(function() env.next { a = 1, b = 2 } end)
    assert.equal("1", env.tostring(1))
  end)
end)
