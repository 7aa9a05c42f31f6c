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

  it("delivers a greeting, and loses nothing in a crash", function()
    local id = app:request("POST", "/greetings", { json = { name = "Ada" } }):json().executionId
    local run = app:get_run(id):ok()
    assert.equal("Hello, Ada!", run.results.compose.text)
    assert.equal("greeting", app.logged[1].message)
    app:crash_at_each_step("greet", { name = "Ada" })
  end)
end)
