-- Run with: moonwatch test spec/{{name}}_spec.lua
local testing = require "mw.testing"

describe("{{name}}", function()
  local app

  before_each(function() app = testing.load("plugins/{{name}}.lua") end)

  it("prepares a text", function()
    local result = app:step("{{name}}", "prepare", { input = { name = "Ada" } })
    assert.equal("Hello, Ada!", result.text)
  end)

  it("runs to its end, wherever the server dies", function()
    local run = app:run("{{name}}", { name = "Ada" }):ok()
    assert.is_true(run.results.deliver.delivered)
    app:crash_at_each_step("{{name}}", { name = "Ada" })
  end)
end)
