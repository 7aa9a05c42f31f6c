-- SPDX-License-Identifier: MIT
-- `moonwatch runs list|show|journal|wait`, as somebody at a terminal has them.

local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("quick", { { name = "a", run = function() return 1 end } })
  mw.workflow("bad", { { name = "boom", retries = 1, backoff = { initial = "10ms" }, run = function() error { code = "jam", message = "paper jam" } end } })
  mw.workflow("asks", { { name = "a", run = function() return 1 end }, { wait_for = "go", timeout = "1h" } })
]==]

describe("moonwatch runs", function()
  local s, quick, bad, asks

  local function start(workflow) return s:post("/api/v1/executions", { json = { workflow = workflow, tags = { workflow } } }).json().id end

  setup(function()
    s = server.start { plugins = { ["p.lua"] = plugin } }
    quick, bad, asks = start "quick", start "bad", start "asks"
    s:get("/api/v1/executions/" .. bad .. "?wait=10")
    s:wait(function() return s:get("/api/v1/executions/" .. asks).json().status == "waiting" end, 10)
  end)
  teardown(function()
    s:stop()
    s:clean()
  end)

  local function runs(...)
    local code, text = s:command("runs", ...)
    return text, code
  end

  it("lists what a condition finds, in pages", function()
    local out, code = runs("list", "--where", "status=failed,waiting")
    assert.equal(0, code)
    assert.is_truthy(out:find(bad .. " failed", 1, true))
    assert.is_truthy(out:find("paper jam", 1, true))
    assert.is_truthy(out:find(asks .. " waiting", 1, true))
    assert.is_falsy(out:find(quick, 1, true))
    out, code = runs("list", "--limit", "1")
    assert.equal(0, code)
    assert.matches("%-%-cursor " .. asks:gsub("-", "%%-"), out)
    assert.is_truthy(runs("list", "--limit", "1", "--cursor", asks):find(bad, 1, true), out)
    assert.matches("No execution", (runs("list", "--where", "tag=none")))
    assert.equal('{"items":[', runs("list", "--json"):sub(1, 10))
  end)

  it("says what is wrong with a condition", function()
    local err, code = runs("list", "--where", "stauts=failed")
    assert.equal(1, code)
    assert.matches('did you mean "status"', err)
    assert.equal(2, select(2, runs("list", "--where", "failed")))
    assert.equal(2, select(2, runs("show", "nonsense")))
  end)

  it("shows one, with its attempts and what it waits for", function()
    local out = runs("show", bad)
    assert.matches("boom +step +failed", out)
    assert.matches("attempt 1 failed", out)
    out = runs("show", asks)
    assert.matches("waits for the signal go until 20%d%d", out)
    assert.matches("a +step +completed", out)
  end)

  it("shows a journal", function() assert.matches('{"r":%["a",1,', (runs("journal", asks))) end)

  it("waits for the end, and tells by its exit code how it was", function()
    assert.equal(0, select(2, runs("wait", quick)))
    assert.equal(1, select(2, runs("wait", bad)))
    local err, code = runs("wait", asks, "--timeout", "0")
    assert.equal(1, code)
    assert.matches("is waiting", err)
    runs("signal", asks, "go")
    assert.equal(0, select(2, runs("wait", asks)))
  end)
end)
