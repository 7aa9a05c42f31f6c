-- SPDX-License-Identifier: MIT
-- Two nodes on one PostgreSQL: who has room takes the work at once, whoever was asked, and an operator's wish reaches the owner on the other node.

local engines = require "support.engines"
local proxy = require "support.proxy"
local posix = require "support.posix"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("work", { { name = "a", run = function(ctx)
    mw.sleep(ctx.input and ctx.input.seconds or 0)
    return mw.env.APP_NODE
  end } })
  mw.workflow("asks", function(ctx) return { answer = ctx:wait_for("go"), node = ctx:step("who", function() return mw.env.APP_NODE end) } end)
]==]

engines.describe_postgres("two nodes", function(engine)
  local a, b, p -- b's way to the database is a proxy

  before_each(function()
    local url = engine.fresh()
    p = proxy.start(tonumber(url:match("@[^/:]+:(%d+)")))
    local function node(name, concurrency, way)
      return server.start {
        plugins = { ["p.lua"] = plugin }, database = way, args = { "--workers", "1" }, env = { APP_NODE = name, MOONWATCH_WORKFLOW_CONCURRENCY = concurrency },
      }
    end
    a, b = node("a", "1", url), node("b", "100", p:url(url))
  end)
  after_each(function()
    for _, s in ipairs { a, b } do
      s:stop()
      s:clean()
    end
    p:stop()
  end)

  local function start(s, workflow, input, query)
    return s:post("/api/v1/executions" .. (query or ""), { json = { workflow = workflow, input = input } }).json()
  end

  it("share: what one has no room for, the other has within a moment", function()
    local long = start(a, "work", { seconds = 20 })
    for _ = 1, 5 do
      local began = server.now()
      local run = start(a, "work", nil, "?wait=10")
      assert.equal("b", run.output)
      assert.is_true(server.now() - began < 2, ("it took %.1f s"):format(server.now() - began))
    end
    a:post("/api/v1/executions/" .. long.id .. "/cancel", { json = {} })
  end)

  it("listen again after the database was away, and look once for what was said meanwhile", function()
    p:set("refuse", 1)
    assert.is_true(p:cut() > 0)
    b:wait(function() return b:get("/readyz").status == 503 end, 10, "the loss to be noticed")
    local long = start(a, "work", { seconds = 20 })
    local missed = start(a, "work")
    p:set("refuse", 0)
    b:wait(function() return b:get("/readyz").status == 200 end, 10, "readiness")
    local began = server.now()
    assert.equal("b", a:get("/api/v1/executions/" .. missed.id .. "?wait=10").json().output)
    for _ = 1, 3 do assert.equal("b", start(a, "work", nil, "?wait=10").output) end
    assert.is_true(server.now() - began < 3, ("it took %.1f s"):format(server.now() - began))
    a:post("/api/v1/executions/" .. long.id .. "/cancel", { json = {} })
  end)

  it("hear a signal that the other was given", function()
    local id = start(b, "asks").id
    b:wait(function() return b:get("/api/v1/executions/" .. id).json().status == "waiting" end, 10)
    local long = start(a, "work", { seconds = 20 })
    local began = server.now()
    a:post("/api/v1/executions/" .. id .. "/signals/go", { json = { yes = true } })
    local run = a:get("/api/v1/executions/" .. id .. "?wait=10").json()
    assert.same({ answer = { yes = true }, node = "b" }, run.output)
    assert.is_true(server.now() - began < 2, ("it took %.1f s"):format(server.now() - began))
    a:post("/api/v1/executions/" .. long.id .. "/cancel", { json = {} })
  end)

  it("cancel what the other is at work at", function()
    local id = start(b, "work", { seconds = 30 }).id
    b:wait(function() return b:get("/api/v1/executions/" .. id).json().status == "running" end, 10)
    b:pause(0.3) -- who asks within a moment of the start may wait for the owner's own look, five seconds later
    local began = server.now()
    a:post("/api/v1/executions/" .. id .. "/cancel", { json = { reason = "enough" } })
    local run = a:get("/api/v1/executions/" .. id .. "?wait=10").json()
    assert.equal("cancelled", run.status)
    assert.matches("enough", run.error.message)
    assert.is_true(server.now() - began < 2, ("it took %.1f s"):format(server.now() - began))
  end)

  it("are not harmed by one that hangs past its lease, and wakes up", function()
    local id = start(b, "work", { seconds = 4 }).id
    b:wait(function() return b:get("/api/v1/executions/" .. id).json().status == "running" end, 10)
    posix.kill(b.pid, posix.SIGSTOP)
    local run = a:wait(function() -- ten seconds of lease, and what the other needs to look
      local shown = a:get("/api/v1/executions/" .. id).json()
      return shown.finished_at and shown
    end, 40, "the other node to take over")
    posix.kill(b.pid, posix.SIGCONT)
    b:wait_log("went to another owner", 20)
    assert.equal("a", run.output)
    assert.equal("interrupted", run.steps[1].tries[1].status)
    assert.same(run, a:get("/api/v1/executions/" .. id).json())
    b:wait(function() return start(b, "work", nil, "?wait=5").output == "b" end, 20, "it to have a lease again")
  end)

  it("take over at once what a draining one hands back", function()
    local id = start(b, "work", { seconds = 1 }).id
    local waiting = {}
    for i = 1, 3 do waiting[i] = start(a, "work", { seconds = 0.2 }).id end
    a:stop()
    for _, one in ipairs(waiting) do assert.equal("completed", b:get("/api/v1/executions/" .. one .. "?wait=10").json().status) end
    assert.equal("completed", b:get("/api/v1/executions/" .. id .. "?wait=10").json().status)
    a = b
  end)
end)
