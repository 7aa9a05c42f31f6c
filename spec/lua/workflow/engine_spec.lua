-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local QUEUED, RUNNING, SLEEPING, BLOCKED, COMPLETED, FAILED = 1, 2, 3, 6, 8, 9

describe("the workflow engine", function()
  local server, calls

  before_each(function()
    server, calls = fakes.server(), 0
  end)
  after_each(function() server.close() end)

  local function declare(fn)
    local function plugin(workflow)
      workflow("w", { { name = "one", run = function(ctx)
        calls = calls + 1
        return fn and fn(ctx)
      end } })
    end
    server.plugin(plugin)
    return plugin
  end

  local function count(status)
    local n = 0
    for _, row in pairs(server.store.rows) do if row.status == status then n = n + 1 end end
    return n
  end

  it("stores what it has no room for as queued, and claims it when there is", function()
    server.config["workflow.concurrency"] = "2"
    declare(function() server.task.sleep(1) end)
    server.boot()
    for _ = 1, 5 do server.trigger "w" end
    assert.equal(2, count(RUNNING))
    assert.equal(3, count(QUEUED))
    assert.equal(2, (server.engine.load()))
    server.task.run(10)
    assert.equal(5, count(COMPLETED))
    assert.equal(0, (server.engine.load()))
  end)

  it("stores as queued before it was started, and claims it then", function()
    declare()
    local run = server.trigger "w"
    assert.equal(QUEUED, server.row(run).status)
    server.boot()
    server.task.run(1)
    assert.equal(COMPLETED, server.row(run).status)
  end)

  it("finishes a run whose trigger was cancelled while it committed", function()
    declare()
    server.boot()
    local trigger_task
    server.task.spawn(function()
      trigger_task = server.task.token()
      pcall(server.workflow.trigger, "w")
    end, "request")
    server.task.kill(trigger_task, "cancelled")
    server.task.run(1)
    assert.equal(1, count(COMPLETED))
  end)

  it("stores the code before an execution is pinned to it, once", function()
    declare()
    server.boot()
    local puts, put_code = 0, server.store.put_code
    server.store.put_code = function(...)
      puts = puts + 1
      assert.equal(0, #server.store.order)
      return put_code(...)
    end
    server.trigger "w"
    server.trigger "w"
    assert.equal(1, puts)
    assert.is_string(server.store.code["bundle-1"])
  end)

  it("runs an execution on the code it began with", function()
    declare(function() server.task.sleep(10) return "old" end)
    server.boot()
    local run = server.trigger "w"
    local old = server.bundles["bundle-1"]
    server.bundle = "bundle-2"
    server.restart(function(workflow) workflow("w", { { name = "one", run = function() return "new" end } }) end)
    server.bundles["bundle-1"] = old
    server.task.run(30)
    local second = server.trigger "w"
    server.task.run(1)
    assert.equal('"old"', server.row(run).output)
    assert.equal('"new"', server.row(second).output)
  end)

  it("blocks a run whose code is not there, and says so", function()
    declare()
    local run = server.trigger "w"
    server.bundles = {}
    server.bundle = "bundle-2"
    server.restart(function(workflow) workflow("other", { { name = "one", run = function() end } }) end)
    server.task.run(1)
    assert.equal(BLOCKED, server.row(run).status)
    assert.match("no bundle", server.row(run).error, 1, true)
  end)

  it("blocks a run whose journal a newer version wrote", function()
    local plugin = declare(function() server.task.sleep(100) end)
    server.boot()
    local run = server.trigger "w"
    server.task.turn()
    server.store.journals[run.id][1] = { number = 1, data = '9\n{"future":true}' }
    server.restart(plugin)
    server.task.run(1)
    assert.equal(BLOCKED, server.row(run).status)
    assert.match("run the version that wrote it", server.row(run).error, 1, true)
  end)

  it("claims again and again while the database is away", function()
    local run
    declare()
    run = server.trigger "w"
    local refusals = 5
    server.store.refuse = function(kind)
      if kind ~= "claim" or refusals == 0 then return nil end
      refusals = refusals - 1
      return require("mw.errors").new("unavailable", "away")
    end
    server.boot()
    server.task.run(10)
    assert.equal(COMPLETED, server.row(run).status)
  end)

  it("claims nothing any more once a newer generation serves, or when it is stopped", function()
    local plugin = declare()
    server.boot()
    server.task.current = false
    local run = server.trigger "w"
    assert.equal(QUEUED, server.row(run).status)
    server.task.run(30)
    assert.equal(QUEUED, server.row(run).status)
    server.restart(plugin)
    server.workflow.stop()
    local second = server.trigger "w"
    server.task.run(30)
    assert.equal(QUEUED, server.row(second).status)
  end)

  it("does not ask the store for work when there is none, but every few seconds", function()
    declare()
    server.boot()
    server.task.run(1)
    local before = server.store.claims
    server.task.run(20)
    assert.is_true(server.store.claims - before <= 5)
  end)

  describe("mw.trigger", function()
    before_each(function()
      declare()
      server.boot()
    end)

    local function refused(...)
      local ok, err = pcall(server.trigger, ...)
      assert.is_false(ok)
      return err
    end

    it("raises with the nearest name for an unknown workflow", function()
      local err = refused("v")
      assert.equal("not_found", err.code)
      assert.equal("workflow not found: v", err.message)
    end)

    it("is one execution for the same id and input, in whatever order its names come", function()
      local a = server.trigger("w", { x = 1, y = 2, z = 3 }, { id = "k" })
      local b = server.trigger("w", { z = 3, y = 2, x = 1 }, { id = "k" })
      assert.equal(a.id, b.id)
      assert.same({ true, false }, { a.created, b.created })
      server.task.run(1)
      assert.equal(1, calls)
    end)

    it("raises conflict for the same id and another input", function()
      server.trigger("w", { x = 1 }, { id = "k" })
      local err = refused("w", { x = 2 }, { id = "k" })
      assert.equal("conflict", err.code)
      assert.equal(422, err.status)
    end)

    it("raises what the store says when it cannot take more", function()
      for _, code in ipairs { "busy", "unavailable" } do
        server.store.refuse = function(kind) return kind == "create" and require("mw.errors").new(code, "no") or nil end
        assert.equal(code, refused("w").code)
      end
      server.store.refuse = nil
      assert.equal(0, (server.engine.load()))
    end)

    it("refuses an input that is no JSON, is too large, and unknown options", function()
      assert.equal("invalid", refused("w", { f = print }).code)
      assert.equal("limit", refused("w", ("x"):rep(2 ^ 20)).code)
      assert.match("unknown option", refused("w", nil, { key = "x" }).message, 1, true)
      assert.match("1 to 255", refused("w", nil, { id = "" }).message, 1, true)
      assert.equal(0, #server.store.order)
    end)
  end)

  it("puts up for claiming what it could not end, and says so", function()
    declare()
    server.boot()
    server.store.refuse = function(kind, _, _, _, to)
      if kind == "append" and to ~= SLEEPING then return require("mw.errors").new("limit", "no") end
    end
    local run = server.trigger "w"
    server.task.turn()
    assert.equal(SLEEPING, server.row(run).status)
    assert.equal(0, (server.engine.load()))
    server.store.refuse = nil
    server.task.run(20)
    assert.equal(COMPLETED, server.row(run).status)
  end)

  it("ends a run whose failure cannot be stored", function()
    declare(function() error("broken", 0) end)
    server.boot()
    server.store.refuse = function(kind, _, number)
      if kind == "append" and number > 0 then return require("mw.errors").new("limit", "too large") end
    end
    local run = server.trigger "w"
    server.task.run(5)
    assert.equal(FAILED, server.row(run).status)
    assert.match("too large", server.row(run).error, 1, true)
    assert.equal(1, calls)
  end)

  it("goes on claiming after a round that failed", function()
    declare()
    local run = server.trigger "w"
    local claim = server.store.claim
    server.store.claim = function() error("a mistake of the engine") end
    server.boot()
    server.store.claim = claim
    server.task.run(5)
    assert.equal(COMPLETED, server.row(run).status)
  end)

  it("frees its room and tells the trigger when the task that creates dies", function()
    declare()
    server.boot()
    local create = server.store.create
    server.store.create = function() error("no memory") end
    local ok = pcall(server.trigger, "w")
    assert.is_false(ok)
    assert.equal(0, (server.engine.load()))
    server.store.create = create
    local run = server.trigger "w"
    server.task.run(1)
    assert.equal(COMPLETED, server.row(run).status)
  end)
end)
