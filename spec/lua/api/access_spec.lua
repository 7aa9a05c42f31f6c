-- SPDX-License-Identifier: MIT

local exchange = require "support.fakes.exchange"
local fakes = require "support.fakes"

local JSON = { ["content-type"] = "application/json" }

describe("access to the built-in surfaces", function()
  local server, api

  before_each(function()
    server = fakes.server()
    api = require "mw.api"
    server.plugin(function(workflow) workflow("w", { { name = "one", run = function() end } }) end)
    server.boot()
  end)
  after_each(function() server.close() end)

  local function send(method, path, opts, listener)
    return exchange.send(server, api.routes(listener or "main"), method, path, opts)
  end

  local function headers(more)
    local all = {}
    for name, value in pairs(JSON) do all[name] = value end
    for name, value in pairs(more) do all[name] = value end
    return all
  end

  describe("without a token", function()
    it("serves this machine", function()
      assert.equal(200, send("GET", "/api/v1/workflows").status)
      assert.equal(200, send("POST", "/api/trigger", { headers = JSON, body = '{"name":"w"}' }).status)
    end)

    it("takes every way to write a loopback Host", function()
      for _, host in ipairs { "localhost", "localhost:9400", "127.0.0.1:9400", "[::1]:9400", "LOCALHOST:1", "app.localhost:9400", "127.1.2.3" } do
        assert.equal(200, send("GET", "/api/v1/workflows", { headers = { host = host } }).status, host)
      end
    end)

    it("refuses a foreign Host, and says how to allow it", function()
      for _, host in ipairs { "evil.example", "evil.example:9400", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:9400" } do
        local answer = send("GET", "/api/v1/workflows", { headers = { host = host } })
        assert.equal(403, answer.status, host)
        assert.match("Host", answer.body.detail, 1, true)
        assert.match("--token", answer.body.hint, 1, true)
      end
    end)

    it("refuses a foreign Origin", function()
      for _, origin in ipairs { "https://evil.example", "null", "http://localhost.evil.example" } do
        local answer = send("GET", "/api/v1/workflows", { headers = { origin = origin } })
        assert.equal(403, answer.status, origin)
        assert.match("origin", answer.body.detail, 1, true)
      end
      assert.equal(200, send("GET", "/api/v1/workflows", { headers = { origin = "http://localhost:9400" } }).status)
    end)

    it("refuses content types that a form can send, in the sidecar's shape there", function()
      for _, kind in ipairs { "application/x-www-form-urlencoded", "text/plain;charset=utf-8", "multipart/form-data; boundary=x" } do
        local answer = send("POST", "/api/trigger", { headers = { ["content-type"] = kind }, body = '{"name":"w"}' })
        assert.equal(415, answer.status, kind)
        assert.match("application/json", answer.body.error, 1, true)
      end
      assert.equal(415, send("POST", "/api/v1/reload", {}).status)
      assert.equal(0, #server.store.order)
    end)

    it("refuses other machines", function()
      assert.equal(403, send("GET", "/api/v1/workflows", { ip = "192.168.1.5" }).status)
    end)
  end)

  describe("with a token", function()
    before_each(function() server.token = "s3cret" end)

    it("answers 401 in the sidecar's shape without it, or with another", function()
      for _, value in ipairs { "", "Bearer wrong", "Bearer", "Basic czNjcmV0", "s3cret" } do
        local answer = send("POST", "/api/trigger", { headers = headers { authorization = value }, body = '{"name":"w"}' })
        assert.equal(401, answer.status, value)
        assert.same({ error = { code = "unauthorized", message = "Unauthorized" } }, answer.body)
      end
    end)

    it("answers a problem on /api/v1", function()
      local answer = send("GET", "/api/v1/workflows")
      assert.equal(401, answer.status)
      assert.match("Bearer", answer.body.hint, 1, true)
      assert.match("Bearer", answer.headers["www-authenticate"], 1, true)
    end)

    it("lets the right one in, from anywhere and for any Host", function()
      local answer = send("POST", "/api/trigger", {
        headers = headers { authorization = "Bearer s3cret", host = "moonwatch.example", origin = "https://app.example" }, ip = "10.1.2.3",
        body = '{"name":"w"}',
      })
      assert.equal(200, answer.status)
    end)

    it("leaves probes and health open, without details", function()
      assert.equal(200, send("GET", "/livez", { ip = "10.0.0.1" }).status)
      assert.same({ status = "ok", sidecar = "flowwatch" }, send("GET", "/api/health").body)
      assert.same({ status = "ready" }, send("GET", "/readyz").body)
      assert.is_table(send("GET", "/readyz", { headers = { authorization = "Bearer s3cret" } }).body.reasons)
    end)

    it("takes it as a password on /ops", function()
      assert.equal(401, send("GET", "/ops").status)
      assert.match("Basic", send("GET", "/ops").headers["www-authenticate"], 1, true)
      assert.equal(200, send("GET", "/ops", { headers = { authorization = "Bearer s3cret" } }).status)
    end)

    it("asks for nothing on the control socket", function()
      assert.equal(200, send("GET", "/api/v1/workflows", { ip = "" }, "control").status)
    end)
  end)

  it("offers nothing but probes on the app listener", function()
    local patterns = {}
    for _, route in ipairs(api.routes("app")) do patterns[#patterns + 1] = route.pattern end
    assert.same({ "/livez", "/readyz" }, patterns)
  end)

  it("names a known scope for every built-in endpoint that is not open, and has none without an endpoint", function()
    local scopes, used = require "mw.access.scopes", { ["*"] = true }
    for _, endpoint in ipairs(api.endpoints) do
      local what = endpoint.method .. " " .. endpoint.pattern
      if endpoint.access ~= "open" then
        assert.truthy(endpoint.scope == "any" or scopes.known[endpoint.scope or ""],
          what .. " has no scope; give it one of lua/mw/access/scopes.lua, or \"any\"")
        used[endpoint.scope] = true
      end
    end
    for name in pairs(scopes.known) do assert.is_true(used[name], "no endpoint needs the scope " .. name) end
  end)

  it("tells a browser without a session what to do", function()
    local answer = send("GET", "/ops")
    assert.equal(401, answer.status)
    assert.match("moonwatch login", answer.text, 1, true)
    assert.equal(403, send("GET", "/ops", { headers = { host = "evil.example" } }).status)
  end)

  it("has its scopes named on the page about security and in the help of `moonwatch keys`", function()
    local page = require("support.posix").read_file "docs/security.md"
    local _, help = require("support.server").command { "help", "keys" }
    for _, scope in ipairs(require("mw.access.scopes").list) do
      assert.truthy(page:find("| `" .. scope[1] .. "` | " .. scope[2], 1, true), "docs/security.md has no row of the scope " .. scope[1])
      assert.truthy(help:find(scope[1], 1, true), "moonwatch help keys does not name the scope " .. scope[1])
    end
  end)
end)
