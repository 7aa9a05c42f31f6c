-- SPDX-License-Identifier: MIT
-- Pausing a workflow, or everything.

local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("quick", { { name = "a", run = function() return 1 end } })
  mw.workflow("other", { { name = "a", run = function() return 1 end } })
  mw.workflow("undoes", function(ctx)
    for _, name in ipairs { "one", "two", "three" } do
      ctx:step(name, function() end, { undo = function() mw.sleep(0.01) mw.kv.incr("undone") end })
    end
    ctx:wait_for("go")
  end)
  mw.get("/undone", function(req, res) res:json { n = tonumber(mw.kv.get("undone") or 0) } end)
  mw.workflow("slow", { { name = "a", run = function() mw.sleep(0.3) end }, { name = "b", run = function() end } })
]==]

engines.describe("a pause on ", function(engine)
  local s

  local function serve(args)
    s = server.start {
      plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = args or { "--workers", "2" },
    }
  end
  after_each(function()
    s:stop()
    s:clean()
  end)

  local function start(workflow) return s:post("/api/v1/executions", { json = { workflow = workflow } }).json().id end
  local function status(id, wait) return s:get("/api/v1/executions/" .. id .. "?wait=" .. (wait or 0)).json().status end
  local function post(path) return s:post("/api/v1/" .. path, { json = {} }) end

  it("of a workflow queues its starts, and no other's", function()
    serve()
    assert.same({ workflow = "quick", paused = true, changed = true }, post("workflows/quick/pause").json())
    assert.is_false(post("workflows/quick/pause").json().changed)
    local held, free = start "quick", start "other"
    assert.equal("completed", status(free, 5))
    assert.equal("queued", status(held, 0.3))
    local shown = s:get("/api/v1/workflows").json().items
    assert.equal("quick", shown[2].name)
    assert.is_string(shown[2].paused_by)
    local began = server.now()
    post "workflows/quick/resume"
    assert.equal("completed", status(held, 10))
    assert.is_true(server.now() - began < 2)
    assert.equal(404, post("workflows/quikc/pause").status)
  end)

  it("of everything stops runs at their next step, and holds over a restart", function()
    serve()
    local id = start "slow"
    s:wait(function() return status(id) == "running" end, 5)
    post "pause"
    s:wait(function() return status(id) == "queued" end, 5)
    s:kill_all()
    s:restart()
    assert.equal("queued", status(id, 0.3))
    assert.is_string(s:get("/api/v1/workflows").json().paused_by)
    post "resume"
    assert.equal("completed", status(id, 10))
  end)

  for _, what in ipairs { "workflows/undoes/pause", "pause" } do
    it("lets a cancelled run undo its steps (" .. what .. ")", function()
      serve()
      local id, kept = start "undoes", start "undoes"
      s:wait(function() return status(id) == "waiting" and status(kept) == "waiting" end, 5)
      post(what)
      s:post("/api/v1/executions/" .. kept .. "/signals/go", { json = {} })
      assert.equal(200, s:post("/api/v1/executions/" .. id .. "/cancel", { json = { undo = true } }).status)
      assert.equal("cancelled", status(id, 5))
      assert.equal(3, s:get("/undone").json().n)
      assert.equal("queued", status(kept))
    end)
  end

  it("from the start runs nothing until it is taken back", function()
    serve { "--workers", "2", "--paused" }
    local id = start "quick"
    assert.equal("queued", status(id, 0.3))
    local code, text = s:command("workflows", "list")
    assert.equal(0, code)
    assert.matches("Everything is paused, by serve %-%-paused", text)
    code, text = s:command("workflows", "resume", "--all")
    assert.equal("everything goes on\n", text)
    assert.equal(0, code)
    assert.equal("completed", status(id, 10))
    assert.equal(2, (s:command("workflows", "pause")))
    code, text = s:command("workflows", "pause", "quick")
    assert.equal("quick is paused\n", text)
    assert.equal(0, code)
  end)
end)
