-- SPDX-License-Identifier: MIT
-- Moments that come together, and plugins that do what nobody should.

local json = require "mw.core.json"
local fakes = require "support.fakes"
local PAUSED, COMPLETED, FAILED, CANCELLED = 5, 8, 9, 10
local PAUSE, CANCEL, UNDO = 1, 2, 3

describe("the engine at bad moments", function()
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

  local function undoing(name) return { undo = note("undo " .. name) } end

  local function run_of(body, opts, seconds)
    server.declare(body, opts)
    local run = server.trigger("w")
    server.task.run(seconds or 20)
    local row = server.row(run)
    return row, row.error and json.decode(row.error)
  end

  local function has_errors()
    for _, line in ipairs(server.logs) do
      if line.level == "error" then return line.message end
    end
    return false
  end

  describe("an operator's wish that comes while an attempt is being recorded", function()
    local function want_during(pattern, control)
      local done = false
      server.store.refuse = function(kind, id, _, data)
        if done or kind ~= "append" or not (data and data:find(pattern, 1, true)) then return end
        done = true
        server.row(id).control = control
        server.engine.control(id)
      end
    end

    local function body(ctx)
      ctx:step("a", note("a"), undoing("a"))
      ctx:step("b", note("b"))
    end

    it("keeps it from beginning: cancel", function()
      want_during('"a":["b"', CANCEL)
      assert.equal(CANCELLED, run_of(body).status)
      assert.same({ "a" }, calls)
    end)

    it("keeps it from beginning: cancel with undo", function()
      want_during('"a":["b"', UNDO)
      assert.equal(CANCELLED, run_of(body).status)
      assert.same({ "a", "undo a" }, calls)
    end)

    it("keeps it from beginning: pause, and it is the first attempt when the run goes on", function()
      want_during('"a":["b"', PAUSE)
      local attempt
      local row = run_of(function(ctx)
        ctx:step("a", note("a"))
        ctx:step("b", function(s) attempt = s.attempt end)
      end)
      assert.equal(PAUSED, row.status)
      assert.is_nil(attempt)
      row.control, row.status, row.due_us, row.fence = 0, 1, 0, row.fence + 1
      server.task.run(60)
      assert.equal(COMPLETED, row.status)
      assert.equal(1, attempt)
    end)

    it("keeps a branch's from beginning", function()
      want_during('"a":["all:x/b"', UNDO)
      assert.equal(CANCELLED, run_of(function(ctx)
        ctx:step("a", note("a"), undoing("a"))
        ctx:all { x = function(c) c:step("b", note("b")) end }
      end).status)
      assert.same({ "a", "undo a" }, calls)
    end)
  end)

  it("undoes at once when the deadline ends an attempt", function()
    local row, err = run_of(function(ctx)
      ctx:step("a", note("a"), undoing("a"))
      ctx:step("b", function()
        local _, why = server.task.sleep(1000)
        error(why, 0)
      end)
    end, { deadline = 5 }, 5.5)
    assert.equal(FAILED, row.status)
    assert.equal("deadline", err.code)
    assert.same({ "a", "undo a" }, calls)
    assert.is_false(has_errors())
  end)

  it("goes on undoing, all of it, when it is cancelled while it finds out what is to be undone", function()
    local plugin = server.declare(function(ctx)
      ctx:step("a", note("a"), undoing("a"))
      ctx:all { x = function(c)
        c:step("b", note("b"), { undo = function(s)
          calls[#calls + 1] = "undo b " .. s.attempt
          if s.attempt == 1 then server.task.sleep(1000) end
        end })
      end }
      error("late")
    end)
    local run = server.trigger("w")
    server.task.run(5)
    server.restart(plugin)
    server.store.refuse = function(kind)
      if kind ~= "journal" then return end
      server.row(run).control = CANCEL
      server.engine.control(run.id)
    end
    server.task.run(20)
    assert.same({ "a", "b", "undo b 1", "undo b 2", "undo a" }, calls)
    assert.equal(FAILED, server.row(run).status)
  end)

  it("finds a wish that nobody told the owner of, within seconds", function()
    server.declare(function(ctx) ctx:step("long", function() server.nap(1000) end) end)
    local run = server.trigger("w")
    local row = server.row(run)
    server.store.on_query = function(_, sql)
      return sql:find("control <> 0", 1, true) and row.status == 2 and row.control ~= 0 and { { id = run.id } } or {}
    end
    server.task.run(3)
    row.control = CANCEL
    server.task.run(12)
    assert.equal(10, row.status)
  end)

  it("lets a run sleep whose body catches that it ended and goes on until it is killed", function()
    local woken = false
    local row = run_of(function(ctx)
      if not pcall(ctx.sleep, ctx, "10s") then server.task.kill_running() end
      woken = true
    end, nil, 5)
    assert.equal(3, row.status)
    assert.is_false(woken)
    for _, line in ipairs(server.logs) do assert.not_match("another owner", line.message) end
    server.task.run(20)
    assert.equal(COMPLETED, row.status)
  end)

  it("fails a run whose last branch is killed, though the body would catch that, and undoes", function()
    local row, err = run_of(function(ctx)
      ctx:step("a", note("a"), undoing("a"))
      pcall(ctx.all, ctx, { x = function() server.task.kill_running() end })
      ctx:step("b", note("b"))
    end)
    assert.equal(FAILED, row.status)
    assert.equal("killed", err.code)
    assert.same({ "a", "undo a" }, calls)
  end)

  it("the same in a group within a branch", function()
    local row, err = run_of(function(ctx)
      ctx:step("a", note("a"), undoing("a"))
      ctx:all { o = function(c)
        pcall(c.all, c, { x = function() server.task.kill_running() end })
        c:step("b", note("b"))
      end }
    end)
    assert.equal(FAILED, row.status)
    assert.equal("killed", err.code)
    assert.same({ "a", "undo a" }, calls)
  end)

  it("refuses branches whose names are the same once they are written", function()
    local _, err = run_of(function(ctx) ctx:all { [1] = note "x", ["1"] = note "y" } end)
    assert.match("two branches 1", err.message, 1, true)
    assert.same({}, calls)
  end)

  it("refuses branches that are named by a fraction", function()
    local _, err = run_of(function(ctx) ctx:all { [0.5] = note "x" } end)
    assert.match("whole number, got 0.5", err.message, 1, true)
  end)

  it("says what is wrong when a ctx is used after its body's end, or from another run", function()
    local old, inside
    server.declare(function(ctx)
      if old then inside = select(2, pcall(old.step, old, "x", note("x"))).message end
      old = ctx
      ctx:step("a", note("a"))
    end)
    server.trigger("w")
    server.task.run(5)
    assert.match("has ended", select(2, pcall(old.now, old)).message)
    local run = server.trigger("w")
    server.task.run(5)
    assert.match("use the ctx that the function got", inside)
    assert.equal(COMPLETED, server.row(run).status)
    assert.same({ "a", "a" }, calls)
  end)
end)
