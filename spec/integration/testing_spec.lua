-- SPDX-License-Identifier: MIT
-- `moonwatch test` in projects, as their authors run it.

local posix = require "support.posix"
local server = require "support.server"

describe("moonwatch test", function()
  local dir
  before_each(function()
    dir = posix.temp_dir()
    server.command({ "init" }, { dir = dir })
  end)
  after_each(function() posix.remove_dir(dir) end)

  local function spec(text) posix.write_file(dir .. "/spec/own_spec.lua", "local testing = require 'mw.testing'\n" .. text) end
  local function run(args, env) return server.command({ "test", unpack(args or { "spec/own_spec.lua" }) }, { dir = dir, env = env }) end

  it("gives a spec the project's configuration and tables", function()
    posix.write_file(dir .. "/migrations/0001_users.up.sql", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);")
    posix.write_file(dir .. "/moonwatch.lua", "return { env = { 'PLAN' } }")
    posix.write_file(dir .. "/plugins/users.lua", [[local mw = require "mw"
      mw.post("/users", function(req, res)
        res:json { id = mw.one("INSERT INTO users (name) VALUES ($1) RETURNING id", { req:json().name }).id, plan = mw.env.PLAN } end)]])
    spec [[it("adds a user", function()
      local app = testing.load("plugins", { env = { PLAN = "big" } })
      assert.same({ id = 1, plan = "big" }, app:request("POST", "/users", { json = { name = "Ada" } }):json())
      assert.equal("Ada", app:one("SELECT name FROM users").name)
      assert.equal("Ada", app:request("GET", "/hello?name=Ada"):json().hello)
    end)]]
    local code, text = run()
    assert.equal(0, code, text)
    assert.matches("1 success", text, 1, true)
  end)

  it("says which step, which attempt, what was expected and what came", function()
    posix.write_file(dir .. "/plugins/pay.lua", [[local mw = require "mw"
      mw.workflow("pay", {
        { name = "charge", retries = 1, backoff = "1s", run = function(ctx)
            return mw.fetch("https://pay.example/charges?token=x", { json = ctx.input }):ok():json() end },
      })]])
    spec [[
      local app
      before_each(function() app = testing.load "plugins/pay.lua" end)
      it("forgets the stub", function() app:run("pay", {}) end)
      it("expects too much", function()
        app:stub_fetch("POST", "https://pay.example/charges", { status = 500 })
        app:run("pay", {}):ok()
      end)
      it("compares", function()
        app:stub_fetch("POST", "https://pay.example/charges", { json = { id = 1 } })
        assert.same({ id = 2 }, app:run("pay", {}).output)
      end)
      it("has a stub too many", function()
        app:stub_fetch("POST", "https://pay.example/charges", { json = { id = 1 } })
        app:finish()
      end)
      it("loads what is broken", function() testing.load { ["bad.lua"] = "local mw = require 'mw'\nmw.workflow('w', {})" } end)
    ]]
    local code, text = run()
    assert.equal(1, code)
    assert.matches([[spec/own_spec.lua:4: mw.fetch called POST https://pay.example/charges?token=x in step "charge" of "pay", attempt 1, and no stub answers it; add
  app:stub_fetch("POST", "https://pay.example/charges", { status = 200, json = {} })]], text, 1, true)
    assert.matches('spec/own_spec.lua:7: run of "pay" is failed: POST https://pay.example/charges answered 500 (http_status)', text, 1, true)
    assert.matches('step "charge" failed after 2 attempts\n    attempt 1 failed: POST https://pay.example/charges answered 500', text, 1, true)
    assert.matches("[id] = 2", text, 1, true)
    assert.matches("spec/own_spec.lua:15: stubs that were not used:\n  POST https://pay.example/charges was never called", text, 1, true)
    assert.matches("plugins/bad.lua:2: .*has no steps", text)
    local _, tap = run { "-o", "TAP", "spec/own_spec.lua" }
    assert.matches("not ok 1 - ", tap, 1, true)
  end)

  it("names the crash that a workflow does not survive", function()
    posix.write_file(dir .. "/plugins/mail.lua", [[local mw = require "mw"
      mw.workflow("mail", {
        { name = "count", run = function() return mw.kv.incr("mails") end },
        { name = "send", run = function(ctx) return mw.kv.get("mails") + ctx.results.count end },
      })]])
    spec [[it("survives", function() testing.load("plugins/mail.lua"):crash_at_each_step("mail") end)]]
    local code, text = run()
    assert.equal(1, code)
    assert.matches('spec/own_spec.lua:2: crash 3 of 6, after the result of step "count" was committed: it should be completed', text, 1, true)
    assert.matches("attempt 1 interrupted\n    attempt 2 failed: attempt to perform arithmetic on a nil value", text, 1, true)
  end)

  it("crashes a workflow with transactions everywhere, and its SQL happens once", function()
    posix.write_file(dir .. "/plugins/pay.lua", [[local mw = require "mw"
      mw.workflow("ship", function(ctx, input) return ctx:step("go", function() return input end) end)
      mw.workflow("pay", function(ctx)
        ctx:transaction("take", function(s, tx)
          tx:query("CREATE TABLE IF NOT EXISTS payments (run text)")
          tx:query("INSERT INTO payments VALUES ($1)", { s.id })
          tx:trigger("ship", 5)
        end)
        return ctx:step("count", function() return mw.one("SELECT count(*) AS n FROM payments").n end)
      end)]])
    spec [[it("survives", function()
      testing.load("plugins/pay.lua"):crash_at_each_step("pay", nil, { check = function(run, app)
        app:settle()
        assert.equal(1, run.output)
        local shipped = {}
        for _, one in ipairs(app.triggered) do shipped[one.name == "ship" and one.id or "pay"] = true end
        local count = 0
        for _ in pairs(shipped) do count = count + 1 end
        assert.equal(2, count)
      end })
    end)]]
    local code, text = run()
    assert.equal(0, code, text)
    assert.matches("1 success", text, 1, true)
  end)

  describe("with recordings", function()
    local upstream
    setup(function()
      upstream = server.start { plugins = { ["pay.lua"] = [[local mw = require "mw"
        local count = 0
        mw.post("/charges", function(req, res) count = count + 1
          res:header("x-api-token", "s3cret"):header("x-kind", "a"):cookie("session", "s3cret"):json { n = count, amount = req:json().amount } end)]] },
        args = { "--workers", "1" } }
    end)
    teardown(function() upstream:stop() end)

    it("asks the network once, and the file from then on", function()
      posix.write_file(dir .. "/plugins/pay.lua", [[local mw = require "mw"
        mw.workflow("pay", { { name = "charge", retries = 0, run = function(ctx)
          return mw.fetch(mw.env.APP_URL .. "/charges?api_key=s3cret&a=1", { json = ctx.input, headers = { Authorization = "s3cret" } }):ok():json() end } })]])
      posix.make_dirs(dir .. "/spec/fixtures")
      local function write_spec(amount)
        spec(([[it("pays", function()
          local app = testing.load("plugins/pay.lua", { env = { APP_URL = "http://127.0.0.1:%d" } })
          app:stub_fetch("*", "http://127.0.0.1:*", testing.record "spec/fixtures/pay.json")
          assert.same({ n = 1, amount = %d }, app:run("pay", { amount = %d }):ok().output)
        end)]]):format(upstream.port, amount, amount))
      end
      write_spec(7)
      local code, text = run()
      assert.equal(1, code)
      assert.matches("there is no recording spec/fixtures/pay.json; make it with the real network: MW_TEST_RECORD=1", text, 1, true)
      code, text = run(nil, { MW_TEST_RECORD = "1" })
      assert.equal(0, code, text)
      local fixture = posix.read_file(dir .. "/spec/fixtures/pay.json")
      assert.is_nil(fixture:find("s3cret", 1, true), fixture)
      assert.matches("api_key=***&a=1", fixture, 1, true)
      assert.matches('"x-kind":"a"', fixture, 1, true)
      for _ = 1, 2 do -- the provider would count on
        code, text = run()
        assert.equal(0, code, text)
      end
      write_spec(8)
      code, text = run()
      assert.equal(1, code)
      assert.matches("the recording spec/fixtures/pay.json has no (further) answer to POST http://127.0.0.1", text, 1, true)
    end)
  end)

  it("runs again when a file changes", function()
    spec [[it("is", function() testing.load "plugins/hello.lua" end)]]
    local output = dir .. "/output.txt"
    local pid = posix.spawn("/proc/self/exe", { argv = { "moonwatch", "test", "--watch", "spec/own_spec.lua" }, env = posix.environment(), dir = dir,
      output = output })
    local function said(pattern, times)
      posix.wait_until(function()
        local count = select(2, (posix.read_file(output) or ""):gsub(pattern, ""))
        return count >= times
      end, 20, pattern)
    end
    said("waiting for a change", 1)
    posix.write_file(dir .. "/plugins/hello.lua", "local = 1")
    said("waiting for a change", 2)
    posix.kill(pid, posix.SIGKILL)
    posix.wait_exit(pid, 5)
    assert.matches("1 success.*plugins/hello.lua:1: '<name>' expected near", posix.read_file(output))
  end)

  it("leaves no databases behind, not even those of a run that was killed", function()
    local root = "/dev/shm"
    spec [[it("is", function() testing.load "plugins/hello.lua" while true do end end)]]
    local pid = posix.spawn("/proc/self/exe", { argv = { "moonwatch", "test" }, env = posix.environment(), dir = dir, output = dir .. "/output.txt" })
    local function folders()
      local pipe = io.popen("ls -d " .. root .. "/moonwatch-test-*-" .. pid .. "-* 2>/dev/null")
      local text = pipe:read("*a")
      pipe:close()
      return text
    end
    if not io.open(root .. "/.") then return pending("needs /dev/shm") end
    posix.wait_until(function() return select(2, folders():gsub("\n", "")) == 2 end, 20, "the app and its template")
    posix.kill(pid, posix.SIGKILL)
    posix.wait_exit(pid, 5)
    assert.are_not.equal("", folders())
    spec [[it("is", function() testing.load "plugins/hello.lua" end)]]
    local code, text = run()
    assert.equal(0, code, text)
    assert.equal("", folders())
  end)
end)
