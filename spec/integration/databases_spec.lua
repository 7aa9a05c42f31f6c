-- SPDX-License-Identifier: MIT
-- mw.db(name) in a real server: further databases, SQLite and PostgreSQL.

local posix = require "support.posix"
local postgres = require "support.postgres"
local server = require "support.server"

local plugin = [[
  local mw = require "mw"
  local cache = mw.db("cache")

  local function answer(res, fn)
    local value, err = mw.try(fn)
    if err then return res:json { code = err.code, message = err.message, sqlstate = err.sqlstate, retryable = err.retryable, where = err.where } end
    res:json { value = value }
  end

  mw.post("/sql/:name", function(req, res)
    local ask = req:json()
    answer(res, function() return mw.db(req.params.name).query(ask.sql, ask.params, { timeout = ask.timeout }) end)
  end)
  mw.get("/cache", function(_, res) res:json(cache.one("SELECT count(*) AS n FROM t")) end)
  mw.get("/main", function(_, res) answer(res, function() return mw.query("SELECT * FROM t") end) end)
  mw.post("/move/:name", function(req, res)
    answer(res, function()
      return mw.db(req.params.name).transaction(function(tx)
        tx:query("INSERT INTO t VALUES (7)")
        if req.query.fail then error(mw.error("changed_my_mind", "no")) end
        return tx:one("SELECT count(*) AS n FROM t").n
      end)
    end)
  end)
  mw.get("/left", { timeout = "200ms" }, function()
    cache.transaction(function(tx) tx:query("INSERT INTO t VALUES (8)") mw.sleep("60s") end)
  end)
  mw.get("/alive", function(_, res) res:text("yes") end)
  mw.workflow("body", function(ctx) return cache.one("SELECT 1 AS n") end)
  mw.post("/run", function(_, res) res:json { id = mw.trigger("body").id } end)
]]

