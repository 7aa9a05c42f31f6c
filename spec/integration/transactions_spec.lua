-- SPDX-License-Identifier: MIT
-- Steps whose SQL commits with their result, and runs that exist only if rows do.

local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  local function set_up()
    mw.query("CREATE TABLE IF NOT EXISTS ledger (what TEXT NOT NULL, run TEXT NOT NULL)")
  end
  mw.workflow("book", function(ctx, input)
    ctx:step("set_up", set_up)
    local n = ctx:transaction("pay", function(s, tx)
      tx:query("INSERT INTO ledger (what, run) VALUES ('pay', $1)", { s.id })
      if input.fail and s.attempt == 1 then error("after the insert") end
      return { paid = true, attempt = s.attempt }
    end, { backoff = "10ms" })
    return n
  end)
  mw.workflow("listed", {
    { name = "set_up", run = set_up },
    { name = "pay", transaction = true, run = function(ctx, tx)
      tx:query("INSERT INTO ledger (what, run) VALUES ('listed', $1)", { ctx.id })
      return "ok"
    end },
  })
  mw.workflow("told", { { name = "a", run = function(ctx) return ctx.input end } })
  mw.post("/order", function(req, res)
    set_up()
    local started
    local ok, err = pcall(mw.transaction, function(tx)
      tx:query("INSERT INTO ledger (what, run) VALUES ('order', 'x')")
      started = tx:trigger("told", { n = 5 }, { tags = { "outbox" } })
      if req:json().fail then error("no") end
    end)
    res:json { ok = ok, id = started and started.id, message = not ok and tostring(err) or nil }
  end)
  mw.get("/ledger", function(_, res)
    res:json { ledger = mw.query("SELECT what, run FROM ledger"), results = mw.one("SELECT count(*) AS n FROM moonwatch_results").n }
  end)
]==]

engines.describe("a transaction on ", function(engine)
  local s

  before_each(function()
    s = server.start {
      plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "2" },
    }
  end)
  after_each(function()
    s:stop()
    s:clean()
  end)

  local function run(workflow, input)
    return s:post("/api/v1/executions?wait=10", { json = { workflow = workflow, input = input or {} } }).json()
  end

  it("of a step commits its rows once, with its result, in both forms", function()
    assert.same({ paid = true, attempt = 1 }, run("book").output)
    assert.same({ paid = true, attempt = 2 }, run("book", { fail = true }).output)
    assert.equal("ok", run("listed").output)
    s:wait(function() return s:get("/ledger").json().results == 0 end, 5, "results of ended runs to be forgotten")
    assert.equal(3, #s:get("/ledger").json().ledger)
  end)

  it("that committed before the server was killed is not done again", function()
    local first = run("book")
    -- as after a kill between the user's commit and the journal's: the row is there, the journal does not know it
    local id = s:post("/api/v1/executions", { json = { workflow = "book", delay = "1s", input = {} } }).json().id
    local insert = ("INSERT INTO moonwatch_results (execution, step, result, at_us) VALUES ('%s', 'pay', '{\"known\":1}', 9e15)"):format(id)
    if engine.url then server.postgres(s.opts.database, insert) else server.sqlite_exec(s.data .. "/app.db", insert) end
    local done = s:get("/api/v1/executions/" .. id .. "?wait=10").json()
    assert.same({ known = 1 }, done.output)
    local ledger = s:get("/ledger").json().ledger
    assert.equal(1, #ledger)
    assert.equal(first.id, ledger[1].run)
  end)

  it("starts a run only if it commits", function()
    local started = s:post("/order", { json = { x = 1 } }).json()
    assert.is_true(started.ok, started.message)
    local told = s:get("/api/v1/executions/" .. started.id .. "?wait=10").json()
    assert.equal("completed", told.status)
    assert.same({ "outbox" }, told.tags)
    local refused = s:post("/order", { json = { fail = true } }).json()
    assert.is_false(refused.ok)
    assert.equal(404, s:get("/api/v1/executions/" .. refused.id).status)
  end)

  it("starts it after the next start, when the server was killed in between", function()
    s:post("/order", { json = { x = 1 } })
    local id = "01900000-0000-7000-8000-00000000000a"
    local insert = ("INSERT INTO moonwatch_outbox (id, workflow, input, at_us) VALUES ('%s', 'told', '[7]', 5)"):format(id)
    if engine.url then server.postgres(s.opts.database, insert) else server.sqlite_exec(s.data .. "/app.db", insert) end
    s:kill_all()
    s:restart()
    s:wait(function() return s:get("/api/v1/executions/" .. id).status == 200 end, 10, "the run")
    assert.same({ 7 }, s:get("/api/v1/executions/" .. id .. "?wait=10").json().output)
  end)
end)
