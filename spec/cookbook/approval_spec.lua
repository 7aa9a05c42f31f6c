-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/approval.lua", function()
  local INPUT = { who = "eva", amount = 900 }
  local app

  before_each(function() app = testing.load("plugins/approval.lua") end)

  local function messages()
    local list = {}
    for i, line in ipairs(app.logged) do list[i] = line.message end
    return list
  end

  it("pays what was approved, days later and after a restart", function()
    local id = app:trigger("approval", INPUT).id
    app:advance("1d")
    assert.equal("waiting", app:get_run(id).status)
    app:restart()
    app:signal(id, "decision", { approved = true, by = "max" })
    local run = app:wait_run(id):ok()
    assert.same({ paid = true, by = "max" }, run.output)
    assert.same({ "asked for approval", "paid" }, messages())
  end)

  it("takes a decision that was faster than the question", function()
    local id = app:trigger("approval", INPUT).id
    app:signal(id, "decision", { approved = false })
    assert.same({ paid = false, why = "refused" }, app:wait_run(id):ok().output)
  end)

  it("reminds after two days, and gives up after a week", function()
    local from = app.now
    local run = app:run("approval", INPUT):ok()
    assert.same({ paid = false, why = "nobody answered" }, run.output)
    assert.same({ "asked for approval", "reminded" }, messages())
    assert.near(7 * 86400, app.now - from, 5)
  end)

  it("takes the same way wherever the server dies", function() app:crash_at_each_step("approval", INPUT) end)
end)
