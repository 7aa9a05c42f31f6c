-- SPDX-License-Identifier: MIT
-- mw.query, mw.one and mw.transaction in a real server, on both engines.

local engines = require "support.engines"
local server = require "support.server"

local plugin = [[
  local mw = require "mw"

  local function answer(res, fn, ...)
    local value, err = mw.try(fn, ...)
    if err then
      return res:json { code = err.code, message = err.message, sqlstate = err.sqlstate, retryable = err.retryable, where = err.where }
    end
    res:json { value = value }
  end

  mw.post("/sql", function(req, res)
    local ask = req:json()
    answer(res, function() return mw.query(ask.sql, ask.params, { timeout = ask.timeout }) end)
  end)
  mw.post("/one", function(req, res)
    local ask = req:json()
    answer(res, function() return mw.one(ask.sql, ask.params) or "nothing" end)
  end)
  mw.get("/nulls", function(_, res)
    local row = mw.one("SELECT 1 AS one, NULL AS none, $2 AS two, CAST($1 AS text) AS first", { nil, "b" })
    res:json { one = row.one, none = row.none == nil, two = row.two, first = row.first == nil }
  end)
  mw.get("/affected", function(_, res)
    mw.query("CREATE TABLE affected (a int)")
    mw.query("INSERT INTO affected VALUES (1), (2), (3)")
    res:json { changed = mw.query("UPDATE affected SET a = 0 WHERE a > 1").affected, rows = #mw.query("SELECT a FROM affected") }
  end)

  mw.post("/transfer", function(req, res)
    local ask = req:json()
    answer(res, function()
      return mw.transaction(function(tx)
        tx:query("UPDATE accounts SET cents = cents - $1 WHERE name = 'a'", { ask.cents })
        tx:query("UPDATE accounts SET cents = cents + $1 WHERE name = 'b'", { ask.cents })
        if ask.fail then error(mw.error("changed_my_mind", "no")) end
        return tx:one("SELECT cents FROM accounts WHERE name = 'b'").cents
      end)
    end)
  end)
  mw.get("/kept", function(_, res)
    local kept
    mw.transaction(function(tx) kept = tx end)
    answer(res, function() return kept:query("SELECT 1") end)
  end)
  mw.get("/swallowed", function(_, res)
    answer(res, function()
      mw.transaction(function(tx)
        tx:query("UPDATE accounts SET cents = 0")
        mw.try(tx.query, tx, "SELECT nothing FROM nowhere")
      end)
    end)
  end)
  mw.get("/slow_transaction", function(_, res)
    answer(res, function()
      mw.transaction(function(tx)
        tx:query("UPDATE accounts SET cents = 0")
        mw.sleep("300ms")
        tx:query("SELECT 1")
      end, { timeout = "100ms" })
    end)
  end)
  mw.get("/left_waiting", { timeout = "300ms" }, function()
    mw.transaction(function(tx)
      tx:query("UPDATE accounts SET cents = 0")
      mw.sleep("60s")
    end)
  end)
  mw.get("/killed", function()
    mw.transaction(function(tx)
      tx:query("UPDATE accounts SET cents = 0")
      while true do end
    end)
  end)
]]

engines.describe("SQL from plugins on ", function(engine)
  local s

  local function sql(text, params, timeout) return s:post("/sql", { json = { sql = text, params = params, timeout = timeout } }).json() end
  local function must(text, params)
    local out = sql(text, params)
    assert.is_nil(out.code, out.message)
    return out.value
  end
  local function cents(name) return must("SELECT cents FROM accounts WHERE name = $1", { name })[1].cents end

  setup(function()
    s = server.start { plugins = { ["db.lua"] = plugin }, database = engine.fresh() }
    must("CREATE TABLE accounts (name text PRIMARY KEY, cents int NOT NULL CHECK (cents >= 0))")
  end)
  teardown(function() s:stop() end)
  before_each(function()
    must("DELETE FROM accounts")
    must("INSERT INTO accounts VALUES ('a', 100), ('b', 0)")
  end)

  it("gives rows by column name, without the columns that are NULL", function()
    assert.are.same({ one = 1, none = true, two = "b", first = true }, s:get("/nulls").json())
    assert.are.same({ { name = "a", cents = 100 } }, must("SELECT name, cents FROM accounts WHERE name = $1", { "a" }))
  end)

  it("tells how many rows a statement changed", function()
    assert.are.same({ changed = 2, rows = 3 }, s:get("/affected").json())
  end)

  it("gives the first row, or nil", function()
    assert.are.same({ cents = 100 }, s:post("/one", { json = { sql = "SELECT cents FROM accounts ORDER BY name" } }).json().value)
    assert.are.equal("nothing", s:post("/one", { json = { sql = "SELECT cents FROM accounts WHERE name = 'x'" } }).json().value)
  end)

  it("raises the database's own words, its state and the plugin's line", function()
    local err = sql("INSERT INTO accounts VALUES ('a', 1)")
    assert.are.equal("constraint", err.code)
    assert.are.equal(engine.url and "23505" or "SQLITE_CONSTRAINT_PRIMARYKEY", err.sqlstate)
    assert.matches("accounts", err.message)
    assert.matches("plugins/db.lua:%d+", err.where)
    assert.are.equal("constraint", sql("UPDATE accounts SET cents = -1").code)
    err = sql("SELECT * FROM nowhere")
    assert.are.equal("sql", err.code)
    assert.matches("nowhere", err.message)
  end)

  it("refuses transaction control and points at mw.transaction", function()
    for _, text in ipairs { "BEGIN", "COMMIT", "ROLLBACK" } do
      local err = sql(text)
      assert.are.equal("denied", err.code)
      assert.matches("mw.transaction", err.message, 1, true)
    end
  end)

  it("refuses more parameters than placeholders, and a second statement", function()
    assert.are.equal("invalid", sql("SELECT 1", { 1 }).code)
    assert.are.equal("invalid", sql("SELECT 1; DELETE FROM accounts").code)
    assert.are.equal(100, cents("a"))
  end)

  it("cancels a statement when its time is over", function()
    local text = engine.url and "SELECT pg_sleep(30)"
      or "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    local err = sql(text, nil, "200ms")
    assert.are.equal("timeout", err.code)
    assert.is_true(err.retryable)
  end)

  it("commits a transaction and gives what its function returned", function()
    assert.are.same({ value = 30 }, s:post("/transfer", { json = { cents = 30 } }).json())
    assert.are.same({ 70, 30 }, { cents("a"), cents("b") })
  end)

  it("rolls back on an error, which it raises again as it was", function()
    assert.are.equal("changed_my_mind", s:post("/transfer", { json = { cents = 30, fail = true } }).json().code)
    assert.are.equal("constraint", s:post("/transfer", { json = { cents = 130 } }).json().code)
    assert.are.same({ 100, 0 }, { cents("a"), cents("b") })
  end)

  it("does not commit after an error that the plugin swallowed", function()
    assert.are.equal("sql", s:get("/swallowed").json().code)
    assert.are.equal(100, cents("a"))
  end)

  it("refuses a transaction that is over", function()
    local err = s:get("/kept").json()
    assert.are.equal("invalid", err.code)
    assert.matches("is over", err.message)
  end)

  it("rolls back a transaction that takes too long", function()
    assert.are.equal("timeout", s:get("/slow_transaction").json().code)
    assert.are.equal(100, cents("a"))
  end)

  it("rolls back at once when the request ends in the middle", function()
    local started = server.now()
    assert.are.equal(503, s:get("/left_waiting").status)
    must("UPDATE accounts SET cents = 7 WHERE name = 'a'")
    assert.is_true(server.now() - started < 5, "the next write waited for the transaction's time to be over")
    assert.are.equal(0, cents("b"))
  end)

  it("rolls back at once when the plugin is killed in the middle", function()
    assert.are.equal(500, s:get("/killed").status)
    local started = server.now()
    must("UPDATE accounts SET cents = 7 WHERE name = 'a'")
    assert.is_true(server.now() - started < 5, "the next write waited for the transaction's time to be over")
  end)
end)
