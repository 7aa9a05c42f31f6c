-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local COMPLETED, FAILED, SLEEPING, QUEUED, RUNNING = 8, 9, 3, 1, 2

describe("a workflow in list form", function()
  local server, calls

  before_each(function()
    server, calls = fakes.server(), {}
  end)
  after_each(function() server.close() end)

  local function note(name, fn)
    return function(ctx)
      calls[#calls + 1] = name
      return fn and fn(ctx)
    end
  end

  local function three(workflow)
    workflow("checkout", {
      { name = "charge", run = note("charge", function(ctx) return { id = "ch_" .. ctx.input.amount } end) },
      { name = "stock", run = note("stock", function(ctx) return ctx.results.charge.id end) },
      { name = "email", run = note("email", function(ctx) return { sent = ctx.results.stock } end) },
    })
  end

  it("runs its steps in order and stores the last result as output", function()
    server.plugin(three)
    server.boot()
    local run = server.trigger("checkout", { amount = 42 })
    assert.is_true(run.created)
    server.task.run(1)
    assert.same({ "charge", "stock", "email" }, calls)
    assert.equal(COMPLETED, server.row(run).status)
    assert.equal('{"sent":"ch_42"}', server.row(run).output)
  end)

  it("makes one commit a step and one for the trigger", function()
    server.plugin(three)
    server.boot()
    local run = server.trigger("checkout", { amount = 1 })
    server.task.run(1)
    assert.equal(4, server.store.commits)
    assert.equal(3, #server.store.journals[run.id])
  end)

  it("calls a step only after the result before it is durable", function()
    server.plugin(function(workflow)
      workflow("w", {
        { name = "one", run = note("one") },
        { name = "two", run = function() calls[#calls + 1] = #server.store.journals[server.store.order[1]] end },
      })
    end)
    server.boot()
    server.trigger("w")
    server.task.run(1)
    assert.same({ "one", 1 }, calls)
  end)

  it("gives a step its context", function()
    local seen
    server.plugin(function(workflow)
      workflow("w", { { name = "one", timeout = "10s", run = function(ctx)
        seen = { ctx.id, ctx.workflow, ctx.step, ctx.attempt, ctx.input.a, ctx.step_key, ctx.deadline, next(ctx.results) }
      end } })
    end)
    server.boot()
    local now = server.task.now_us
    local run = server.trigger("w", { a = 5 })
    server.task.run(1)
    assert.same({ run.id, "w", "one", 1, 5, run.id .. "/one", now / 1e6 + 10 }, seen)
  end)

  it("tries a failed step again, as often as retries says, with growing waits", function()
    local times = {}
    server.plugin(function(workflow)
      workflow("w", { { name = "one", retries = 2, run = function(ctx)
        times[#times + 1] = server.task.now_us
        calls[#calls + 1] = ctx.attempt
        error("no luck")
      end } })
    end)
    server.random = 1
    server.boot()
    local run = server.trigger("w")
    server.task.run(5)
    assert.same({ 1, 2, 3 }, calls)
    assert.near(0.2e6, times[2] - times[1], 10)
    assert.near(0.4e6, times[3] - times[2], 10)
    assert.equal(FAILED, server.row(run).status)
    assert.match('"message":"no luck"', server.row(run).error, 1, true)
    assert.match('"step":"one"', server.row(run).error, 1, true)
  end)

  it("goes on with the same step after a failure, not from the start", function()
    local failed
    server.plugin(function(workflow)
      workflow("w", {
        { name = "one", run = note("one") },
        { name = "two", run = note("two", function() if not failed then failed = true error("once") end return "ok" end) },
      })
    end)
    server.boot()
    local run = server.trigger("w")
    server.task.run(5)
    assert.same({ "one", "two", "two" }, calls)
    assert.equal('"ok"', server.row(run).output)
  end)

  it("stores a long wait as sleeping and comes back when it is due", function()
    local failures = 1
    server.plugin(function(workflow)
      workflow("w", { { name = "one", backoff = "30s", run = function()
        if failures > 0 then failures = failures - 1 error("later") end
        return true
      end } })
    end)
    server.random = 1
    server.boot()
    local run = server.trigger("w")
    server.task.run(10)
    assert.equal(SLEEPING, server.row(run).status)
    server.task.run(25)
    assert.equal(COMPLETED, server.row(run).status)
  end)

  it("does not try again after an error that says it is final", function()
    server.plugin(function(workflow)
      workflow("w", { { name = "one", retries = 5, run = note("one", function()
        error(require("mw.errors").public("sold_out", "nothing left", { retryable = false }))
      end) } })
    end)
    server.boot()
    local run = server.trigger("w")
    server.task.run(60)
    assert.equal(1, #calls)
    assert.match('"code":"sold_out"', server.row(run).error, 1, true)
  end)

  it("fails a step whose result is not JSON", function()
    server.plugin(function(workflow)
      workflow("w", { { name = "one", run = note("one", function() return { f = print } end) } })
    end)
    server.boot()
    local run = server.trigger("w")
    server.task.run(5)
    assert.equal(1, #calls)
    assert.equal(FAILED, server.row(run).status)
    assert.match('"code":"invalid_result"', server.row(run).error, 1, true)
  end)

  it("counts a timeout as a failure and says which step and how long", function()
    server.plugin(function(workflow)
      workflow("w", { { name = "slow", timeout = 2, retries = 1, run = note("slow", function()
        local ok, err = server.task.sleep(100)
        if not ok then error(err, 0) end
      end) } })
    end)
    server.boot()
    local run = server.trigger("w")
    server.task.run(20)
    assert.same({ "slow", "slow" }, calls)
    assert.equal(FAILED, server.row(run).status)
    assert.match('step \\"slow\\" took longer than its timeout of 2 s', server.row(run).error, 1, true)
  end)

  it("counts a step that the watchdog killed as failed", function()
    server.plugin(function(workflow)
      workflow("w", { { name = "one", retries = 0, run = function() server.task.kill_running() end } })
    end)
    server.boot()
    local run = server.trigger("w")
    server.task.run(5)
    assert.equal(FAILED, server.row(run).status)
    assert.match('"code":"killed"', server.row(run).error, 1, true)
  end)

  it("goes on after kill -9 without running a finished step again", function()
    local function declare(workflow)
      workflow("w", {
        { name = "one", run = note("one", function() return 1 end) },
        { name = "two", run = note("two", function() server.task.sleep(10) return 2 end) },
        { name = "three", run = note("three", function(ctx) return ctx.results.one + ctx.results.two end) },
      })
    end
    server.plugin(declare)
    server.boot()
    local run = server.trigger("w")
    server.task.run(1)
    assert.equal(RUNNING, server.row(run).status)
    server.restart(declare)
    server.task.run(20)
    assert.same({ "one", "two", "two", "three" }, calls)
    assert.equal("3", server.row(run).output)
  end)

  it("gives up a step that ends the server again and again, with code poison", function()
    local function declare(workflow)
      workflow("w", { { name = "one", run = note("one", function() server.task.sleep(100) end) } })
    end
    server.plugin(declare)
    server.boot()
    local run = server.trigger("w")
    for _ = 1, 14 do
      server.task.run(1)
      server.restart(declare)
    end
    server.task.run(1)
    assert.equal(FAILED, server.row(run).status)
    assert.match('"code":"poison"', server.row(run).error, 1, true)
    assert.equal(11, #calls)
  end)

  it("does not count an interruption against retries", function()
    local function declare(workflow)
      workflow("w", { { name = "one", retries = 0, run = note("one", function(ctx)
        if #calls < 3 then server.task.sleep(100) end
        return ctx.attempt
      end) } })
    end
    server.plugin(declare)
    server.boot()
    local run = server.trigger("w")
    server.task.run(1)
    server.restart(declare)
    server.task.run(1)
    server.restart(declare)
    server.task.run(1)
    assert.equal("3", server.row(run).output)
  end)

  it("hands the run to the next generation at a step boundary", function()
    server.plugin(function(workflow)
      workflow("w", {
        { name = "one", run = note("one", function() server.task.current = false end) },
        { name = "two", run = note("two") },
      })
    end)
    server.boot()
    local run = server.trigger("w")
    server.task.turn()
    assert.same({ "one" }, calls)
    assert.equal(QUEUED, server.row(run).status)
    assert.is_true(#server.woken > 0)
    server.restart(function(workflow)
      workflow("w", { { name = "one", run = note("one") }, { name = "two", run = note("two", function() return "new" end) } })
    end)
    server.task.run(1)
    assert.same({ "one", "two" }, calls)
    assert.equal('"new"', server.row(run).output)
  end)

  it("gives back a run whose step the drain's end cut off, as interrupted", function()
    local task_of_run
    server.plugin(function(workflow)
      workflow("w", { { name = "one", run = function()
        task_of_run = server.task.token()
        local ok, err = server.task.sleep(100)
        if not ok then error(err, 0) end
      end } })
    end)
    server.boot()
    local run = server.trigger("w")
    server.task.turn()
    server.workflow.stop()
    server.task.kill(task_of_run, "cancelled")
    server.task.turn()
    assert.equal(QUEUED, server.row(run).status)
    assert.match('"i":["one",1,', server.store.journals[run.id][1].data, 1, true)
  end)

  it("waits for a database that is away, because the step's effect has happened", function()
    local refusals = 3
    server.store.refuse = function(kind)
      if kind == "append" and refusals > 0 then
        refusals = refusals - 1
        return require("mw.errors").new("unavailable", "the database is away")
      end
    end
    server.plugin(three)
    server.boot()
    local run = server.trigger("checkout", { amount = 1 })
    server.task.run(10)
    assert.same({ "charge", "stock", "email" }, calls)
    assert.equal(COMPLETED, server.row(run).status)
  end)

  it("stops when another owner has taken over", function()
    server.plugin(function(workflow)
      workflow("w", {
        { name = "one", run = note("one", function() server.store.rows[server.store.order[1]].fence = 7 end) },
        { name = "two", run = note("two") },
      })
    end)
    server.boot()
    server.trigger("w")
    server.task.run(5)
    assert.same({ "one" }, calls)
  end)
end)
