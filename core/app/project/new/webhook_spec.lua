-- Run with: moonwatch test spec/{{name}}_spec.lua
local crypto = require "mw.crypto"
local testing = require "mw.testing"

describe("the webhook {{name}}", function()
  local app

  before_each(function() app = testing.load("plugins/{{name}}.lua", { env = { APP_{{NAME}}_SECRET = "s3cret" } }) end)

  local function send(body, signature)
    return app:request("POST", "/webhooks/{{name}}", {
      body = body, headers = { ["content-type"] = "application/json", ["x-signature"] = signature },
    })
  end

  it("takes what is signed", function()
    local body = '{"id":"evt_1"}'
    assert.equal(202, send(body, "sha256=" .. crypto.hmac("sha256", "s3cret", body)).status)
    assert.equal("evt_1", app.triggered[1].external_id)
  end)

  it("refuses what is not", function()
    assert.equal(401, send('{"id":"evt_1"}', "sha256=00").status)
    assert.equal(401, send('{"id":"evt_1"}').status)
    assert.equal(0, #app.triggered)
  end)

  it("handles an event", function()
    assert.equal("evt_1", app:step("{{name}}", "handle", { input = { id = "evt_1" } }).handled)
  end)
end)
