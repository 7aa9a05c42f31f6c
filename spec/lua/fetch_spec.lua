-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("an answer of mw.fetch that is not 2xx", function()
  local app

  before_each(function()
    app = testing.load({ ["p.lua"] = [[
      local mw = require "mw"
      mw.workflow("w", { { name = "a", retries = 3, backoff = { initial = 1, factor = 1, max = 1, jitter = 0 }, run = function()
        return mw.fetch("http://up/"):ok().status
      end } })
    ]] }, { now = 1774753200 }) -- 2026-03-29T03:00:00Z
  end)

  local function took(answers)
    app:stub_fetch("GET", "http://up/", answers)
    local from = app.now
    local run = app:run("w")
    return app.now - from, run
  end

  it("says when to come again in seconds or as a date, and a step keeps to it", function()
    assert.near(30, took { { status = 503, headers = { ["retry-after"] = "30" } }, { status = 200 } }, 0.1)
    assert.near(60, took { { status = 429, headers = { ["retry-after"] = "Sun, 29 Mar 2026 03:01:30 GMT" } }, { status = 200 } }, 0.1)
    assert.near(1, took { { status = 503, headers = { ["retry-after"] = "soon" } }, { status = 200 } }, 0.1)
    assert.near(1, took { { status = 503, headers = { ["retry-after"] = "Sun, 29 Mar 2020 03:00:00 GMT" } }, { status = 200 } }, 0.1)
  end)

  it("fails a step at once when it says no for good", function()
    local seconds, run = took { { status = 404 } }
    assert.near(0, seconds, 0.1)
    assert.equal("failed", run.status)
    assert.equal(1, run.steps.a.attempts)
  end)
end)
