-- SPDX-License-Identifier: MIT

local http = require "support.http"
local posix = require "support.posix"
local server = require "support.server"

local plugins = { ["p.lua"] = [[
  local mw = require "mw"
  mw.get("/me", function(req, res)
    res:cookie("c", "1"):json { ip = req.ip, peer = req.peer, via = req.via, scheme = req.scheme, host = req.host }
  end)
]] }

local function me(s, headers)
  local answer = s:get("/me", { headers = headers })
  return answer.json(), answer.headers["set-cookie"]
end

describe("a server without trusted proxies", function()
  local s
  setup(function() s = server.start { plugins = plugins } end)
  teardown(function() s:stop() end)

  it("ignores what such headers say", function()
    local host = "127.0.0.1:" .. s.port
    assert.same({ ip = "127.0.0.1", peer = "127.0.0.1", scheme = "http", host = host }, (me(s, { host = host, ["x-forwarded-for"] = "203.0.113.9",
      ["x-forwarded-proto"] = "https", ["x-forwarded-host"] = "shop.example", forwarded = "for=203.0.113.9" })))
  end)
  it("lets no request into the API that a proxy marked, since the world may stand behind it", function()
    assert.equal(200, s:get("/api/v1/workflows").status)
    for name, value in pairs { ["x-forwarded-for"] = "127.0.0.1", forwarded = "for=127.0.0.1", ["x-real-ip"] = "127.0.0.1", via = "1.1 proxy" } do
      local answer = s:get("/api/v1/workflows", { headers = { [name] = value } })
      assert.equal(403, answer.status, name)
      assert.matches("came through a proxy", answer.json().detail, 1, true)
      assert.matches("http.trusted_proxies", answer.json().hint, 1, true)
    end
  end)
end)

describe("a trusted proxy", function()
  local s
  setup(function()
    s = server.start { plugins = plugins, config = [[return { http = { trusted_proxies = { "127.0.0.1", "10.0.0.0/8" } } }]] }
  end)
  teardown(function() s:stop() end)

  it("names client, scheme and host", function()
    local told, cookie = me(s, { ["x-forwarded-for"] = "127.0.0.1, 203.0.113.9, 10.0.0.7", ["x-forwarded-proto"] = "https",
      ["x-forwarded-host"] = "shop.example" })
    assert.same({ ip = "203.0.113.9", peer = "127.0.0.1", via = "proxy", scheme = "https", host = "shop.example" }, told)
    assert.matches("; Secure", cookie, 1, true)
  end)
  it("that names nobody who can be read leaves its own address", function()
    local told = me(s, { ["x-forwarded-for"] = "nobody", host = "shop.example" })
    assert.same({ ip = "127.0.0.1", peer = "127.0.0.1", via = "unknown", scheme = "http", host = "shop.example" }, told)
  end)
  it("makes nobody local but a client at this machine", function()
    local function status(headers) return s:get("/api/v1/workflows", { headers = headers }).status end
    assert.equal(403, status { ["x-forwarded-for"] = "203.0.113.9" })
    assert.equal(403, status { ["x-forwarded-for"] = "127.0.0.1, 203.0.113.9" })
    assert.equal(403, status { ["x-forwarded-for"] = "garbage" })
    assert.equal(403, status {})
    assert.equal(403, status { ["x-forwarded-for"] = "10.0.0.9" })
    assert.equal(200, status { ["x-forwarded-for"] = "127.0.0.1" })
    assert.equal(403, status { ["x-forwarded-for"] = "127.0.0.1", ["x-forwarded-host"] = "evil.example" })
    assert.equal(403, status { ["x-forwarded-for"] = "127.0.0.1", host = "evil.example", ["x-forwarded-host"] = "localhost" })
    assert.matches("does not say whom", s:get("/api/v1/workflows").json().detail, 1, true)
    assert.equal(200, s:control("GET", "/api/v1/workflows").status)
  end)
end)

describe("a Unix socket with http.forwarded = forwarded", function()
  it("is trusted by the word unix", function()
    local dir = posix.temp_dir()
    local path = dir .. "/app.sock"
    local s = server.start { plugins = plugins, args = { "--listen-app", "unix:" .. path },
      env = { MOONWATCH_HTTP_TRUSTED_PROXIES = "unix", MOONWATCH_HTTP_FORWARDED = "forwarded" } }
    local told = http.request(path, nil, "GET", "/me", { headers = { forwarded = 'for="[2001:db8::7]";proto=https;host=shop.example',
      ["x-forwarded-for"] = "1.2.3.4" } }).json()
    assert.same({ ip = "2001:db8::7", peer = "unix", via = "proxy", scheme = "https", host = "shop.example" }, told)
    s:stop()
    posix.remove_dir(dir)
  end)
end)

describe("an IPv4 client of an IPv6 socket", function()
  it("has its IPv4 address", function()
    local s = server.start { plugins = plugins, args = { "--listen-app", "[::]:0" } }
    assert.equal("127.0.0.1", s:get("/me", { port = s.app_port }).json().ip)
    s:stop()
  end)
end)

describe("what is no proxy", function()
  it("is refused at start with option and origin", function()
    local dir = posix.temp_dir()
    local code, text = server.command({ "serve", "--no-supervisor", "--listen", "127.0.0.1:0" }, { dir = dir,
      env = { MOONWATCH_HTTP_TRUSTED_PROXIES = "10.0.0.0/8,lb.example" } })
    assert.equal(2, code)
    assert.matches('http.trusted_proxies (from MOONWATCH_HTTP_TRUSTED_PROXIES): "lb.example" is no address or network', text, 1, true)
    code, text = server.command({ "serve", "--no-supervisor", "--listen", "127.0.0.1:0" }, { dir = dir, env = { MOONWATCH_HTTP_FORWARDED = "x" } })
    assert.equal(2, code)
    assert.matches("is x-forwarded-for or forwarded, not 'x'", text, 1, true)
    posix.remove_dir(dir)
  end)
end)
