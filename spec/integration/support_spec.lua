-- SPDX-License-Identifier: MIT
-- The tools of the other specs, checked against each other.

local http = require "support.http"
local posix = require "support.posix"
local server = require "support.server"
local upstream = require "support.upstream"

describe("the spec upstream", function()
  local up
  before_each(function() up = upstream.start() end)
  after_each(function() up:stop() end)

  it("counts calls and keeps their bodies", function()
    assert.equal(1, http.request("127.0.0.1", up.port, "POST", "/a", { json = { x = 1 } }).json().n)
    local conn = http.connect("127.0.0.1", up.port)
    assert.equal(2, conn:request("POST", "/a", { json = { x = 2 } }).json().n)
    assert.equal(1, conn:request("GET", "/b").json().n)
    conn:close()
    local calls = up:calls()
    assert.equal(3, #calls)
    assert.equal(2, calls[2].json.x)
    assert.equal("/b", calls[3].path)
  end)

  it("answers after its delay", function()
    up:set_delay(0.2)
    local before = posix.now()
    http.request("127.0.0.1", up.port, "GET", "/slow")
    assert.is_true(posix.now() - before >= 0.19)
  end)
end)

describe("server.command", function()
  it("returns exit code and output", function()
    local code, text = server.command { "version" }
    assert.equal(0, code)
    assert.matches("^moonwatch %d+%.%d+%.%d+\n$", text)
  end)
end)
