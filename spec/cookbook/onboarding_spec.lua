-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/onboarding.lua", function()
  local INPUT = { email = "ada@example.com", lists = { "news", "closed", "tips" } }
  local app

  before_each(function() app = testing.load("plugins/onboarding.lua") end)

  it("leaves out the list that takes nobody", function()
    local run = app:run("onboarding", INPUT):ok()
    assert.same({ "news", "tips" }, run.output.lists)
    assert.equal("failed", run.steps["subscribe#2"].status)
    assert.equal("not subscribed", app.logged[1].message)
  end)

  it("goes the same way from its journal, and after a crash anywhere", function()
    app:replay(app:run("onboarding", INPUT))
    -- the user's id is drawn in a step: a step that is called again draws another
    app:crash_at_each_step("onboarding", INPUT, { output = false, check = function(run) assert.same({ "news", "tips" }, run.output.lists) end })
  end)
end)
