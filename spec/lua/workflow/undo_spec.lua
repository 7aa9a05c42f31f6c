-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local json = require "mw.core.json"
local SLEEPING, FAILED, CANCELLED, PAUSED = 3, 9, 10, 5

describe("compensation", function()
  local server, calls

  before_each(function() server, calls = fakes.server(), {} end)
  after_each(function() server.close() end)

  local function note(name, value)
    return function()
      calls[#calls + 1] = name
      return value
    end
  end

  local function undoing(name)
    return { undo = function(_, result) calls[#calls + 1] = "undo " .. name .. " " .. tostring(result) end }
  end

  it("undoes what was finished, in reverse, with its results, when a later step fails for good", function()
    server.declare(function(ctx)
      ctx:step("a", note("a", 1), undoing("a"))
      ctx:step("plain", note("plain"))
      ctx:step("b", note("b", 2), undoing("b"))
      ctx:step("c", function() error("no") end, { retries = 0, undo = undoing("c").undo })
    end)
    local run = server.trigger("w")
    server.task.run(5)
    assert.same({ "a", "plain", "b", "undo b 2", "undo a 1" }, calls)
    local row = server.row(run)
    assert.equal(FAILED, row.status)
    assert.same({ code = "error", message = "no", step = "c" }, { code = json.decode(row.error).code, message = json.decode(row.error).message,
      step = json.decode(row.error).step })
  end)

  it("undoes a step that failed when it may have acted", function()
    server.declare(function(ctx)
      ctx:step("c", function() error("no") end, { retries = 0, undo_on = "started", undo = undoing("c").undo })
    end)
    server.trigger("w")
    server.task.run(5)
    assert.same({ "undo c nil" }, calls)
  end)

  it("does nothing when the body handles the error", function()
    server.declare(function(ctx)
      ctx:step("a", note("a"), undoing("a"))
      pcall(ctx.step, ctx, "b", function() error("no") end, { retries = 0 })
      return "fine"
    end)
    local run = server.trigger("w")
    server.task.run(5)
    assert.same({ "a" }, calls)
    assert.equal('"fine"', server.row(run).output)
  end)

  it("goes on where it was after kill -9, and undoes nothing twice", function()
    local plugin = server.declare(function(ctx)
      ctx:step("a", note("a", 1), undoing("a"))
      ctx:step("b", note("b", 2), { undo = function(s)
        calls[#calls + 1] = "undo b, attempt " .. s.attempt
        if s.attempt == 1 then server.nap(100) end
      end })
      ctx:step("c", note("c", 3), undoing("c"))
      error("late")
    end)
    local run = server.trigger("w")
    server.task.run(5)
    assert.same({ "a", "b", "c", "undo c 3", "undo b, attempt 1" }, calls)
    server.restart(plugin)
    server.task.run(5)
    assert.same({ "a", "b", "c", "undo c 3", "undo b, attempt 1", "undo b, attempt 2", "undo a 1" }, calls)
    assert.equal(FAILED, server.row(run).status)
    assert.match("late", server.row(run).error)
  end)

  it("tries an undo again as its step, waiting without memory, and names one that fails for good without leaving out the others", function()
    server.declare(function(ctx)
      ctx:step("a", note("a"), undoing("a"))
      ctx:step("b", note("b"), { retries = 1, backoff = "1h", undo = function()
        calls[#calls + 1] = "undo b"
        error("cannot")
      end })
      error("late")
    end)
    local run = server.trigger("w")
    server.task.run(60)
    assert.equal(SLEEPING, server.row(run).status)
    server.task.run(7200)
    assert.same({ "a", "b", "undo b", "undo b", "undo a nil" }, calls)
    local err = json.decode(server.row(run).error)
    assert.equal("late", err.message:match("late"))
    assert.same({ { step = "b", code = "error", message = "cannot" } }, err.undo_failed)
  end)

  it("undoes branches in the reverse order of their ends, and children", function()
    local function plugin(workflow)
      workflow("child", function() return "out" end)
      workflow("w", function(ctx)
        ctx:all {
          a = function(c) c:step("s", function() server.nap(5) end, undoing("a")) end,
          b = function(c) c:step("s", function() server.nap(1) end, undoing("b")) end,
        }
        ctx:call("child", nil, undoing("child"))
        error("late")
      end)
    end
    server.plugin(plugin)
    server.boot()
    local run = server.trigger("w")
    server.task.run(20)
    assert.same({ "undo child out", "undo a nil", "undo b nil" }, calls)
    assert.equal(FAILED, server.row(run).status)
  end)

  it("works in a list", function()
    server.declare {
      { name = "a", run = note("a", 1), undo = undoing("a").undo },
      { sleep = 1 },
      { name = "b", run = function() error("no") end, retries = 0 },
    }
    local run = server.trigger("w")
    server.task.run(20)
    assert.same({ "a", "undo a 1" }, calls)
    assert.equal("b", json.decode(server.row(run).error).step)
  end)

  describe("and an operator", function()
    local function want(run, control)
      server.row(run).control = control
      server.engine.control(run.id)
      server.task.run(2)
    end

    local function body(ctx)
      ctx:step("a", note("a", 1), undoing("a"))
      ctx:step("b", function() server.nap(50) end, undoing("b"))
      ctx:step("c", note("c"))
    end

    it("cancels a step under way, without undoing", function()
      server.declare(body)
      local run = server.trigger("w")
      server.task.run(5)
      want(run, 2)
      assert.equal(CANCELLED, server.row(run).status)
      assert.same({ "a" }, calls)
      assert.match('"code":"cancelled"', server.row(run).error)
    end)

    it("cancels with undo", function()
      server.declare(body)
      local run = server.trigger("w")
      server.task.run(5)
      want(run, 3)
      assert.equal(CANCELLED, server.row(run).status)
      assert.same({ "a", "undo a 1" }, calls)
    end)

    it("cancels a list of plain steps, and the attempts of branches", function()
      server.declare({ { name = "a", run = function() server.nap(50) end }, { name = "b", run = note("b") } })
      local run = server.trigger("w")
      server.task.run(5)
      want(run, 2)
      assert.equal(CANCELLED, server.row(run).status)
      server.close()
      server = fakes.server()
      server.declare(function(ctx)
        ctx:all { a = function(c) c:step("s", function() server.nap(50) end) end, b = function(c) c:sleep("1d") end }
      end)
      run = server.trigger("w")
      server.task.run(5)
      want(run, 2)
      assert.equal(CANCELLED, server.row(run).status)
      assert.equal(0, (server.engine.load()))
    end)

    it("pauses at the next step, and resumes without doing anything again", function()
      server.declare(body)
      local run = server.trigger("w")
      server.task.run(5)
      want(run, 1)
      assert.equal(2, server.row(run).status)
      server.task.run(60)
      assert.equal(PAUSED, server.row(run).status)
      local row = server.row(run)
      row.control, row.status, row.due_us = 0, 1, 0
      row.fence = row.fence + 1
      server.task.run(60)
      assert.same({ "a", "c" }, calls)
      assert.equal(8, row.status)
    end)

    it("cancels a run that waits: it undoes when it is claimed", function()
      server.declare(function(ctx)
        ctx:step("a", note("a", 1), undoing("a"))
        ctx:sleep("7d")
      end)
      local run = server.trigger("w")
      server.task.run(5)
      local row = server.row(run)
      row.control, row.status, row.due_us = 3, 1, 0
      server.task.run(60)
      assert.same({ "a", "undo a 1" }, calls)
      assert.equal(CANCELLED, row.status)
    end)
  end)
end)
