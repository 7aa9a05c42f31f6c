-- SPDX-License-Identifier: MIT
-- `rate` of a workflow: how fast its runs, or those of a group, begin.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local posix = require "support.posix"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  local function note(s)
    mw.transaction(function(tx) tx:query("INSERT INTO begun (kind, at_us) VALUES ($1, $2)", { s.input.kind, math.floor(mw.now() * 1e6) }) end)
  end
  local once = { { name = "a", run = note } }
  mw.workflow("even", once, { rate = { max = 20, window = "1s" } })
  mw.workflow("bursts", once, { rate = { max = 10, window = "1s", burst = 4 } })
  mw.workflow("both", once, { rate = { max = 20, window = "1s" }, concurrency = 2 })
  mw.workflow("slow", once, { rate = { max = 1, window = "1h" } })
  mw.get("/begun", function(req, res) res:json { rows = mw.query("SELECT at_us FROM begun WHERE kind = $1 ORDER BY at_us", { req.query.kind }) } end)
  mw.get("/set_up", function(_, res) mw.query("CREATE TABLE begun (kind text, at_us bigint)") res:json {} end)
]==]

engines.describe("the rate of a group on ", function(engine)
  local nodes, s

  setup(function()
    local url = engine.fresh()
    nodes = {}
    for i = 1, url and 2 or 1 do nodes[i] = server.start { plugins = { ["p.lua"] = plugin }, database = url, args = { "--workers", "2" } } end
    s = nodes[1]
    s:get("/set_up")
  end)
  teardown(function()
    for _, node in ipairs(nodes) do
      node:stop()
      node:clean()
    end
  end)

  local function start(workflow, kind, group)
    return nodes[math.random(#nodes)]:post("/api/v1/executions", { json = { workflow = workflow, input = { kind = kind }, group = group } }).json().id
  end

  -- Starts so many and returns when each began, in microseconds after the first.
  local function begin(workflow, kind, count)
    local ids = {}
    for i = 1, count do ids[i] = start(workflow, kind, kind) end
    for _, id in ipairs(ids) do s:reach(id, "completed") end
    local rows, at = s:get("/begun?kind=" .. kind).json().rows, {}
    for i, row in ipairs(rows) do at[i] = tonumber(row.at_us) - tonumber(rows[1].at_us) end
    assert.equal(count, #at)
    return at
  end

  -- A start may be late, and makes the next seem early; so not each gap is looked at, but how many began by a time.
  local function check_never_faster(at, every_us, burst)
    for i = 1, #at do
      local soonest = math.max(0, i - burst) * every_us
      assert.is_true(at[i] > soonest - 60000, ("start %d came after %d us, not before %d"):format(i, at[i], soonest))
    end
  end

  it("spaces them evenly, on all nodes together", function()
    check_never_faster(begin("even", "even", 25), 50000, 1)
  end)

  it("lets a few begin at once after a while without any", function()
    local at = begin("bursts", "bursts", 10)
    check_never_faster(at, 100000, 4)
    assert.is_true(at[4] < 300000, "the first four took " .. at[4] .. " us")
  end)

  it("holds with concurrency, when the end of one lets the next begin", function()
    check_never_faster(begin("both", "both", 20), 50000, 1)
  end)

  it("is each group's own, and of all runs that have none", function()
    local began = posix.now()
    for _, group in ipairs { "a", "b", "c" } do s:reach(start("slow", "slow", group), "completed") end
    assert.is_true(posix.now() - began < 20)
    s:reach(start("slow", "alone"), "completed")
    local held = start("slow", "alone")
    s:reach(held, "sleeping")
    local shown = s:get("/api/v1/executions/" .. held).json()
    assert.is_truthy(shown.due_at > shown.created_at)
  end)

  it("keeps what waits for its turn over a restart, and cancels it at once", function()
    s:reach(start("slow", "kept", "kept"), "completed")
    local waits, other = start("slow", "kept", "kept"), start("slow", "kept", "kept")
    s:reach(waits, "sleeping")
    s:kill_all()
    s:restart()
    assert.equal("sleeping", s:execution(waits).status)
    s:post("/api/v1/executions/" .. waits .. "/cancel", { json = {} })
    s:reach(waits, "cancelled")
    assert.equal("sleeping", s:execution(other).status)
    local db = engine_db.of(s)
    assert.equal("1", db.value "SELECT running FROM GROUPS WHERE workflow = 'slow' AND group_key = 'kept'")
    db.check_totals()
  end)
end)
