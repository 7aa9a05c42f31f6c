-- SPDX-License-Identifier: MIT
-- A flood of one workflow or of one group keeps no other waiting, and runs that sleep or wait take no memory and no time of the server.

local engines = require "support.engines"
local server = require "support.server"

local slow = (os.getenv("MW_TEST_SLOW") or "") ~= ""
local FLOOD, SLEEPERS = 800, slow and 1500 or 6000

local plugin = [==[
  local mw = require "mw"
  local function step() mw.sleep(0.05) end
  mw.workflow("flood", { { name = "a", run = step } })
  mw.workflow("gate", { { name = "a", run = step } }, { concurrency = 1 })
  mw.workflow("small", { { name = "a", run = function() return "a" end }, { name = "b", run = function() return "b" end } })
  mw.workflow("sleeps", function(ctx) ctx:step("a", function() return 1 end) ctx:sleep("1d") end)
  mw.workflow("waits", function(ctx) return ctx:wait_for("go", { timeout = "1d" }) end)
  -- Some at once, so that they share commits.
  mw.post("/many", function(req, res)
    local ask = req:json()
    local fns = {}
    for i = 1, 50 do
      fns[i] = function()
        for _ = 1, ask.count / 50 do
          while true do
            local ok, err = pcall(mw.trigger, ask.workflow, {}, { group = ask.group, delay = ask.delay })
            if ok then break end
            if err.code ~= "busy" then error(err) end
            mw.sleep(0.05)
          end
        end
        return true
      end
    end
    mw.all(fns)
    res:json { ok = true }
  end)
]==]

engines.describe("a crowd of runs on ", function(engine)
  local s

  before_each(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "1" },
      env = {
        MOONWATCH_WORKFLOW_CONCURRENCY = "10",
        ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":quarantine_size_mb=4", -- else what was freed stays with AddressSanitizer
      } }
  end)
  after_each(function()
    s:kill_all() -- nobody waits for the flood to end
    s:clean()
  end)

  local function many(ask)
    local answer = s:post("/many", { json = ask, timeout = 60 })
    assert.equal(200, answer.status, answer.body)
  end
  local function total(query) return s:get("/api/v1/executions?" .. query).json().total end
  local function small()
    local began = server.now()
    local run = s:post("/api/v1/executions?wait=20", { json = { workflow = "small", input = {} }, timeout = 30 }).json()
    assert.equal("completed", run.status)
    return server.now() - began
  end

  it("of one workflow or one group keeps no other waiting", function()
    many { workflow = "flood", count = FLOOD }
    many { workflow = "gate", group = "one", count = 150 }
    for _ = 1, 5 do
      local took = small()
      assert.is_true(took < (slow and 6 or 2), ("a run of another workflow took %.1f s"):format(took))
    end
    assert.is_true(total "workflow=flood&status=queued" > 100, "the flood was over too soon to say anything")
    assert.is_true(total "workflow=gate&status=blocked" > 100, "the group was done too soon to say anything")
  end)

  it("that sleep, wait or are not due takes no memory and no time", function()
    many { workflow = "sleeps", count = 300 } -- what the server takes for its work at all
    local before = s:memory()
    for _, ask in ipairs { { workflow = "sleeps" }, { workflow = "waits" }, { workflow = "small", delay = "1d" } } do
      ask.count = SLEEPERS / 3
      many(ask)
    end
    s:wait(function()
      local resting = total "workflow=sleeps&status=sleeping" + total "workflow=waits&status=waiting"
      return resting == SLEEPERS * 2 / 3 + 300, resting
    end, 60, "all to rest")
    local grown = s:memory() - before
    print(("%s: %d runs at rest, %.1f MB"):format(engine.name, SLEEPERS, grown / 1024 / 1024))
    -- SQLite's page cache fills up meanwhile, which is bounded: three times as many runs take hardly more.
    assert.is_true(grown < (slow and 40 or 10) * 1024 * 1024, ("%d runs at rest took %.1f MB"):format(SLEEPERS, grown / 1024 / 1024))
    local slowest = 0
    for _ = 1, 10 do slowest = math.max(slowest, small()) end
    assert.is_true(slowest < (slow and 3 or 0.5), ("a run beside them took %.2f s"):format(slowest))
  end)
end)
