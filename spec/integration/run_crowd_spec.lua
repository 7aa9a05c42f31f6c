-- SPDX-License-Identifier: MIT
-- Many operators at once on parents with children and branches, on both engines: nobody is left over, and nothing ends otherwise than it was told.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("child", {
    { name = "one", run = function() mw.sleep(math.random() * 0.1) end }, { name = "two", run = function() mw.sleep(math.random() * 0.05) end },
  })
  mw.workflow("parent", function(ctx)
    ctx:step("book", function() end, { undo = function() mw.sleep(0.01) end })
    ctx:map({ 1, 2, 3, 4, 5 }, function(c) return c:call("child", nil, { name = "child" }) end)
    ctx:sleep("1h")
  end)
  mw.post("/start", function(_, res)
    local ids = mw.array {}
    for i = 1, 30 do ids[i] = mw.trigger("parent").id end
    res:json { ids = ids }
  end)
]==]

local WHAT = { "cancel", "pause", "cancel", "resume", "retry", "cancel" }

engines.describe("many operators on ", function(engine)
  it("act all at once", function()
    local s = server.start { plugins = { ["p.lua"] = plugin }, args = { "--workers", "2" }, database = engine.fresh() }
    local db = engine_db.of(s)
    local ids = s:post("/start", { json = {} }).json().ids
    local clients = {}
    for c = 1, 6 do
      clients[c] = function()
        for i = c, #ids, 3 do
          local answer = s:post("/api/v1/executions/" .. ids[i] .. "/" .. WHAT[(i + c) % #WHAT + 1], { json = {} })
          if answer.status ~= 200 and answer.status ~= 409 then return answer.status .. " " .. answer.body end
          if i % 4 == 0 then s:post("/api/v1/executions/" .. ids[i] .. "/cancel", { json = { undo = true } }) end
        end
        return "fine"
      end
    end
    for _, outcome in ipairs(s:concurrently(clients)) do assert.equal("fine", outcome) end
    s:wait(function() -- a cancelled, paused or sleeping parent is at rest, its children have ended or are its own
      return db.run "SELECT count(*) FROM EXECUTIONS WHERE status IN (1, 2, 4)" == "0", db.run "SELECT workflow, status, count(*) FROM EXECUTIONS GROUP BY 1, 2"
    end, 20, "all to come to rest")
    assert.equal("0", db.run "SELECT count(*) FROM EXECUTIONS WHERE status = 9")
    assert.equal("0", db.run "SELECT count(*) FROM EXECUTIONS c JOIN EXECUTIONS p ON c.parent = p.id WHERE p.status = 10 AND c.status < 8")
    db.check_totals()
    assert.is_nil(s:log():find("went to another owner", 1, true))
    assert.is_nil(s:log():find('"level":"error"', 1, true))
    local began = server.now()
    s:stop()
    assert.is_true(server.now() - began < 15, "something was left, and the drain waited for it")
  end)
end)
