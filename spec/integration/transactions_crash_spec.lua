-- SPDX-License-Identifier: MIT
-- What commits with the application's own rows, on both engines: the result of a ctx:transaction, and runs started by tx:trigger. The server is
-- killed between the application's commit and the engine's, which is held up from outside.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local proxy = require "support.proxy"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"

  local function pay(s, tx)
    tx:query("INSERT INTO payments (run) VALUES ($1)", { s.id })
    mw.kv.set("entered", "yes")
    local way = s.input and s.input.way
    while way == "gate" and mw.kv.get("gate") ~= "open" do mw.sleep("10ms") end
    if way == "fails once" and s.attempt == 1 then error "not yet" end
    if way == "fails" then error(mw.error("declined", "no", { retryable = false })) end
    return { attempt = s.attempt }
  end

  mw.workflow("pays", function(ctx)
    return ctx:transaction("take", pay, { backoff = "10ms" })
  end)
  mw.workflow("once", function(ctx) return ctx:transaction("take", pay, { retries = 0 }) end)
  mw.workflow("listed", {
    { name = "take", transaction = true, run = pay, undo = function(s, result)
      mw.query("DELETE FROM payments WHERE run = $1", { s.id })
    end },
    { name = "after", run = function(ctx)
      if ctx.input.way == "undone" then error(mw.error("declined", "no", { retryable = false })) end
      return ctx.results.take
    end },
  })
  mw.workflow("beside", function(ctx)
    return ctx:all { a = function(c) return c:transaction("take", pay) end, b = function(c) return c:transaction("take", pay) end }
  end)
  mw.workflow("starts", function(ctx)
    return ctx:transaction("take", function(s, tx)
      pay(s, tx)
      return tx:trigger("ship", { from = s.id }).id
    end)
  end)
  mw.workflow("wrong", function(ctx)
    return ctx:transaction("take", function() return print end)
  end)
  mw.workflow("ship", function(ctx, input) return ctx:step("go", function() return input end) end)

  mw.post("/setup", function(req, res)
    mw.query("CREATE TABLE payments (run text)")
    res:json {}
  end)
  mw.post("/gate", function(req, res)
    mw.kv.set("gate", "open")
    res:json {}
  end)
  mw.get("/entered", function(req, res) res:json { entered = mw.kv.get("entered") == "yes" } end)
  mw.post("/order", function(req, res)
    local ask = req:json()
    local value, err = mw.try(mw.transaction, function(tx)
      tx:query("INSERT INTO payments (run) VALUES ('order')")
      local run = tx:trigger(ask.workflow or "ship", ask.input, ask.options)
      if ask.fail then error(mw.error("changed_my_mind", "no")) end
      return run
    end)
    res:json { id = value and value.id, code = err and err.code, message = err and err.message }
  end)
  mw.post("/many", function(req, res)
    local fns = {}
    for i = 1, 4 do
      fns[i] = function() return mw.transaction(function(tx) return tx:trigger("ship", i).id end) end
    end
    res:json { ids = mw.all(fns) }
  end)
  mw.get("/other", function(req, res)
    local _, err = mw.try(function() mw.db("other").transaction(function(tx) tx:trigger("ship") end) end)
    res:json { message = err.message }
  end)
  local kept
  mw.get("/kept", function(req, res)
    mw.transaction(function(tx) kept = tx end)
    local _, err = mw.try(kept.trigger, kept, "ship")
    res:json { message = err.message }
  end)
]==]

