-- SPDX-License-Identifier: MIT
-- Two nodes that write runs of the same groups, and parents and children of each other's, lock rows in one order: PostgreSQL has no deadlock to
-- find, which costs a second each.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local PLUGIN = [==[
  local mw = require "mw"
  mw.workflow("member", { { name = "a", run = function() end } }, { concurrency = 3 })
  mw.workflow("child", { { name = "a", run = function() end } })
  mw.workflow("parent", function(ctx) return ctx:map({ 1, 2, 3, 4, 5 }, function(c, i) return c:call("child", i) end) end)
  local function surely(...) while not pcall(mw.trigger, ...) do mw.sleep(0.1) end end
  mw.post("/start", function(_, res)
    for _ = 1, 30 do
      mw.spawn(function()
        for k = 1, 20 do
          surely("member", nil, { group = "g" .. math.random(100), delay = k % 4 == 0 and "50ms" or nil, id = k % 7 == 0 and mw.uuid() or nil })
          if k % 5 == 0 then surely "parent" end
        end
      end)
    end
    res:json {}
  end)
]==]
local ROUNDS, MEMBERS, PARENTS = 4, 4 * 2 * 600, 4 * 2 * 120

engines.describe_postgres("groups and families on two nodes", function(engine)
  it("do not deadlock", function()
    local database, nodes = engine.fresh(), {}
    for i = 1, 2 do nodes[i] = server.start { plugins = { ["p.lua"] = PLUGIN }, database = database, args = { "--workers", "2" } } end
    for _ = 1, ROUNDS do for _, node in ipairs(nodes) do node:post("/start", { json = {} }) end end
    -- One whose start was refused was perhaps stored, and is started again; so there may be more.
    local function all_done(workflow, least)
      local list = nodes[1]:get("/api/v1/executions/totals?workflow=" .. workflow).json()
      return #list.items == 1 and list.items[1].status == "completed" and list.total >= least
    end
    nodes[1]:wait(function() return all_done("member", MEMBERS) and all_done("parent", PARENTS) end, 60, "all to complete")
    local db = engine_db.of(nodes[1])
    db.check_totals()
    assert.equal("0", db.value "SELECT sum(running) FROM GROUPS")
    for _, node in ipairs(nodes) do node:stop() end -- a backend says what it counted when it ends
    assert.equal("0", db.value "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    for _, node in ipairs(nodes) do node:clean() end
  end)
end)
