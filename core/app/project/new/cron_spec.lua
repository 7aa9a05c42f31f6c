-- Run with: moonwatch test spec/{{name}}_spec.lua
local testing = require "mw.testing"

describe("the job {{name}}", function()
  it("runs once a day", function()
    local app = testing.load("plugins/{{name}}.lua")
    app:advance("2d")
    local ticks = app:request("GET", "/api/v1/cron/{{name}}"):json().ticks
    assert.equal(2, #ticks)
    for _, tick in ipairs(ticks) do assert.equal("completed", tick.execution_status) end
  end)
end)
