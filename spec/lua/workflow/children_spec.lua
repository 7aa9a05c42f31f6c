-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local json = require "mw.core.json"
local WAITING, COMPLETED, FAILED = 4, 8, 9

describe("children of a run", function()
  local server, calls

  before_each(function() server, calls = fakes.server(), {} end)
  after_each(function() server.close() end)

  local function start(parent, child, opts)
    local function plugin(workflow)
      workflow("parent", parent)
      if child then workflow("child", child, opts) end
    end
    server.plugin(plugin)
    server.boot()
    return plugin
  end

  local function child_of(run)
    for _, id in ipairs(server.store.order) do
      local row = server.store.rows[id]
      if row.parent == run.id then return row end
    end
  end

  local function ship(ctx)
    return ctx:step("ship", function()
      calls[#calls + 1] = "ship"
      server.nap(10)
      return { to = ctx.input.to }
    end)
  end

  it("are waited for by ctx:call, with the parent out of memory", function()
    start(function(ctx)
      local label = ctx:call("child", { to = "Kiel" })
      return { label = label, same = ctx.results.child }
    end, ship)
    local run = server.trigger("parent")
    server.task.run(5)
    assert.equal(WAITING, server.row(run).status)
    assert.equal(run.id, child_of(run).parent)
    assert.equal(1, (server.engine.load()))
    server.task.run(30)
    assert.same({ label = { to = "Kiel" }, same = { to = "Kiel" } }, json.decode(server.row(run).output))
  end)

  it("are not started a second time when the parent is killed at any commit", function()
    local plugin = start(function(ctx) return ctx:call("child", { to = 1 }) end, ship)
    for commits = 1, 8 do
      server.close()
      server = fakes.server()
      calls = {}
      server.plugin(plugin)
      server.boot()
      local run
      server.store.refuse = function(kind)
        if (kind == "append" or kind == "create") and server.store.commits >= commits then
          return require("mw.errors").new("unavailable", "away")
        end
      end
      server.task.spawn(function() run = server.workflow.trigger("parent") end, "trigger")
      server.task.run(20)
      server.restart(plugin)
      server.task.run(60)
      local count = 0
      for _, id in ipairs(server.store.order) do
        if server.store.rows[id].workflow == "child" then count = count + 1 end
        assert.equal(COMPLETED, server.store.rows[id].status)
      end
      assert.is_true(count == 1, ("killed after %d commits: %d children"):format(commits, count))
      assert.is_not_nil(run)
    end
  end)

  it("are started when the step before them is durable", function()
    local durable
    start(function(ctx)
      ctx:step("before", function() return 1 end)
      ctx:call("child")
    end, function() end)
    server.store.refuse = function(kind, name)
      if kind == "create" and name == "child" then durable = #server.store.journals[server.store.order[1]] end
    end
    server.trigger("parent")
    server.task.run(5)
    assert.equal(1, durable)
  end)

  it("give their error to the parent, which may catch it", function()
    start(function(ctx)
      local ok, err = pcall(ctx.call, ctx, "child")
      return { ok, err.code, err.message, err.child ~= nil }
    end, function() error { code = "lost", message = "gone", retryable = false } end)
    local run = server.trigger("parent")
    server.task.run(10)
    assert.equal('[false,"lost","gone",true]', server.row(run).output)
  end)

  it("that no plugin declares are an error, which is recorded", function()
    start(function(ctx)
      local ok, err = pcall(ctx.call, ctx, "chidl")
      ctx:step("long", function() server.nap(1) end)
      return { ok, err.code }
    end)
    local run = server.trigger("parent")
    server.task.run(10)
    assert.equal('[false,"not_found"]', server.row(run).output)
  end)

  it("are called beside each other by the branches of ctx:map", function()
    start(function(ctx)
      return ctx:map({ 1, 2, 3 }, function(c, n) return c:call("child", n).to end)
    end, function(ctx)
      return ctx:step("s", function()
        server.nap(10)
        return { to = ctx.input * 2 }
      end)
    end)
    local run = server.trigger("parent")
    server.task.run(40)
    assert.equal("[2,4,6]", server.row(run).output)
  end)

  it("are started and left alone by ctx:trigger, once", function()
    local plugin = start(function(ctx)
      local a = ctx:trigger("child", { to = 1 }, { tags = { "x" }, delay = "1m" })
      ctx:step("long", function() server.nap(100) end)
      return a.id
    end, ship)
    local run = server.trigger("parent")
    server.task.run(5)
    server.restart(plugin)
    server.task.run(300)
    assert.same({ "ship" }, calls)
    assert.equal(2, #server.store.order)
    assert.equal('"' .. child_of(run).id .. '"', server.row(run).output)
    assert.is_nil(child_of(run).parent_key)
    assert.equal('["x"]', child_of(run).tags)
  end)

  it("take entries of a list as their parents", function()
    local function plugin(workflow)
      workflow("parent", {
        { name = "a", run = function() return 2 end },
        { call = "child", input = function(ctx) return { to = ctx.results.a } end },
        { name = "b", run = function(ctx) return ctx.results.child.to + 1 end },
      })
      workflow("child", { { name = "c", run = function(ctx) return { to = ctx.input.to * 10 } end } })
    end
    server.plugin(plugin)
    server.boot()
    local run = server.trigger("parent")
    server.task.run(10)
    assert.equal("21", server.row(run).output)
    assert.equal(FAILED, 9)
  end)

  it("that were cancelled with their parent do not fail it, also when it has not heard of that yet", function()
    start(function(ctx)
      return ctx:all {
        a = function(c) return c:step("long", function() server.nap(60) end) end,
        b = function(c) return c:call("child", {}) end,
      }
    end, function(ctx) return ctx:wait_for("never") end)
    local run = server.trigger("parent")
    server.task.run(5)
    local row = server.row(run)
    assert.equal(2, row.status)
    row.control, row.error = 2, '{"code":"cancelled","message":"cancelled by eve"}'
    server.task.call(server.store.signal, run.id, "$child:all:b/child", '{"status":"cancelled","output":null,"error":{"code":"cancelled","message":"x"}}')
    server.task.run(100)
    assert.equal(10, row.status)
    assert.equal("cancelled by eve", json.decode(row.error).message)
  end)

  it("go with a cancelled parent before it ends, and again when that could not be done", function()
    start(function(ctx) ctx:step("long", function() server.nap(60) end) end)
    local run, seen = server.trigger("parent"), {}
    server.engine.on_cancelled = function(id)
      seen[#seen + 1] = { id, server.row(run).status }
      if #seen == 1 then error("the database is away") end
    end
    server.task.run(5)
    local row = server.row(run)
    row.control, row.error = 2, '{"code":"cancelled","message":"cancelled by eve"}'
    server.task.call(server.engine.control, run.id)
    server.task.run(200)
    assert.same({ { run.id, 2 }, { run.id, 2 } }, seen)
    assert.equal(10, row.status)
  end)
end)
