-- SPDX-License-Identifier: MIT
-- The imperative form on real servers: waits, signals, children, branches and compensation, with kill -9 in between.

local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("ship", {
    { name = "print", run = function(ctx) return "to " .. ctx.input.to end },
    { sleep = "1200ms" },
    { name = "hand", run = function(ctx) return ctx.results.print .. "!" end },
  })
  mw.workflow("order", function(ctx, input)
    local undone = {}
    ctx:step("reserve", function() return { id = "r1" } end, { undo = function(_, r) mw.log.info("undid " .. r.id .. " of " .. input.name) end })
    ctx:progress(1, 3, "reserved")
    local r = ctx:all {
      pack = function(c)
        c:sleep("300ms")
        return c:step("pack", function(s)
          s:progress(2, 3, "packing")
          return "packed"
        end)
      end,
      approval = function(c) return c:wait_for("approved", { timeout = "1m" }) end,
    }
    r.label = ctx:call("ship", { to = input.to })
    if input.fail then error { code = "out_of_stock", message = "there is none left", retryable = false } end
    r.each = ctx:map({ 1, 2, 3 }, function(c, n) return c:step("double", function() return n * 2 end) end)
    return r
  end)
  mw.workflow("serial", { { name = "a", run = function(ctx)
    mw.kv.set("now", (mw.kv.get("now") or 0) + 1)
    if mw.kv.get("now") > 1 then mw.kv.set("crowd", true) end
    mw.sleep(0.05)
    mw.kv.set("now", mw.kv.get("now") - 1)
    mw.kv.set("order", (mw.kv.get("order") or "") .. ctx.input .. " ")
  end } }, { ordered = true })
  mw.get("/serial", function(req, res)
    for i = 1, 9 do mw.trigger("serial", i, { group = "g" }) end
    res:json { ok = true }
  end)
  mw.get("/seen", function(req, res) res:json { order = mw.kv.get("order"), crowd = mw.kv.get("crowd") } end)
]==]

engines.describe("a workflow on ", function(engine)
  local s

  before_each(function()
    s = server.start {
      plugins = { ["work.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "2" },
    }
  end)
  after_each(function()
    s:stop()
    s:clean()
  end)

  local function trigger(input)
    return s:post("/api/trigger", { json = { name = "order", input = input } }).json().executionId
  end

  local function show(id) return s:get("/api/v1/executions/" .. id).json() end

  local function wait_status(id, wanted)
    return s:wait(function()
      local run = show(id)
      return run.status == wanted and run, id .. " is " .. run.status
    end, 20)
  end

  local function approve(id) return s:post("/api/v1/executions/" .. id .. "/signals/approved", { json = { by = "eva" } }) end

  it("waits for a signal in one branch, and for its child, while the server is killed and started again", function()
    local id = trigger { name = "one", to = "Kiel" }
    wait_status(id, "waiting")
    s:kill_all()
    s:restart()
    approve(id)
    s:pause(0.5)
    s:kill_all()
    s:restart()
    local run = wait_status(id, "completed")
    assert.same({ pack = "packed", approval = { by = "eva" }, label = "to Kiel!", each = { 2, 4, 6 } }, run.output)
  end)

  it("takes a signal that was sent before, and undoes what it did when it fails", function()
    local id = trigger { name = "two", to = "Kiel", fail = true }
    approve(id)
    local run = wait_status(id, "failed")
    assert.equal("out_of_stock", run.error.code)
    s:wait_log("undid r1 of two", 5)
  end)

  it("does many at once", function()
    local ids = {}
    for i = 1, 30 do
      ids[i] = trigger { name = "many", to = tostring(i) }
      if i % 2 == 0 then approve(ids[i]) end
    end
    for i = 1, 30, 2 do approve(ids[i]) end
    for i = 1, 30 do assert.equal("to " .. i .. "!", wait_status(ids[i], "completed").output.label) end
  end)

  it("goes one after the other in an ordered group", function()
    s:get("/serial")
    s:wait(function() return s:get("/seen").json().order == "1 2 3 4 5 6 7 8 9 ", s:get("/seen").body end, 20)
    assert.is_nil(s:get("/seen").json().crowd)
  end)
end)