describe("mw.db", function()
  local url = os.getenv("MW_TEST_DATABASE_URL")
  local has_postgres = url and url ~= ""
  local s, elsewhere

  local function sql(name, text, params, timeout) return s:post("/sql/" .. name, { json = { sql = text, params = params, timeout = timeout } }).json() end
  local function must(...)
    local out = sql(...)
    assert.is_nil(out.code, out.message)
    return out.value
  end

  setup(function()
    elsewhere = posix.temp_dir()
    local lines = { 'cache = "sqlite:cache.db"', ('elsewhere = "sqlite:%s/x.sqlite"'):format(elsewhere), 'away = "postgres://nobody:hidden-word@127.0.0.1:1/none"',
      ('broken = "sqlite:%s/no/such/folder/x.db"'):format(elsewhere) }
    if has_postgres then lines[#lines + 1] = ('reports = "%s"'):format(server.fresh_database(url)) end
    s = server.start { plugins = { ["db.lua"] = plugin }, args = { "--workers", "2" }, config = "return { databases = { " .. table.concat(lines, ", ") .. " } }" }
  end)
  teardown(function()
    s:stop()
    posix.remove_dir(elsewhere)
  end)

  for _, name in ipairs { "cache", "elsewhere", "reports" } do
    local function case(title, fn)
      it(title .. ": " .. name, function()
        if name == "reports" and not has_postgres then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
        fn()
      end)
    end
    case("has tables of its own", function()
      must(name, "CREATE TABLE t (n int)")
      must(name, "INSERT INTO t VALUES ($1)", { 1 })
      assert.same({ { n = 1 } }, must(name, "SELECT n FROM t"))
      assert.equal("sql", s:get("/main").json().code) -- not in the application's own
    end)
    case("commits and rolls back", function()
      assert.equal(2, s:post("/move/" .. name).json().value)
      assert.equal("changed_my_mind", s:post("/move/" .. name .. "?fail=1").json().code)
      assert.equal(2, must(name, "SELECT count(*) AS n FROM t")[1].n)
    end)
    case("keeps the rules of mw.query", function()
      assert.equal("denied", sql(name, "BEGIN").code)
      must(name, "CREATE TABLE u (n int UNIQUE)")
      must(name, "INSERT INTO u VALUES (1)")
      local out = sql(name, "INSERT INTO u VALUES (1)")
      assert.equal("constraint", out.code)
      assert.matches("^plugins/db.lua:", out.where)
      assert.equal("timeout", sql(name, "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 100000000) SELECT max(n) FROM r", nil, "50ms").code)
    end)
  end

  it("is one file for all workers, in the data folder or where the path says", function()
    assert.equal(2, s:get("/cache").json().n)
    assert.equal("ok", server.integrity(s.data .. "/cache.db"))
    assert.equal("ok", server.integrity(elsewhere .. "/x.sqlite"))
  end)

  it("rolls back with the task that began", function()
    assert.equal(503, s:get("/left").status)
    s:wait(function() return (sql("cache", "INSERT INTO t VALUES (9)").value) end, 10, "the writer")
    assert.same({}, must("cache", "SELECT n FROM t WHERE n = 8"))
  end)

  it("cannot reach another file", function()
    assert.equal("denied", sql("cache", "ATTACH 'moonwatch.db' AS m").code)
    assert.equal("denied", sql("cache", "PRAGMA journal_mode = DELETE").code)
  end)

  it("raises unavailable when it is away, at once, and holds up nothing", function()
    local out = sql("away", "SELECT 1")
    assert.equal("unavailable", out.code)
    assert.is_true(out.retryable)
    assert.equal("unavailable", s:post("/move/away").json().code)
    assert.equal("yes", s:get("/alive").body)
    assert.is_nil((s:log() .. out.message):find("hidden-word", 1, true))
    assert.equal("io", sql("broken", "SELECT 1").code)
  end)

  it("comes back with its server", function()
    if not postgres.can_start() then return pending("needs the PostgreSQL server programs") end
    local pg = postgres.start()
    local own = server.start { plugins = { ["db.lua"] = plugin }, env = { MOONWATCH_DATABASES = "cache=sqlite:cache.db,reports=" .. pg.url } }
    local function ask() return own:post("/sql/reports", { json = { sql = "SELECT 1 AS n" } }).json() end
    assert.equal(1, ask().value[1].n)
    pg:stop_now()
    own:wait(function() return ask().code == "unavailable" end, 10, "unavailable")
    pg:start_again()
    own:wait(function() return ask().value end, 20, "its answer")
    own:stop()
    pg:stop()
  end)

  it("says what a name that does not exist should be", function()
    assert.matches('there is no such database; did you mean "cache"%?', sql("cach", "SELECT 1").message)
    local out = sql("other", "SELECT 1")
    assert.equal("not_found", out.code)
    assert.matches('add it to moonwatch.lua: databases = { other = "postgres://user@host/name" }', out.message, 1, true)
  end)

  it("fails the load of a plugin that names one that does not exist", function()
    s:write("typo.lua", [[local mw = require "mw"; local db = mw.db("repots")]])
    local code, text = s:command("check", "--plugins", s.plugins)
    assert.not_equal(0, code)
    assert.matches('mw.db("repots"): there is no such database', text, 1, true)
    s:remove("typo.lua")
  end)

  it("is refused in the body of a workflow", function()
    local id = s:post("/run").json().id
    local run = s:wait(function()
      local one = s:get("/api/v1/executions/" .. id).json()
      return one.status == "failed" and one
    end, 10, "the execution")
    assert.matches('mw.db("cache").one differs from run to run', run.error.message, 1, true)
  end)

  it("never lets one of our own files be reached by another path", function()
    local dir = posix.temp_dir()
    local own = server.start { plugins = { ["db.lua"] = plugin }, data = dir .. "/data",
      config = ('return { databases = { cache = "sqlite:cache.db", sly = "sqlite:%s/data/../data/moonwatch.db", slyer = "sqlite:%s/link.db" } }'):format(dir, dir) }
    os.execute(("ln -s %s/data/moonwatch.db %s/link.db"):format(dir, dir))
    for _, name in ipairs { "sly", "slyer" } do
      local out = own:post("/sql/" .. name, { json = { sql = "SELECT 1" } }).json()
      assert.equal("denied", out.code)
      assert.matches("one of Moonwatch's own files", out.message)
    end
    own:stop()
    posix.remove_dir(dir)
  end)
end)
