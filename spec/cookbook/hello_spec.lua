-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/hello.lua", function()
  it("greets, at the time the spec says", function()
    local app = testing.load("plugins/hello.lua", { now = 1000 })
    assert.same({ hello = "Ada", at = 1000 }, app:request("GET", "/hello", { query = { name = "Ada" } }):json())
    assert.equal("world", app:request("GET", "/hello"):json().hello)
  end)
end)
