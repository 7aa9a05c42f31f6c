-- SPDX-License-Identifier: MIT
-- Signals to runs of a real server: over HTTP and from Lua, on both engines.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("slow", { { name = "never", retries = 5, backoff = { initial = "1h", max = "1h" }, run = function() error("not yet") end } })
  mw.workflow("quick", { { name = "one", run = function() return 1 end } })
  mw.workflow("shipping", function(ctx)
    return ctx:http("ship", { url = function(c) return c.input.url end }, { retries = 2, backoff = { initial = "10ms" } })
  end)
  mw.post("/service", function(req, res)
    local body = req:json()
    mw.kv.set("callback " .. body.execution .. " " .. body.attempt, body.callback)
    res:status(202):text ""
  end)
  mw.get("/callback", function(req, res) res:text(mw.kv.get("callback " .. req.query.key) or "") end)
  mw.workflow("asks", function(ctx) return { ctx:wait_for("approved") , ctx:wait_for("approved") } end)
  mw.post("/signal", function(req, res)
    local body = req:json()
    local ok, err = pcall(mw.signal, body.id, body.name, body.data, body.opts)
    res:json { ok = ok, code = not ok and err.code or nil, message = not ok and err.message or nil }
  end)
]==]

local TOKEN = "a token of the operator"
local AS_OPERATOR = { headers = { authorization = "Bearer " .. TOKEN } }
engines.describe("signals on ", function(engine)
  local s, db
  setup(function()
    local database = engine.fresh()
    s = server.start { plugins = { ["p.lua"] = plugin }, database = database, args = { "--token", TOKEN, "--workers", "2" } }
    db = engine_db.of(s)
  end)
  teardown(function() s:stop() end)

  local function ask(method, path, opts)
    opts = opts or {}
    opts.headers = opts.headers or {}
    opts.headers.authorization = opts.headers.authorization or "Bearer " .. TOKEN
    return s:request(method, path, opts)
  end
  local function status(id) return s:execution(id, AS_OPERATOR).status end
  local function start(workflow, wanted)
    return s:reach(ask("POST", "/api/v1/executions", { json = { workflow = workflow } }).json().id, wanted, AS_OPERATOR)
  end
  local function signal(id, name, opts) return ask("POST", "/api/v1/executions/" .. id .. "/signals/" .. name, opts or { json = {} }) end
  local function json(body, more)
    local opts = { body = body, headers = { ["content-type"] = "application/json" } }
    for name, value in pairs(more or {}) do opts.headers[name] = value end
    return opts
  end
  local function count(id) return tonumber(db.value("SELECT count(*) FROM SIGNALS WHERE execution = ID('" .. id .. "')")) end

  it("are stored as they were written, with who sent them, and leave a row of what happened", function()
    local id = start("slow", "sleeping")
    local answer = signal(id, "approved", json '{"n": 12345678901234567890, "x": null}')
    assert.equal(202, answer.status, answer.body)
    assert.same({ id = id, signal = "approved" }, answer.json())
    assert.equal('approved|{"n": 12345678901234567890, "x": null}|token',
      db.run("SELECT name, data, actor FROM SIGNALS WHERE execution = ID('" .. id .. "')"))
    assert.equal('execution.signalled|token|{"signal":"approved"}', db.run("SELECT kind, actor, detail FROM CHANGES WHERE subject = 'execution " .. id .. "'"))
  end)

  it("may carry nothing, or any JSON", function()
    local id = start("slow", "sleeping")
    assert.equal(202, signal(id, "bare", json(nil)).status)
    assert.equal(202, signal(id, "list", json "[1,2]").status)
    assert.equal(202, signal(id, "word", json '"yes"').status)
    assert.equal("||[1,2]|\"yes\"|", "|" .. db.run("SELECT data FROM SIGNALS WHERE execution = ID('" .. id .. "') ORDER BY sent_us"):gsub("\n", "|") .. "|")
  end)

  it("are one signal when they are sent again with the same key", function()
    local id = start("slow", "sleeping")
    for _ = 1, 3 do assert.equal(202, signal(id, "paid", json("{}", { ["idempotency-key"] = "tx-1" })).status) end
    assert.equal(1, count(id))
    assert.equal(202, signal(id, "paid", json("{}", { ["idempotency-key"] = "tx-2" })).status)
    assert.equal(2, count(id))
  end)

  it("queue a run that waits for their name, and no other", function()
    local id = start("slow", "sleeping")
    db.run("UPDATE EXECUTIONS SET status = 4, waits = '\n" .. "approved" .. "\n', due_us = 9223372036854775807 WHERE id = ID('" .. id .. "')")
    assert.equal(202, signal(id, "other").status)
    assert.equal("waiting", status(id))
    local tries = #ask("GET", "/api/v1/executions/" .. id).json().steps[1].tries
    assert.equal(202, signal(id, "approved").status)
    s:wait(function() return status(id) ~= "waiting" end, 2, "the run to go on")
    assert.is_true(tries >= 1)
  end)

  it("are refused with what is wrong", function()
    local id, done = start("slow", "sleeping"), start("quick", "completed")
    local function refused(code, pattern, answer)
      assert.equal(code, answer.status, answer.body)
      assert.matches(pattern, answer.json().detail)
    end
    refused(404, "there is no execution", signal("01900000-0000-7000-8000-000000000000", "approved"))
    refused(404, "there is no execution", signal("nonsense", "approved"))
    refused(409, "has ended, so it takes no signal", signal(done, "approved"))
    refused(400, "names that begin with %$ are the engine's own", signal(id, "$child:pay"))
    refused(400, "names that begin with %$", signal(id, "%24step:pay"))
    refused(400, "must have 1 to 200 bytes", signal(id, ("n"):rep(201)))
    refused(400, "control character", signal(id, "a%0Ab"))
    refused(400, "not valid JSON", signal(id, "approved", json "{"))
    refused(415, "must be JSON", signal(id, "approved", { body = "x", headers = { ["content-type"] = "text/plain" } }))
    refused(400, "1 to 255 bytes", signal(id, "approved", json("{}", { ["idempotency-key"] = ("k"):rep(256) })))
    refused(413, "larger than this route takes", signal(id, "approved", json('"' .. ("x"):rep(1048576) .. '"')))
    assert.equal(0, count(id))
  end)

  it("need a key that may send them", function()
    local id = start("slow", "sleeping")
    local function key(scope) return ask("POST", "/api/v1/keys", { json = { name = scope .. id, scopes = { scope } } }).json().key end
    local answer = signal(id, "approved", json("{}", { authorization = "Bearer " .. key "executions:read" }))
    assert.equal(403, answer.status)
    assert.matches("lacks the scope signal", answer.json().detail, 1, true)
    assert.equal(202, signal(id, "approved", json("{}", { authorization = "Bearer " .. key "signal" })).status)
    assert.equal(1, count(id))
  end)

  it("are bounded a run", function()
    local id = start("slow", "sleeping")
    db.run(([[INSERT INTO SIGNALS (execution, id, name, sent_us)
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) SELECT ID('%s'), 'x' || i, 'x', 1 FROM n]]):format(id))
    assert.equal(202, signal(id, "last", json("{}", { ["idempotency-key"] = "last" })).status)
    local answer = signal(id, "more")
    assert.equal(409, answer.status)
    assert.matches("has had 10000 signals", answer.json().detail)
    assert.equal(202, signal(id, "last", json("{}", { ["idempotency-key"] = "last" })).status)
  end)

  it("may be many and large: the run reads the one that it takes", function()
    local id = ask("POST", "/api/v1/executions", { json = { workflow = "asks" } }).json().id
    s:wait(function() return status(id) == "waiting" end, 10, "the run to wait")
    local zeros = engine.url and "repeat('0', 1000000)" or "printf('%01000000d', 0)"
    db.run(([[INSERT INTO SIGNALS (execution, id, name, data, sent_us)
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80) SELECT ID('%s'), 'x' || i, 'x', '"' || %s || '"', 1 FROM n]]):format(id, zeros))
    assert.equal(202, signal(id, "approved", json(('{"n":"%s"}'):format(("1"):rep(1000)))).status)
    assert.equal(202, signal(id, "approved", json '{"n":2}').status)
    s:wait(function() return status(id) == "completed" end, 20, "the run to complete")
    assert.matches(("1"):rep(1000), ask("GET", "/api/v1/executions/" .. id).body, 1, true)
  end)

  it("end the waits of a run, one each, also those that came before", function()
    local id = ask("POST", "/api/v1/executions", { json = { workflow = "asks" } }).json().id
    assert.equal(202, signal(id, "approved", json '{"n":1}').status)
    assert.equal(202, signal(id, "approved", json '{"n":2}').status)
    s:wait(function() return status(id) == "completed" end, 5, "the run to end")
    assert.same({ { n = 1 }, { n = 2 } }, ask("GET", "/api/v1/executions/" .. id).json().output)
  end)

  local function taken_over()
    local id = ask("POST", "/api/v1/executions", { json = { workflow = "shipping", input = { url = "http://127.0.0.1:" .. s.port .. "/service" } } }).json().id
    return id, function(n)
      return s:wait(function()
        local path = s:get("/callback?key=" .. id .. "%20" .. n).body
        return path ~= "" and path
      end, 10, "the service to be asked")
    end
  end
  local function finished(id, wanted) return s:execution(s:reach(id, wanted, AS_OPERATOR), AS_OPERATOR) end

  it("end a step that a service took over, by the address it was given and without a key", function()
    local id, callback = taken_over()
    local path = callback(1)
    assert.matches("^/api/v1/executions/" .. id:gsub("%-", "%%-") .. "/steps/ship/complete%?token=1%.", path)
    assert.equal(202, s:post(path, { json = { result = { parcel = 7 } } }).status)
    local again = s:post(path, { json = { result = { parcel = 8 } } }).status
    assert.is_true(again == 202 or again == 409, "it is the same end, or the run has ended")
    assert.same({ parcel = 7 }, finished(id, "completed").output)
    assert.equal(409, s:post(path, { json = { result = 1 } }).status)
    assert.is_nil(s:log():find(path:match "token=(.*)$", 1, true))
  end)

  it("end an attempt as failed, and the next one by its own address", function()
    local id, callback = taken_over()
    assert.equal(202, s:post(callback(1), { json = { error = { code = "no_truck", message = "no truck is free" } } }).status)
    assert.equal(202, s:post(callback(2), { json = { error = { message = "burnt", retryable = false } } }).status)
    local run = finished(id, "failed")
    assert.equal("burnt", run.error.message)
    assert.equal("no_truck", run.steps[1].tries[1].error.code)
    assert.equal(200, ask("POST", "/api/v1/executions/" .. id .. "/retry", { json = {} }).status)
    s:wait(function() return status(id) == "waiting" end, 10, "the service to be asked again")
    assert.equal(202, s:post(callback(1), { json = { result = "late" } }).status)
    assert.equal("late", finished(id, "completed").output)
  end)

  it("end a step of a service for whoever has a key, and for nobody with another's token", function()
    local id, callback = taken_over()
    local other = taken_over()
    local path = callback(1)
    s:wait(function() return status(id) == "waiting" end, 10, "the wait for the callback")
    local function complete(to, opts) return s:post("/api/v1/executions/" .. to .. "/steps/ship/complete", opts) end
    assert.equal(401, s:post((path:gsub(id:gsub("%-", "%%-"), other)), { json = { result = 1 } }).status)
    assert.equal(401, s:post((path:gsub("/ship/", "/shop/")), { json = { result = 1 } }).status)
    assert.equal(401, s:post((path:gsub("token=1", "token=2")), { json = { result = 1 } }).status)
    assert.equal(401, complete(id, { json = { result = 1 } }).status)
    assert.equal(400, ask("POST", "/api/v1/executions/" .. id .. "/steps/ship/complete", { json = { result = 1, error = { message = "x" } } }).status)
    assert.equal(400, ask("POST", "/api/v1/executions/" .. id .. "/steps/ship/complete", { json = { error = { code = "x" } } }).status)
    assert.equal("waiting", status(id))
    assert.equal(202, ask("POST", "/api/v1/executions/" .. id .. "/steps/ship/complete", { json = { result = "by hand" } }).status)
    assert.equal("by hand", finished(id, "completed").output)
    ask("POST", "/api/v1/executions/" .. other .. "/cancel", { json = {} })
  end)

  it("are sent from Lua in the same way", function()
    local id, done = start("slow", "sleeping"), start("quick", "completed")
    local function from_lua(body) return s:post("/signal", { json = body }).json() end
    assert.is_true(from_lua({ id = id, name = "approved", data = { by = "eve" }, opts = { id = "one" } }).ok)
    assert.is_true(from_lua({ id = id:upper(), name = "approved", data = { by = "eve" }, opts = { id = "one" } }).ok)
    assert.equal('approved|{"by":"eve"}|plugin', db.run("SELECT name, data, actor FROM SIGNALS WHERE execution = ID('" .. id .. "')"))
    assert.equal("conflict", from_lua({ id = done, name = "approved" }).code)
    assert.equal("not_found", from_lua({ id = "nonsense", name = "approved" }).code)
    assert.equal("invalid", from_lua({ id = id, name = "$child:x" }).code)
    assert.matches('did you mean "id"', from_lua({ id = id, name = "approved", opts = { ids = "x" } }).message, 1, true)
  end)
end)
