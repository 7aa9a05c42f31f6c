-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"

describe("mw.workflow", function()
  local server

  before_each(function() server = fakes.server() end)
  after_each(function() server.close() end)

  local function run() end

  local function refused(...)
    local args = { ... }
    local ok, err = pcall(server.plugin, function(workflow) workflow(unpack(args)) end)
    assert.is_false(ok)
    return err.message
  end

  it("says what is wrong with a declaration", function()
    local cases = {
      { { "", { { name = "a", run = run } } }, "non-empty string" },
      { { 7, {} }, "non-empty string" },
      { { "two words", { { name = "a", run = run } } }, "letters, digits" },
      { { "w" }, "a list of steps or a function" },
      { { "w", {} }, "has no steps" },
      { { "w", { "a" } }, "entry 1 must be a table" },
      { { "w", { { run = run } } }, "entry 1" },
      { { "w", { { name = "a" } } }, "needs run = function(ctx)" },
      { { "w", { { name = "a", run = "x" } } }, "\"run\" must be" },
      { { "w", { { name = "a", run = run }, { name = "a", run = run } } }, "declared twice" },
      { { "w", { { name = "a", run = run, retires = 1 } } }, "did you mean \"retries\"" },
      { { "w", { { name = "a", run = run, retries = -1 } } }, "between 0 and" },
      { { "w", { { name = "a", run = run, retries = 1.5 } } }, "integer" },
      { { "w", { { name = "a", run = run, timeout = 30000 } } }, "milliseconds" },
      { { "w", { { name = "a", run = run, timeout = "soon" } } }, "timeout" },
      { { "w", { { name = "a", run = run, backoff = { initail = 1 } } } }, "did you mean \"initial\"" },
      { { "w", { { name = "a", run = run, backoff = { factor = 0.5 } } } }, "at least 1" },
      { { "w", { { name = "a", run = run, backoff = { jitter = 2 } } } }, "between 0 and 1" },
      { { "w", { { name = "a", run = run, sleep = "3d" } } }, "both a `run` and a `sleep` entry" },
      { { "w", { { sleep = "soon" } } }, "sleep" },
      { { "w", { { sleep = 1, run = nil, undo = run } } }, "unknown option \"undo\"" },
      { { "w", { { wait_for = "two words" } } }, "letters, digits" },
      { { "w", { { name = "all", all = { { name = "all", run = run } } } } }, "declared twice" },
      { { "w", { { name = "a", run = run, undo_on = "always" } } }, "undo_on is" },
      { { "w", { { name = "a", run = run, non_retryable = { declined = true } } } }, "list of error codes" },
      { { "w", { { name = "a", run = run } }, { ordered = true, concurrency = 2 } }, "can only be 1" },
      { { "w", { { name = "a", run = run } }, { concurrency = 0 } }, "between 1 and" },
      { { "w", { { name = "a", run = run } }, { rate = { max = 5 } } }, 'rate is { max = 100, window = "1m" }' },
      { { "w", { { name = "a", run = run } }, { rate = { max = 0, window = "1m" } } }, "rate.max must be between 1 and" },
      { { "w", { { name = "a", run = run } }, { rate = { max = 5, window = "1m", burst = 6 } } }, "rate.burst must be between 1 and" },
      { { "w", { { name = "a", run = run } }, { rate = { max = 5, window = "400d" } } }, "rate.window must be between" },
      { { "w", { { name = "a", run = run } }, { rate = { max = 5, per = "1m" } } }, "unknown option" },
      { { "w", { { name = "a", run = run } }, { on_change = "newest" } }, "on_change is" },
      { { "w", { { name = "a", run = run } }, { keep = { complete = "3d" } } }, "did you mean \"completed\"" },
      { { "w", { name = "a", run = run } }, "there is a key" },
      { { "w", { { name = "a", run = run } }, { retry = 3 } }, "unknown option" },
    }
    for _, case in ipairs(cases) do
      local message = refused(unpack(case[1], 1, 3))
      assert.is_truthy(message:find(case[2], 1, true), message)
    end
  end)

  it("names both places when two files declare one name", function()
    server.plugin(function(workflow) workflow("w", { { name = "a", run = run } }) end)
    assert.match("declared at", refused("w", { { name = "a", run = run } }), 1, true)
  end)

  it("belongs to the top level of a plugin", function()
    local ok, err = pcall(server.workflow.define, "w", { { name = "a", run = run } })
    assert.is_false(ok)
    assert.match("top level", err.message, 1, true)
  end)

  it("gives every step the workflow's options unless it has its own", function()
    server.plugin(function(workflow)
      workflow("w", { { name = "a", run = run }, { name = "b", run = run, retries = 0, timeout = "1s", backoff = "2s" } },
        { retries = 7, timeout = "1m" })
    end)
    local steps = server.registry.workflows.w.steps
    assert.same({ 7, 60, 0.2 }, { steps[1].retries, steps[1].timeout, steps[1].backoff.initial })
    assert.same({ 0, 1, 2 }, { steps[2].retries, steps[2].timeout, steps[2].backoff.initial })
  end)

  it("tries three times more by default", function()
    server.plugin(function(workflow) workflow("w", { { name = "a", run = run } }) end)
    assert.equal(3, server.registry.workflows.w.steps[1].retries)
  end)
end)

describe("backoff", function()
  local server, backoff

  before_each(function()
    server = fakes.server()
    backoff = require "mw.workflow.backoff"
  end)
  after_each(function() server.close() end)

  it("doubles up to its maximum", function()
    server.random = 1
    local conf = backoff.parse("w", { initial = 1, max = 5 })
    local waits = {}
    for i = 1, 5 do waits[i] = backoff.delay(conf, i) end
    assert.same({ 1, 2, 4, 5, 5 }, waits)
    assert.equal(5, backoff.delay(conf, 100000))
  end)

  it("takes up to a half off, so that runs which failed together do not come back together", function()
    server.random = 0
    assert.equal(0.5, backoff.delay(backoff.parse("w", "1s"), 1))
  end)

  it("waits as long as the other server asked", function()
    assert.equal(30, backoff.delay(backoff.default, 1, { retry_after = 30 }))
    assert.equal(3600, backoff.delay(backoff.default, 1, { retry_after = 1e9 }))
  end)
end)
