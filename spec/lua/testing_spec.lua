-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"
local posix = require "support.posix"

describe("mw.testing", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  local function load(text, stubs)
    posix.write_file(dir .. "/plugins/p.lua", text)
    return testing.load(dir .. "/plugins/p.lua", stubs)
  end

  it("answers requests by the plugin's routes, through its middleware", function()
    local app = load [[
      local mw = require "mw"
      mw.use(function(req, res, next) res:header("x-seen", "yes") next() end)
      mw.group("/a", function(req, res, next) if req.query.stop then return res:status(403):text("no") end next() end, function(r)
        r.get("/:id/*rest", function(req, res) res:json(req.params) end)
      end)
      mw.post("/echo", function(req, res) res:status(201):json(req:json()) end)
    ]]
    local res = app:request("GET", "/a/7/b/c")
    assert.same({ id = "7", rest = "b/c" }, res:json())
    assert.equal("yes", res.headers["x-seen"])
    assert.equal(403, app:request("GET", "/a/7/b?stop=1").status)
    assert.equal(404, app:request("GET", "/a").status)
    assert.equal(404, app:request("GET", "/echo").status)
    res = app:request("POST", "/echo", { json = { x = { 1, 2 } } })
    assert.equal(201, res.status)
    assert.same({ 1, 2 }, res:json().x)
  end)

  it("runs workflows of both forms and single steps with stubs", function()
    local app = load([[
      local mw = require "mw"
      mw.workflow("listed", {
        { name = "charge", run = function(ctx) return mw.fetch("http://pay/", { json = { n = ctx.input.n } }):ok():json().id end },
        { name = "store", run = function(ctx) return mw.query("INSERT", { ctx.results.charge }).affected end },
      })
      mw.workflow("written", function(ctx, input)
        local a = ctx:step("a", function() return input.n + 1 end)
        return ctx:step("a", function() return a * 2 end)
      end)
    ]], { fetch = function() return { json = { id = "ch_1" } } end, query = function() return { affected = 1 } end })
    assert.same({ charge = "ch_1", store = 1 }, app:run("listed", { n = 5 }).results)
    assert.equal("http://pay/", app.fetched[1].url)
    assert.equal(5, app.fetched[1].opts.json.n)
    assert.equal(1, app:step("listed", "store", { results = { charge = "x" } }))
    local run = app:run("written", { n = 1 })
    assert.equal(4, run.output)
    assert.same({ a = 2, ["a#2"] = 4 }, run.results)
  end)

  it("raises for what has no stub, and names the stub", function()
    local app = load [[local mw = require "mw" mw.get("/q", function(_, res) res:json(mw.query("SELECT 1")) end)]]
    local ok, err = pcall(app.request, app, "GET", "/q")
    assert.is_false(ok)
    assert.matches("mw.query has no stub here", tostring(err), 1, true)
  end)

  it("raises a failed answer as mw.fetch does", function()
    local app = load([[local mw = require "mw" mw.get("/f", function() mw.fetch("http://x/"):ok() end)]],
      { fetch = function() return { status = 503 } end })
    local _, err = pcall(app.request, app, "GET", "/f")
    assert.equal("http_status", err.code)
    assert.is_true(err.retryable)
  end)

  it("moves virtual time by mw.sleep and never waits", function()
    local app = load [[local mw = require "mw" mw.get("/t", function(_, res)
      local before = mw.now() mw.sleep("3d") res:json { mw.now() - before } end)]]
    assert.equal(259200, app:request("GET", "/t"):json()[1])
  end)

  it("refuses a declaration that the server would refuse", function()
    assert.has_error(function() load [[require("mw").get("/api/mine", function() end)]] end)
    assert.has_error(function() load [[require("mw").workflow("w", { { name = "a" } })]] end)
  end)

  it("records what was triggered and logged", function()
    local app = load [[local mw = require "mw" mw.post("/go", function(_, res)
      mw.log.info("going", { a = 1 }) res:json(mw.trigger("w", { n = 1 })) end)]]
    assert.equal("run-1", app:request("POST", "/go"):json().id)
    assert.equal("w", app.triggered[1].name)
    assert.equal("going", app.logged[1].message)
  end)

  it("loads the modules that a plugin requires, and fresh state each time", function()
    posix.write_file(dir .. "/plugins/lib/x.lua", "return { n = 0 }")
    local text = [[local mw, x = require "mw", require "lib.x" mw.get("/n", function(_, res) x.n = x.n + 1 res:json { x.n } end)]]
    assert.equal(1, load(text):request("GET", "/n"):json()[1])
    assert.equal(1, load(text):request("GET", "/n"):json()[1])
  end)

  it("runs the cookbook", function()
    local app = testing.load("plugins/hello.lua")
    assert.equal("Ada", app:request("GET", "/hello?name=Ada"):json().hello)
    local asked
    app = testing.load("plugins/checkout.lua", {
      fetch = function(url, opts)
        asked = { url = url, amount = opts.json.amount }
        return { json = { id = "ch_9" } }
      end,
      query = function() return {} end,
    })
    assert.equal("ch_9", app:run("checkout", { amount = 42, email = "a@b" }).results.charge.id)
    assert.equal(42, asked.amount)
    assert.equal(202, app:request("POST", "/checkout", { json = { amount = 1 } }).status)
    assert.equal(400, app:request("POST", "/checkout", { json = {} }).status)
    assert.equal(422, app:request("POST", "/stub/payments", { json = { amount = -1 } }).status)
  end)
end)

describe("README.md", function()
  it("shows the checkout plugin as it is", function()
    local shown = posix.read_file("README.md"):match("```lua\n(.-)```")
    local plugin = posix.read_file("plugins/checkout.lua")
    assert.truthy(plugin:find(shown, 1, true))
  end)
end)
