-- SPDX-License-Identifier: MIT
-- How many executions there are of each workflow and status, by counters; torture, model, crowd and retention specs check them too.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("quick", { { name = "a", run = function() return 1 end } })
  mw.workflow("bad", { { name = "a", retries = 0, run = function() error("no") end } })
  mw.workflow("asks", function(ctx) ctx:wait_for("go") end)
  mw.workflow("naps", function(ctx) ctx:sleep("1h") end)
  mw.workflow("lined", { { name = "a", run = function() end }, { wait_for = "go" } }, { concurrency = 1 })
  mw.post("/many", function(req, res)
    for i = 1, 300 do mw.trigger("quick") end
    res:json {}
  end)
]==]

engines.describe("totals of executions on ", function(engine)
  local s, db

  setup(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "2" } }
    db = engine_db.of(s)
  end)
  teardown(function()
    s:stop()
    s:clean()
  end)

  local function start(workflow, opts)
    local body = opts or {}
    body.workflow = workflow
    return s:post("/api/v1/executions", { json = body }).json().id
  end
  local function totals(query) return s:get("/api/v1/executions/totals" .. (query or "")).json() end
  local function of(workflow)
    local found = {}
    for _, item in ipairs(totals("?workflow=" .. workflow).items) do found[item.status] = item.total end
    return found
  end

  it("follow each change of a status", function()
    s:reach(start "quick", "completed")
    s:reach(start "bad", "failed")
    local asks = start "asks"
    s:reach(asks, "waiting")
    local naps = start "naps"
    s:reach(naps, "sleeping")
    assert.same({ { waiting = 1 }, { sleeping = 1 }, { completed = 1 }, { failed = 1 } }, { of "asks", of "naps", of "quick", of "bad" })
    s:post("/api/v1/executions/" .. naps .. "/cancel", { json = {} })
    s:post("/api/v1/executions/" .. asks .. "/signals/go", { json = {} })
    s:reach(asks, "completed")
    assert.same({ { completed = 1 }, { cancelled = 1 } }, { of "asks", of "naps" })
    db.check_totals()
  end)

  it("know who waits in line, and for a signal that was there before", function()
    local first = start("lined", { group = "g" })
    s:reach(first, "waiting")
    local second = start("lined", { group = "g" })
    assert.same({ waiting = 1, blocked = 1 }, of "lined")
    s:post("/api/v1/executions/" .. second .. "/signals/go", { json = {} })
    s:post("/api/v1/executions/" .. first .. "/signals/go", { json = {} })
    s:reach(second, "completed")
    assert.same({ completed = 2 }, of "lined")
    db.check_totals()
  end)

  it("are what a list of a workflow or a status has as its total, and what a bulk action expects", function()
    for _ = 1, 4 do s:post("/many", { json = {} }) end
    s:wait(function() return of("quick").completed == 1201 end, 20, "the runs")
    db.check_totals()
    assert.equal(1201, s:get("/api/v1/executions?workflow=quick&limit=1").json().total)
    assert.equal(totals().total, s:get("/api/v1/executions?limit=1").json().total)
    local preview = s:post("/api/v1/executions/bulk", { json = { action = "rerun", filter = { workflow = "quick" }, dry_run = true } }).json()
    assert.equal(1201, preview.matched)
  end)

  it("lie in few rows, however many statements there were", function()
    local rows = tonumber(db.value("SELECT count(*) FROM " .. (engine.url and "moonwatch." or "") .. "execution_counts"))
    assert.is_true(rows < 1000, rows .. " rows")
  end)

  it("are printed by the command line", function()
    local code, out = s:command("runs", "totals")
    assert.equal(0, code)
    assert.matches("bad +failed +1 ?\n", out)
    code, out = s:command("runs", "totals", "--where", "workflow=naps")
    assert.equal(0, code)
    assert.equal(2, select(2, out:gsub("\n", "")), out)
  end)
end)
