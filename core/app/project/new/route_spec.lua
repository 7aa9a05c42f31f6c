-- Run with: moonwatch test spec/{{name}}_spec.lua
local testing = require "mw.testing"

describe("/{{name}}", function()
  local app

  before_each(function() app = testing.load("plugins/{{name}}.lua") end)

  it("answers for an id", function()
    local res = app:request("GET", "/{{name}}/7")
    assert.equal(200, res.status)
    assert.same({ id = "7" }, res:json())
  end)

  it("takes a name and nothing else", function()
    assert.equal(201, app:request("POST", "/{{name}}", { json = { name = "Ada" } }).status)
    assert.equal(400, app:request("POST", "/{{name}}", { json = { name = 7 } }).status)
  end)
end)
