-- SPDX-License-Identifier: MIT
local posix = require "support.posix"
local server = require "support.server"

describe("moonwatch new", function()
  local dir
  before_each(function()
    dir = posix.temp_dir()
    server.command({ "init" }, { dir = dir })
  end)
  after_each(function() posix.remove_dir(dir) end)

  local function run(...) return server.command({ ... }, { dir = dir }) end

  it("writes plugins that load and specs that pass, beside each other", function()
    for _, kind in ipairs { "workflow", "route", "webhook", "cron" } do
      local code, text = run("new", kind, "my-" .. kind)
      assert.equal(0, code, text)
      assert.matches("wrote plugins/my-" .. kind .. ".lua", text, 1, true)
    end
    local code, text = run "check"
    assert.equal(0, code, text)
    assert.matches("5 plugins", text, 1, true)
    code, text = run "test"
    assert.equal(0, code, text)
    assert.matches("10 successes", text, 1, true)
  end)

  it("overwrites neither the plugin nor its spec", function()
    posix.write_file(dir .. "/spec/a_spec.lua", "-- mine")
    local code, text = run("new", "route", "a")
    assert.equal(1, code)
    assert.matches("spec/a_spec.lua is there already", text, 1, true)
    assert.is_nil(posix.read_file(dir .. "/plugins/a.lua"))
    code = run("new", "route", "hello")
    assert.equal(1, code)
    assert.matches("A first plugin", posix.read_file(dir .. "/plugins/hello.lua"), 1, true)
  end)

  it("takes names that are good in paths, tables and addresses, and no others", function()
    for _, name in ipairs { "../x", "a/b", "_a", "A", "1a", "a.b", "", ("a"):rep(65), "a b", "é" } do
      local code, text = run("new", "workflow", name)
      assert.equal(2, code, name)
      assert.matches("is no name", text, 1, true)
    end
  end)

  it("refuses a route where Moonwatch's own surfaces are", function()
    for _, route in ipairs(require("mw.routes").reserved()) do
      local code, text = run("new", "route", (route.what:match("^/(%w+)")))
      assert.equal(2, code, route.what)
      assert.matches("belong to Moonwatch", text, 1, true)
    end
  end)

  it("says what to do instead of what is not there", function()
    local code, text = run("new", "workflo", "x")
    assert.equal(2, code)
    assert.matches("did you mean 'workflow'?", text, 1, true)
    code, text = run "new"
    assert.equal(2, code)
    assert.matches("workflow, route, webhook or cron", text, 1, true)
  end)

  it("writes a webhook that a real server takes signed requests with", function()
    run("new", "webhook", "billing")
    local s = server.start { plugins = { ["billing.lua"] = posix.read_file(dir .. "/plugins/billing.lua") }, env = { APP_BILLING_SECRET = "k" } }
    local body = '{"id":"evt_1"}'
    local function send(signature)
      return s:post("/webhooks/billing", { body = body, headers = { ["content-type"] = "application/json", ["x-signature"] = signature } })
    end
    assert.equal(401, send("sha256=0").status)
    local first = send("sha256=" .. require("mw.crypto").hmac("sha256", "k", body))
    assert.equal(202, first.status, first.body)
    assert.equal(first.json().executionId, send("sha256=" .. require("mw.crypto").hmac("sha256", "k", body)).json().executionId)
    s:stop()
  end)
end)
