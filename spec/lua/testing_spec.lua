-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"
local posix = require "support.posix"

local function load(text, opts) return testing.load({ ["p.lua"] = "local mw = require 'mw'\n" .. text }, opts) end

local function failure(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "it should have failed")
  return tostring(err)
end

describe("testing.load", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  local function write(name, text)
    posix.write_file(dir .. "/plugins/" .. name, text)
    return dir .. "/plugins/" .. name
  end

  it("loads one plugin with its modules, and leaves the others alone", function()
    write("lib/x.lua", "return { n = 0 }")
    write("broken.lua", "this is no Lua")
    local path = write("p.lua", [[local mw, x = require "mw", require "lib.x" mw.get("/n", function(_, res) x.n = x.n + 1 res:json { x.n } end)]])
    assert.equal(1, testing.load(path):request("GET", "/n"):json()[1])
    assert.equal(1, testing.load(path):request("GET", "/n"):json()[1])
  end)

  it("loads a list, a folder, and a plugin that is a folder", function()
    local a = write("a.lua", [[require("mw").get("/a", function(_, res) res:text "a" end)]])
    local b = write("b/init.lua", [[require("mw").get("/b", function(_, res) res:text "b" end)]])
    for _, what in ipairs { { a, b }, dir .. "/plugins" } do
      local app = testing.load(what)
      assert.equal("a", app:request("GET", "/a").body)
      assert.equal("b", app:request("GET", "/b").body)
    end
  end)

  it("refuses what the server refuses, with the place", function()
    assert.matches("plugins/p.lua:2: .*/api", failure(load, [[mw.get("/api/mine", function() end)]]))
    assert.matches("plugins/p.lua:2: .*needs run", failure(load, [[mw.workflow("w", { { name = "a" } })]]))
    assert.matches("plugins/p.lua:2: mw.now cannot run while a plugin loads", failure(load, "local t = mw.now()"), 1, true)
    assert.matches("plugins/p.lua:3: ", failure(load, "local t = 1\nlocal = 2"), 1, true)
    assert.matches("io", failure(load, "io.open('x')"), 1, true)
    local same = "require('mw').workflow('w', { { name = 'a', run = function() end } })"
    assert.matches("declared at plugins/a.lua:1 already", failure(testing.load, { ["a.lua"] = same, ["b.lua"] = same }), 1, true)
    assert.matches("no plugin", failure(testing.load, dir .. "/nothing.lua"), 1, true)
  end)

  it("gives every further database as an empty SQLite one of the app's own", function()
    local text = [[local reports = mw.db("reports")
      mw.get("/n", function(_, res)
        reports.query("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
        reports.transaction(function(tx) tx:query("INSERT INTO t VALUES (1)") end)
        local _, err = mw.try(mw.query, "SELECT 1 FROM t")
        res:json { n = reports.one("SELECT count(*) AS n FROM t").n, code = err.code }
      end)]]
    local conf = { databases = { reports = "postgres://nobody@nowhere.invalid/x" } }
    local app = load(text, { config = conf })
    assert.same({ n = 1, code = "sql" }, app:request("GET", "/n"):json())
    assert.equal(2, app:request("GET", "/n"):json().n)
    assert.equal(1, load(text, { config = conf }):request("GET", "/n"):json().n)
    assert.matches('did you mean "reports"', failure(load, [[mw.db("report")]], { config = conf }), 1, true)
  end)

  it("gives environment and configuration as the spec says, and nothing of the machine's", function()
    local text = [[mw.get("/e", function(_, res) res:json { mw.env.APP_A, mw.env.KEY } end)
      mw.get("/home", function(_, res) res:json { mw.env.HOME } end)
      mw.post("/big", function(req, res) res:text(req.body) end)]]
    local app = load(text, { env = { APP_A = "1", KEY = "2" }, config = { env = { "KEY" }, http = { max_body = "10B" } } })
    assert.same({ "1", "2" }, app:request("GET", "/e"):json())
    assert.matches("mw.env.HOME is not open to plugins", app:request("GET", "/home"):json().detail, 1, true)
    assert.equal(413, app:request("POST", "/big", { body = ("x"):rep(11) }).status)
    assert.matches("there is no option htpp.max_body", failure(load, text, { config = { ["htpp.max_body"] = 1 } }), 1, true)
  end)

  it("reads moonwatch.lua and the project's migrations when they are named", function()
    posix.write_file(dir .. "/moonwatch.lua", "return { env = { 'KEY' } }")
    posix.write_file(dir .. "/m/0002_more.up.sql", "INSERT INTO t VALUES (7); INSERT INTO t VALUES (8);")
    posix.write_file(dir .. "/m/0001_t.up.sql", "CREATE TABLE t (n INTEGER NOT NULL);")
    posix.write_file(dir .. "/m/0001_t.down.sql", "DROP TABLE t;")
    local opts = { env = { KEY = "k" }, config_file = dir .. "/moonwatch.lua", migrations = dir .. "/m" }
    local app = load([[mw.get("/n", function(_, res) res:json { mw.env.KEY, mw.one("SELECT sum(n) AS n FROM t").n } end)]], opts)
    assert.same({ "k", 15 }, app:request("GET", "/n"):json())
    posix.write_file(dir .. "/m/0003_bad.up.sql", "CREATE TABEL u (n);")
    assert.matches("m/0003_bad.up.sql does not apply", failure(load, "", opts), 1, true)
  end)

  it("makes a fresh app in milliseconds", function()
    load ""
    local from = os.clock()
    for _ = 1, 10 do load(""):close() end
    assert.is_true((os.clock() - from) / 10 < (os.getenv "MW_TEST_SLOW" and 0.5 or 0.03))
  end)

  it("gives the same run every time: ids, random numbers, backoff", function()
    local text = [[mw.workflow("w", { { name = "a", run = function(ctx)
      if ctx.attempt < 3 then error "no" end
      return { ctx.id, mw.uuid(), mw.random(1, 1000000), mw.crypto.hex_encode(mw.crypto.random(4)), mw.now() } end } })]]
    local one, two, other = load(text), load(text), load(text, { seed = 2 })
    local output = one:run("w").output
    assert.same(output, two:run("w").output)
    assert.are_not.same(output, other:run("w").output)
  end)
end)

describe("an app that is closed", function()
  it("says so, and keeps its log", function()
    local app = load("mw.get('/', function(_, res) mw.log.info 'seen' res:text '' end)")
    app:request("GET", "/")
    app:close()
    app:close()
    for _, use in ipairs { function() app:request("GET", "/") end, function() app:advance(1) end, function() return app.now end } do
      assert.matches("testing_spec.lua:%d+: the app is closed", failure(use))
    end
    assert.equal("seen", app.logged[1].message)
  end)
end)

describe("a mistake in a spec", function()
  it("is told with its line", function()
    local app = load ""
    for text, use in pairs {
      ['unknown option "headr"; did you mean "headers"?'] = function() app:request("GET", "/", { headr = {} }) end,
      ["no listener"] = function() app:request("GET", "/", { listener = "nowhere" }) end,
      ["a function, which JSON cannot express"] = function() app:request("GET", "/", { json = print }) end,
      ["no such column: nope"] = function() app:query("SELECT nope") end,
      ['"soon" is not a duration'] = function() app:advance "soon" end,
    } do
      local message = failure(use)
      assert.matches(text, message, 1, true)
      assert.matches("testing_spec.lua:%d+: ", message)
    end
  end)
end)

describe("app:request", function()
  it("goes through the real router and middleware", function()
    local app = load [[
      mw.use(function(req, res, next) res:header("x-seen", "yes") next() end)
      mw.group("/a", function(req, res, next) if req.query.stop then return res:status(403):text("no") end next() end, function(r)
        r.get("/:id/*rest", function(req, res) res:json(req.params) end)
      end)
      mw.post("/echo", function(req, res) res:status(201):cookie("a", "1"):cookie("b", "2"):json { req:json(), req.ip, req.headers["x-a"] } end)
      mw.post("/form", function(req, res) res:json(req:form()) end)
    ]]
    local res = app:request("GET", "/a/7/b//c")
    assert.same({ id = "7", rest = "b/c" }, res:json())
    assert.equal("yes", res.headers["X-Seen"])
    assert.equal(403, app:request("GET", "/a/7/b", { query = { stop = 1 } }).status)
    assert.equal(404, app:request("GET", "/none").status)
    assert.equal("POST", app:request("GET", "/echo").headers.allow)
    res = app:request("POST", "/echo", { json = { x = { 1, 2 } }, ip = "9.8.7.6", headers = { ["X-A"] = "b" } })
    assert.equal(201, res.status)
    assert.same({ { x = { 1, 2 } }, "9.8.7.6", "b" }, res:json())
    assert.equal(2, #res.headers["set-cookie"])
    assert.equal(32, #res.trace_id)
    assert.same({ a = "x y&", b = "2" }, app:request("POST", "/form", { form = { a = "x y&", b = 2 } }):json())
    assert.equal(400, app:request("POST", "/echo", { body = "{", headers = { ["content-type"] = "application/json" } }).status)
    assert.equal(415, app:request("POST", "/echo", { body = "a", headers = { ["content-type"] = "text/plain" } }).status)
  end)

  it("answers an error as the server does, and keeps the log line", function()
    local app = load [[mw.get("/e", function() error(mw.error("conflict", "taken")) end) mw.get("/bug", function() local x = nil; return x.y end)]]
    assert.equal(409, app:request("GET", "/e").status)
    local res = app:request("GET", "/bug")
    assert.equal(500, res.status)
    assert.matches("p.lua:2", res:json().detail, 1, true)
    assert.equal("the handler failed", app.logs[#app.logs].message)
    assert.equal(res.trace_id, app.logs[#app.logs].trace_id)
    assert.matches("GET /bug is answered with 500\n.*attempt to index local 'x'", failure(res.ok, res))
    assert.equal(204, load("mw.get('/n', function(_, res) res:status(204) end)"):request("GET", "/n"):ok().status)
  end)

  it("lets a handler wait without waiting, and ends one that takes too long", function()
    local app = load [[mw.get("/t", function(_, res) local t = mw.now() mw.sleep("20s") res:json { mw.now() - t } end)
      mw.get("/late", { timeout = "5s" }, function(_, res) mw.sleep("10s") res:text "never" end)]]
    local from = app.now
    assert.equal(20, app:request("GET", "/t"):json()[1])
    assert.equal(20, app.now - from)
    from = app.now
    assert.equal(503, app:request("GET", "/late").status)
    assert.near(5, app.now - from, 0.01)
  end)

  it("shows a streamed answer as it comes, and hangs up", function()
    local app = load [[mw.get("/s", function(_, res) for i = 1, 5 do res:write("tick " .. i .. "\n") mw.sleep("1m") end res:finish() end)
      mw.post("/up", { stream = true }, function(req, res) local n = 0 for piece in req:chunks() do n = n + #piece end res:json { n } end)]]
    local res = app:request("GET", "/s", { wait = false })
    assert.equal(200, res.status)
    assert.equal("tick 1\n", res.body)
    app:advance("2m")
    assert.equal("tick 1\ntick 2\ntick 3\n", res.body)
    assert.is_false(res.done)
    app:advance("1h")
    assert.is_true(res.done)
    res = app:request("GET", "/s", { wait = false })
    res:close()
    app:advance("1h")
    assert.equal("tick 1\n", res.body)
    assert.equal(300000, app:request("POST", "/up", { chunks = { ("x"):rep(100000), ("y"):rep(200000) } }):json()[1])
  end)

  it("has the server's settings: compression, proxies, limits", function()
    local app = load([[mw.get("/ip", function(req, res) res:text(req.ip) end)
      mw.get("/long", function(_, res) res:json { ("x"):rep(5000) } end)]], { config = { http = { trusted_proxies = { "10.0.0.0/8" } } } })
    local headers = { ["X-Forwarded-For"] = "9.9.9.9" }
    assert.equal("9.9.9.9", app:request("GET", "/ip", { ip = "10.1.1.1", headers = headers }).body)
    assert.equal("8.8.8.8", app:request("GET", "/ip", { ip = "8.8.8.8", headers = headers }).body)
    local res = app:request("GET", "/long", { headers = { ["Accept-Encoding"] = "gzip" } })
    assert.equal("gzip", res.headers["content-encoding"])
    assert.is_true(#res.body < 500)
  end)

  it("reaches the built-in surfaces, with their access rules", function()
    local text = [[mw.workflow("w", { { name = "a", run = function(ctx) return ctx.input.n + 1 end } })]]
    local app = load(text)
    local id = app:request("POST", "/api/trigger", { json = { name = "w", input = { n = 1 } } }):json().executionId
    local execution = app:request("GET", "/api/v1/executions/" .. id):json()
    assert.equal("completed", execution.status)
    assert.equal(2, execution.output)
    assert.equal(200, app:request("GET", "/livez").status)
    app = load(text, { config = { token = "t0ken-t0ken-t0ken" } })
    assert.equal(401, app:request("GET", "/api/v1/executions").status)
    assert.equal(200, app:request("GET", "/api/v1/executions", { headers = { Authorization = "Bearer t0ken-t0ken-t0ken" } }).status)
  end)
end)

describe("the virtual clock", function()
  it("makes things happen in the order in which they are due", function()
    local app = load [[mw.post("/go", function(_, res)
      for _, s in ipairs { 30, 10, 20 } do mw.spawn(function() mw.sleep(s) mw.log.info("after", { s = s, at = mw.now() }) end) end
      res:text "ok" end)]]
    app:request("POST", "/go")
    assert.equal(0, #app.logged)
    local from = app.now
    app:advance("25s")
    assert.equal(2, #app.logged)
    app:advance("3d")
    assert.same({ 10, 20, 30 }, { app.logged[1].fields.s, app.logged[2].fields.s, app.logged[3].fields.s })
    assert.near(30, app.logged[3].fields.at - from, 0.01)
    assert.equal(259225, app.now - from)
  end)

  it("is the clock of os.time too", function()
    local app = load([[mw.get("/os", function(_, res) res:json { os.time(), os.date("!%Y-%m-%d %H:%M:%S"), os.time { year = 1971, month = 1, day = 1 } } end)]],
      { now = 86400 })
    assert.same({ 86400, "1970-01-02 00:00:00", os.time { year = 1971, month = 1, day = 1 } }, app:request("GET", "/os"):json())
  end)

  it("ends mw.kv entries and database transactions", function()
    local app = load [[mw.post("/tx", function(_, res)
        local ok, err = pcall(mw.transaction, function(tx) tx:query("CREATE TABLE t (n)") mw.sleep("20s") tx:query("SELECT 1") end)
        res:json { ok, err.code } end)]]
    app:kv("set", "a", { n = 1 }, { ttl = "5m" })
    app:advance("4m")
    assert.same({ n = 1 }, app:kv("get", "a"))
    app:advance("2m")
    assert.is_nil(app:kv("get", "a"))
    assert.same({ false, "timeout" }, app:request("POST", "/tx"):json())
    assert.is_nil(app:one("SELECT name FROM sqlite_schema WHERE name = 't'"))
  end)

  it("does not move on for ever where something repeats", function()
    local app = load [[mw.post("/go", function(_, res) mw.spawn(function() while true do mw.sleep("1d") end end) res:text "ok" end)]]
    app:request("POST", "/go")
    assert.is_false(app:advance_until(function() return false end))
    app:advance("10000d")
  end)

  it("names what goes on without ever waiting", function()
    local app = load [[mw.get("/x", function(_, res) while true do end end)]]
    local res = app:request("GET", "/x") -- the watchdog
    assert.equal(500, res.status)
    assert.matches("without a pause", res:json().detail, 1, true)
  end)
end)

describe("the spec's database", function()
  it("runs real SQL, fresh for each app, and shows transactions as production does", function()
    local text = [[mw.get("/in", function(_, res)
        mw.query("CREATE TABLE t (n INTEGER UNIQUE)")
        local seen
        mw.transaction(function(tx) tx:query("INSERT INTO t VALUES ($1)", { 1 }) seen = mw.one("SELECT count(*) AS n FROM t").n end)
        local ok, err = pcall(mw.query, "INSERT INTO t VALUES (1)")
        res:json { seen = seen, code = err.code } end)]]
    local app = load(text)
    assert.same({ seen = 0, code = "constraint" }, app:request("GET", "/in"):json())
    local rows = app:query("SELECT n FROM t WHERE n = $1", { 1 })
    assert.same({ { n = 1 } }, rows)
    assert.equal(1, app:query("UPDATE t SET n = $1, n = n", { nil }).affected)
    assert.matches("no such table", failure(function() load(text):query("SELECT * FROM t") end), 1, true)
  end)

  it("tells the spec's time", function()
    local app = load("", { now = 86400 * 365 })
    assert.equal("1971-01-01 00:00:00", app:one("SELECT CURRENT_TIMESTAMP AS at").at)
    app:advance("36h")
    assert.equal("1971-01-02", app:one("SELECT date('now') AS at").at)
  end)

  it("can be away for a while", function()
    local app = load [[mw.workflow("w", { { name = "a", timeout = "1h", run = function() mw.sleep("10s") return 1 end } })
      mw.post("/go", function(_, res) res:json(mw.trigger("w")) end)]]
    local id = app:request("POST", "/go"):json().id
    app:database_away("1m")
    assert.equal(503, app:request("POST", "/go").status)
    app:advance("59s")
    assert.equal("unavailable", select(2, pcall(app.query, app, "SELECT 1")).code)
    local from = app.now
    assert.equal(1, app:wait_run(id):ok().output) -- the step's result waited for it
    assert.is_true(app.now - from < 3)
    assert.equal(1, #app.triggered)
  end)

  it("ends a statement that runs for ever", function()
    local app = load [[mw.get("/x", function(_, res)
      local _, err = mw.try(mw.query, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c", {}, { timeout = "200ms" })
      res:text(err.code) end)]]
    assert.equal("timeout", app:request("GET", "/x").body)
  end)

  it("outlives a restart, and mw.kv and open requests do not", function()
    local app = load "mw.get('/slow', function(_, res) mw.sleep('20s') res:text 'late' end)"
    local res = app:request("GET", "/slow", { wait = false })
    app:query("CREATE TABLE t (n)")
    app:kv("set", "k", 1)
    app:restart()
    assert.same({}, app:query("SELECT * FROM t"))
    assert.is_nil(app:kv("get", "k"))
    assert.is_true(res.broken)
    assert.equal("late", app:request("GET", "/slow").body)
  end)
end)

describe("stubbed fetches", function()
  local text = [[mw.get("/f", function(req, res)
      local ok, err = pcall(function()
        local r = mw.fetch(req.query.url or "http://x.example/a?b=c", { method = req.query.method, timeout = "10s" })
        res:json { status = r.status, body = r.body, kind = r.headers["Content-Type"] } end)
      if not ok then res:json { code = err.code, retryable = err.retryable } end end)]]

  it("answer by method and URL, later ones first", function()
    local app = load(text)
    app:stub_fetch("*", "http://x.example/*", { status = 404 })
    local stub = app:stub_fetch("get", "http://x.example/a", { json = { 1 } })
    assert.same({ status = 200, body = "[1]", kind = "application/json" }, app:request("GET", "/f"):json())
    assert.equal(404, app:request("GET", "/f", { query = { method = "PUT" } }):json().status)
    assert.equal(1, #stub.calls)
    assert.equal("http://x.example/a?b=c", app.fetched[1].url)
  end)

  it("may be functions, sequences, slow, broken or silent", function()
    local app = load(text)
    app:stub_fetch("GET", "http://x.example/*", { { body = "one", delay = "3s" }, { error = "ECONNREFUSED" }, { error = "timeout" } })
    local from = app.now
    assert.equal("one", app:request("GET", "/f"):json().body)
    assert.near(3, app.now - from, 0.01)
    assert.same({ code = "ECONNREFUSED", retryable = true }, app:request("GET", "/f"):json())
    from = app.now
    assert.same({ code = "timeout", retryable = true }, app:request("GET", "/f"):json())
    assert.near(10, app.now - from, 0.01)
    assert.matches("has answered its 3 times", failure(app.request, app, "GET", "/f"), 1, true)
    app:stub_fetch("GET", "*", function(request) return { status = 201, body = request.method .. request.url } end)
    assert.equal("GEThttp://y.example/", app:request("GET", "/f", { query = { url = "http://y.example/" } }):json().body)
  end)

  it("fail the spec for a call that none answers, whatever the plugin does with the error", function()
    local app = load(text)
    local message = failure(app.request, app, "GET", "/f")
    assert.matches("mw.fetch called GET http://x.example/a?b=c, and no stub answers it; add", message, 1, true)
    assert.matches('app:stub_fetch("GET", "http://x.example/a", { status = 200, json = {} })', message, 1, true)
    assert.matches("testing_spec.lua:%d+: ", message)
    app:settle() -- said once
  end)

  it("stand in for Redis too", function()
    local app = load [[mw.post("/r", function(_, res)
      mw.redis.set("k", "v")
      res:json { mw.redis.get("k"), (select(2, pcall(mw.redis.call, "INCR", "k"))).code, mw.redis.pipeline { { "GET", "k" }, { "GET", "none" } } } end)]]
    local values = {}
    app:stub_redis(function(command, key, value)
      if command == "SET" then values[key] = value return "OK" end
      if command == "GET" then return values[key] end
      error(testing.error("wrong_type", "not a number"))
    end)
    local answer = app:request("POST", "/r"):json()
    assert.same({ "v", "wrong_type", "v" }, { answer[1], answer[2], answer[3][1] })
    app = load [[mw.post("/r", function(_, res) pcall(mw.redis.set, "k", "v") res:text "ok" end)]]
    assert.matches("mw.redis sent SET, and nothing answers it; add", failure(app.request, app, "POST", "/r"), 1, true)
  end)

  it("cannot drive the app from inside", function()
    local app = load(text)
    app:stub_fetch("GET", "*", function() app:advance("1s") end)
    assert.matches("a stub's function cannot drive it", failure(app.request, app, "GET", "/f"), 1, true)
  end)

  it("pass on what the spec's own function raises", function()
    local app = load(text)
    app:stub_fetch("GET", "*", function(request) assert.equal("POST", request.method) end)
    assert.has_error(function() app:request("GET", "/f") end)
  end)

  it("are missed by app:finish when they were not used", function()
    local app = load(text)
    app:stub_fetch("GET", "http://x.example/a", { status = 200 }, { times = 2 })
    app:stub_fetch("POST", "http://y.example/", { status = 200 })
    app:stub_fetch("POST", "http://z.example/", { status = 200 }, { optional = true })
    app:request("GET", "/f")
    local message = failure(app.finish, app)
    assert.matches("GET http://x.example/a was called 1 of 2 times\n  POST http://y.example/ was never called", message, 1, true)
    assert.is_nil(message:find("z.example", 1, true))
  end)
end)

describe("app:run", function()
  it("drives both forms with retries, backoff and timeouts of the engine", function()
    local app = load [[
      mw.workflow("listed", {
        { name = "charge", retries = 3, backoff = "1h", timeout = "10s", run = function(ctx)
            if ctx.attempt == 2 then mw.sleep("1m") end
            return mw.fetch("http://pay/", { json = { n = ctx.input.n } }):ok():json().id end },
        { name = "store", run = function(ctx) return { ctx.results.charge, ctx.step_key == ctx.id .. "/store" } end },
      })
      mw.workflow("written", function(ctx, input)
        local a = ctx:step("a", function() return input.n + 1 end)
        return ctx:step("a", function() return a * 2 end)
      end)
    ]]
    app:stub_fetch("POST", "http://pay/", { { status = 503 }, { json = { id = "ch_1" } } })
    local from = app.now
    local run = app:run("listed", { n = 5 }):ok()
    assert.same({ "ch_1", true }, run.output)
    assert.equal(3, run.steps.charge.attempts)
    assert.equal("timeout", run.steps[1].tries[2].error.code)
    assert.is_true(app.now - from > 3600 and app.now - from < 7300)
    assert.equal(5, app.fetched[1]:json().n)
    assert.equal("charge", app.fetched[1].step)
    assert.equal(app.fetched[1].headers["idempotency-key"], app.fetched[2].headers["idempotency-key"])
    run = app:run("written", { n = 1 }):ok()
    assert.equal(4, run.output)
    assert.same({ a = 2, ["a#2"] = 4 }, run.results)
    assert.equal("r", next(run.journal[#run.journal]) and run.journal[#run.journal].r and "r")
  end)

  it("tells what happened to a run that failed", function()
    local app = load [[mw.workflow("w", { { name = "first", run = function() return 1 end },
      { name = "pay", retries = 1, run = function(ctx) error(mw.error("declined", "no money")) end } })]]
    local run = app:run("w")
    assert.equal("failed", run.status)
    assert.equal("declined", run.error.code)
    local message = failure(run.ok, run)
    assert.matches('run of "w" is failed: no money (declined)', message, 1, true)
    assert.matches('step "pay" failed after 2 attempts', message, 1, true)
    assert.matches("attempt 1 failed: no money", message, 1, true)
    assert.matches('did you mean "w"', failure(app.run, app, "v"), 1, true)
  end)

  it("takes stubs for steps: a result, an error, a function", function()
    local app = load [[mw.workflow("w", { retries = 1 } and {
      { name = "a", retries = 1, run = function() error "never" end },
      { name = "b", retries = 1, run = function() error "never" end } })]]
    app:stub_step("w", "a", { n = 1 })
    local calls = {}
    app:stub_step("w", "b", function(step)
      calls[#calls + 1] = step
      if step.attempt == 1 then error(testing.error("busy", "later")) end
      return step.results.a.n + step.input
    end)
    assert.equal(42, app:run("w", 41):ok().output)
    assert.equal(2, #calls)
    app:stub_step("w", "a", testing.error("gone", "it is gone", { retryable = false }))
    local run = app:run("w", 1)
    assert.equal("gone", run.error.code)
    assert.equal(1, run.steps.a.attempts)
  end)

  it("goes by one step, one trigger, and ids", function()
    local app = load [[mw.workflow("w", { { name = "a", run = function(ctx) return { ctx.input.n, ctx.results.z or "none", ctx.attempt } end } })
      mw.post("/go", function(_, res) res:json(mw.trigger("w", { n = 1 })) end)]]
    assert.same({ 7, "x", 2 }, app:step("w", "a", { input = { n = 7 }, results = { z = "x" }, attempt = 2 }))
    local id = app:request("POST", "/go"):json().id
    assert.same({ id = id, name = "w", input = { n = 1 } }, app.triggered[1])
    assert.equal(id, app:get_run(id).id)
    assert.equal("completed", app:get_run(id).status)
    assert.is_true(app:trigger("w", { n = 1 }, { id = "o-1" }).created)
    assert.equal("o-1", app.triggered[2].external_id)
    assert.is_false(app:trigger("w", { n = 1 }, { id = "o-1" }).created)
    assert.equal("conflict", select(2, pcall(app.trigger, app, "w", { n = 2 }, { id = "o-1" })).code)
  end)

  it("fails when a run takes longer than `within`", function()
    local app = load [[mw.workflow("w", { { name = "a", timeout = "2h", run = function() mw.sleep("1h") end } })]]
    assert.matches("and still after", failure(app.run, app, "w", nil, { within = "1m" }), 1, true)
  end)
end)

describe("app:signal and app:cancel", function()
  local app

  before_each(function()
    app = testing.load({ ["w.lua"] = [[
      local mw = require "mw"
      mw.workflow("w", function(ctx)
        ctx:step("a", function() return 1 end, { undo = function(_, r) mw.log.info("undid " .. r) end })
        return ctx:wait_for("go", { timeout = "400d" })
      end)
    ]] })
  end)

  it("wake a run that waits, at a time of the spec's choosing", function()
    local id = app:trigger("w").id
    app:advance("300d")
    assert.equal("waiting", app:get_run(id).status)
    app:signal(id, "go", { by = "eva" })
    assert.same({ by = "eva" }, app:wait_run(id):ok().output)
    local ok, err = pcall(app.signal, app, id, "go")
    assert.is_false(ok)
    assert.equal("conflict", err.code)
  end)

  it("end one, with its undoing", function()
    local id = app:trigger("w").id
    app:settle()
    app:cancel(id, { undo = true, reason = "enough" })
    local run = app:wait_run(id)
    assert.equal("cancelled", run.status)
    assert.match("enough", run.error.message)
    assert.equal("undid 1", app.logged[1].message)
  end)
end)

describe("app:crash_at_each_step", function()
  local good = [[
    mw.workflow("w", {
      { name = "reserve", run = function(ctx)
          mw.query("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY)")
          mw.query("INSERT INTO orders VALUES ($1) ON CONFLICT DO NOTHING", { ctx.step_key })
        end },
      { name = "charge", retries = 2, backoff = "1m", run = function(ctx)
          if ctx.attempt == 1 then error "not yet" end
          return mw.fetch("http://pay/", { json = {} }):ok():json() end },
    })
    mw.workflow("body", function(ctx, input)
      local sum = 0
      for _, n in ipairs(input) do sum = sum + ctx:step("add", function() return n end) end
      return sum
    end)]]

  it("goes on after every crash, in both forms, and leaves the app as it was", function()
    local app = load(good)
    app:stub_fetch("POST", "http://pay/", function(request) return { json = { key = request.headers["idempotency-key"] ~= nil } } end)
    local checked = 0
    local report = app:crash_at_each_step("w", {}, { check = function(run, crashed)
      checked = checked + 1
      assert.same({ key = true }, run.output)
      assert.equal(1, crashed:one("SELECT count(*) AS n FROM orders").n)
    end })
    assert.is_true(report.points >= 9)
    assert.equal(report.points + 1, checked)
    assert.equal(0, #app.triggered)
    assert.is_true(app:crash_at_each_step("body", { 1, 2, 3 }).points >= 9)
  end)

  it("names the crash after which a run is not what it should be", function()
    local app = load [[mw.workflow("w", { { name = "take", run = function(ctx)
        mw.query("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
        mw.query("INSERT INTO t VALUES (1)")
        return mw.one("SELECT count(*) AS n FROM t").n end } })]]
    local message = failure(app.crash_at_each_step, app, "w")
    assert.matches('crash 2 of 3, after the function of step "take" had returned (attempt 1), before its result was committed', message, 1, true)
    assert.matches("without a crash: 1", message, 1, true)
    assert.matches("with it:         2", message, 1, true)
    assert.is_table(app:crash_at_each_step("w", nil, { output = false }))
  end)

  it("follows an execution that a request starts", function()
    local app = load(good .. [[ mw.post("/go", function(req, res) res:json(mw.trigger("body", req:json())) end)]])
    local report = app:crash_at_each_step(function(crashed, input) return crashed:request("POST", "/go", { json = input }):json().id end, { 1, 2 })
    assert.is_true(report.points >= 6)
    assert.matches("must return an execution's id", failure(app.crash_at_each_step, app, function() end), 1, true)
  end)

  it("fails for a missing stub, as a run does", function()
    local message = failure(function() load(good):crash_at_each_step("w") end)
    assert.matches("mw.fetch called POST http://pay/", message, 1, true)
  end)

  it("says at which crash the spec's own check failed", function()
    local app = load(good)
    local count = 0
    local message = failure(app.crash_at_each_step, app, "body", { 1 }, { check = function()
      count = count + 1
      if count == 3 then error("the mail went out twice", 0) end
    end })
    assert.matches("crash 2 of %d+, .*: the mail went out twice", message)
  end)
end)

describe("app:replay", function()
  it("takes the way of the journal, calling nothing", function()
    local app = load [[mw.workflow("w", function(ctx, input)
      local sum = 0
      for name, n in pairs(input) do sum = sum + ctx:step(name, function() return n end) end
      return { sum, ctx:random(), ctx:now() } end)]]
    app:replay(app:run("w", { a = 1, b = 2, c = 3, d = 4 }):ok())
  end)

  it("finds a body that depends on what is not in it", function()
    local app = load [[local count = 0
      mw.workflow("w", function(ctx)
        count = count + 1
        ctx:step("a", function() end)
        return count end)]]
    app:run("w")
    local run = app:run("w"):ok()
    assert.matches("the output differs", failure(app.replay, app, run), 1, true)
    app = load [[local first = true
      mw.workflow("w", function(ctx)
        if not first then ctx:step("b", function() end) end
        first = false
        ctx:step("a", function() end) end)]]
    app:run("w")
    assert.matches('expected step "b", came to step "a"', failure(app.replay, app, app:run("w"):ok()), 1, true)
  end)
end)

describe("the doors to the world", function()
  local known = {
    -- stubbed or watched by lua/mw/testing/inside.lua
    ["mw.core.fetch"] = true, ["mw.core.redis"] = true, ["mw.core.store"] = true, ["mw.core.runtime"] = true, ["mw.core.task"] = true,
    -- they reach nothing but memory, the rig's own server and files that a route names
    ["mw.core.json"] = true, ["mw.core.crypto"] = true, ["mw.core.http"] = true, ["mw.core.sandbox"] = true,
    ["mw.core.sandbox.native"] = true, ["mw.core.files"] = true, ["mw.core.multipart"] = true, ["mw.core.cron"] = true,
    -- of specs only
    ["mw.core.rig"] = true,
  }

  it("are all known to mw.testing", function()
    for name in pairs(package.preload) do
      if name:find("^mw%.core%.") then
        assert.is_true(known[name], name .. " is new: does it reach a network or another program? Then it needs a stub in lua/mw/testing/inside.lua")
      end
    end
  end)
end)

describe("README.md", function()
  it("shows the checkout plugin as it is", function()
    local shown = posix.read_file("README.md"):match("```lua\n(.-)```")
    local plugin = posix.read_file("plugins/checkout.lua")
    assert.truthy(plugin:find(shown, 1, true))
  end)
end)
