-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/drip_campaign.lua", function()
  local INPUT = { email = "ada@example.com" }
  local app

  before_each(function() app = testing.load("plugins/drip_campaign.lua") end)

  local function sent() return #app.logged end

  it("sends a mail a week", function()
    local id = app:trigger("drip_campaign", INPUT).id
    for week = 1, 4 do
      app:advance("1h")
      assert.equal(week, sent())
      app:restart() -- a deploy each week
      app:advance("7d")
    end
    local run = app:get_run(id):ok()
    assert.same({ "welcome", "first steps", "tips", "what others build" }, run.output.sent)
    assert.equal(4, sent())
  end)

  it("stops when the reader has had enough", function()
    local id = app:trigger("drip_campaign", INPUT).id
    app:advance("10d")
    app:signal(id, "unsubscribe")
    assert.same({ sent = { "welcome", "first steps" }, unsubscribed = true }, app:wait_run(id):ok().output)
  end)

  it("sends nothing twice that was recorded, wherever the server dies", function() app:crash_at_each_step("drip_campaign", INPUT) end)
end)