engines.describe("what commits with the application's rows, on ", function(engine)
  local s, db

  before_each(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, config = 'return { databases = { other = "sqlite:other.db" } }', database = engine.fresh(), args = { "--workers", "1" } }
    db = engine_db.of(s)
    assert.equal(200, s:post("/setup", { json = {} }).status)
  end)
  after_each(function() s:stop() end)

  local function start(workflow, input) return s:post("/api/v1/executions", { json = { workflow = workflow, input = input } }).json().id end
  local function ended(id)
    local run
    s:wait(function()
      run = s:get("/api/v1/executions/" .. id .. "?wait=5").json()
      return run.status == "completed" or run.status == "failed", run.status
    end, 30, "the run to end")
    return run
  end
  local function payments() return tonumber(db.app("SELECT count(*) FROM payments")) end
  local function wait_payments(n) s:wait(function() return payments() == n end, 10, "the application's commit") end
  local function wait_entered() s:wait(function() return s:get("/entered").json().entered end, 10, "the step") end

  local function kill_and_restart(release)
    s:kill()
    release()
    s:restart()
  end

  it("commit the rows and the result once, and a killed server does not repeat them", function()
    local id = start("pays", { way = "gate" })
    wait_entered()
    local release = db.hold("journal")
    s:post("/gate", { json = {} })
    wait_payments(1)
    kill_and_restart(release)
    local run = ended(id)
    assert.equal("completed", run.status)
    assert.same({ attempt = 1 }, run.output)
    assert.equal(1, payments())
  end)

  it("repeat what was killed before its commit", function()
    local id = start("pays", { way = "gate" })
    wait_entered()
    kill_and_restart(function() end)
    wait_entered()
    s:post("/gate", { json = {} })
    assert.equal("completed", ended(id).status)
    assert.equal(1, payments())
  end)

  it("roll back what fails, and try it again as a step", function()
    assert.same({ attempt = 2 }, ended(start("pays", { way = "fails once" })).output)
    assert.equal(1, payments())
    local failed = ended(start("pays", { way = "fails" }))
    assert.equal("declined", failed.error.code)
    assert.equal("take", failed.error.step)
    local wrong = ended(start("wrong"))
    assert.equal("invalid_result", wrong.error.code)
    assert.equal(1, payments())
  end)

  it("are entries of a list, and are undone as steps", function()
    assert.same({ attempt = 1 }, ended(start("listed", {})).output)
    assert.equal("failed", ended(start("listed", { way = "undone" })).status)
    assert.equal(1, payments())
  end)

  it("stand in branches, each for itself", function()
    assert.same({ a = { attempt = 1 }, b = { attempt = 1 } }, ended(start("beside", {})).output)
    assert.equal(2, payments())
  end)

  it("are done again when an operator retries from them", function()
    local id = start("pays", {})
    ended(id)
    assert.equal(200, s:post("/api/v1/executions/" .. id .. "/retry", { json = { from = "take" } }).status)
    wait_payments(2)
    assert.equal("completed", ended(id).status)
  end)

  it("keep no results of what has completed, and those of what may be retried", function()
    local completed, failed, gone, new = ended(start("pays", {})).id, ended(start("pays", { way = "fails" })).id,
      "01900000-0000-7000-8000-00000000000a", "01900000-0000-7000-8000-00000000000b"
    local function results() return db.app("SELECT execution FROM moonwatch_results ORDER BY execution") end
    s:wait(function() return results() == "" end, 10, "the result of a completed run to be forgotten")
    for _, id in ipairs { completed, failed, gone } do
      db.app("INSERT INTO moonwatch_results (execution, step, at_us) VALUES ('" .. id .. "', 'left', 5)")
    end
    db.app("INSERT INTO moonwatch_results (execution, step, at_us) VALUES ('" .. new .. "', 'left', 9000000000000000)")
    s:stop { keep = true }
    s:restart()
    s:wait(function() return results() == new .. "\n" .. failed, results() .. " / " .. failed .. (s:log():match("old results[^\n]*") or "") end, 5, "what is left over to be deleted")
  end)

  if engine.url then
    it("roll back when the run has another owner by then", function()
      local id = start("pays", { way = "gate" })
      wait_entered()
      db.run("UPDATE EXECUTIONS SET fence = fence + 1 WHERE id = ID('" .. id .. "')")
      s:post("/gate", { json = {} })
      s:wait(function() return s:log():find("went to another owner", 1, true) end, 10, "the stale owner to notice")
      assert.equal(0, payments())
    end)
  end

  it("start runs only if they commit", function()
    local done = s:post("/order", { json = { input = { a = 1 }, options = { tags = { "x" } } } }).json()
    local run = ended(done.id)
    assert.same({ a = 1 }, run.output)
    assert.equal("ship", run.workflow)
    local not_done = s:post("/order", { json = { fail = true } }).json()
    assert.equal("changed_my_mind", not_done.code)
    assert.equal("1", db.value("SELECT count(*) FROM EXECUTIONS"))
    assert.equal("0", db.app("SELECT count(*) FROM moonwatch_outbox"))
    assert.equal(1, payments())
  end)

  it("start a run although the server is killed before the run is stored", function()
    s:post("/order", { json = {} }) -- the table is there
    local release = db.hold("executions")
    pcall(s.post, s, "/order", { json = { input = { b = 2 } }, timeout = 1 })
    wait_payments(2)
    local id = db.app("SELECT id FROM moonwatch_outbox")
    assert.equal(36, #id)
    kill_and_restart(release)
    s:wait(function() return s:get("/api/v1/executions/" .. id).status == 200 end, 10, "the run")
    assert.same({ b = 2 }, ended(id).output)
    s:wait(function() return db.app("SELECT count(*) FROM moonwatch_outbox") == "0" end, 10, "the outbox to be empty")
    assert.equal("2", db.value("SELECT count(*) FROM EXECUTIONS"))
  end)

  it("make the table although several need it at once", function()
    local ids = s:post("/many", { json = {} }).json().ids
    assert.equal(4, #ids)
    for i, id in ipairs(ids) do assert.equal(i, ended(id).output) end
  end)

  it("start one run from a step, once", function()
    local id = ended(start("starts", {})).output
    assert.equal("completed", ended(id).status)
    assert.equal("2", db.value("SELECT count(*) FROM EXECUTIONS"))
  end)

  it("know runs by the caller's id, and refuse what cannot be", function()
    local first = s:post("/order", { json = { input = 1, options = { id = "mine" } } }).json()
    ended(first.id)
    assert.equal(first.id, s:post("/order", { json = { input = 1, options = { id = "mine" } } }).json().id)
    assert.equal("conflict", s:post("/order", { json = { input = 2, options = { id = "mine" } } }).json().code)
    assert.equal("not_found", s:post("/order", { json = { workflow = "shipp" } }).json().code)
    assert.equal("invalid", s:post("/order", { json = { options = { nonsense = 1 } } }).json().code)
    assert.matches("a run cannot depend on rows of another", s:get("/other").json().message)
    assert.matches("the transaction is over", s:get("/kept").json().message)
    assert.equal(2, payments())
  end)
end)

engines.describe_postgres("a transaction whose COMMIT is not answered", function(engine)
  it("is asked about, and neither lost nor repeated", function()
    local url = engine.fresh()
    local p = proxy.start(tonumber(url:match("@[^/:]+:(%d+)")))
    local s = server.start { plugins = { ["p.lua"] = plugin }, database = p:url(url), args = { "--workers", "1" } }
    local db = engine_db.of { opts = { database = url } }
    s:post("/setup", { json = {} })
    db.app "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'"
    db.app "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON payments DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"
    local id = s:post("/api/v1/executions", { json = { workflow = "once", input = {} } }).json().id
    s:wait(function()
      return db.app "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'" == "1"
    end, 10, "the COMMIT to be under way")
    assert.is_true(p:cut() > 0)
    local run
    s:wait(function()
      local answer = s:get("/api/v1/executions/" .. id .. "?wait=5")
      run = answer.status == 200 and answer.json() or {}
      return run.status == "completed" or run.status == "failed", answer.body
    end, 30, "the run to end")
    assert.equal("completed", run.status)
    assert.same({ attempt = 1 }, run.output)
    assert.equal("1", db.app "SELECT count(*) FROM payments")
    s:stop()
    p:stop()
  end)
end)
