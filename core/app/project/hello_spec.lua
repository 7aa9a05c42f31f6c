-- Run with: moonwatch test
local testing = require "mw.testing"

describe("hello", function()
  local app

  before_each(function() app = testing.load("plugins/hello.lua") end)

  it("greets by name", function()
    local res = app:request("GET", "/hello?name=Ada")
    assert.equal(200, res.status)
    assert.same({ hello = "Ada" }, res:json())
  end)

  it("composes a greeting", function()
    local result = app:step("greet", "compose", { input = { name = "Ada" } })
    assert.equal("Hello, Ada!", result.text)
  end)
end)
