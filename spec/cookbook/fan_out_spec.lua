-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/fan_out.lua", function()
  local app

  before_each(function() app = testing.load("plugins/fan_out.lua") end)

  it("does all it can, ten at a time, and says what it could not", function()
    local images = {}
    for i = 1, 30 do images[i] = i == 7 and "broken.png" or i .. ".png" end
    local from = app.now
    local run = app:run("fan_out", { images = images }):ok()
    assert.equal(29, #run.output.done)
    assert.same({ "broken.png" }, run.output.failed)
    assert.near(0.3, app.now - from, 0.15)
  end)

  it("takes an empty list", function() assert.same({}, app:run("fan_out", { images = {} }):ok().output.done) end)

  it("ends the same wherever the server dies", function()
    app:crash_at_each_step("fan_out", { images = { "a.png", "broken.png", "c.png" } })
  end)
end)
