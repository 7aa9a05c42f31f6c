-- SPDX-License-Identifier: MIT
-- What an operator does with single runs of a real server, on both engines: cancel, pause, resume, retry.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  local function when(name)
    return function(ctx)
      mw.kv.incr(ctx.step .. " of " .. ctx.id)
      if not mw.kv.get(name) then error("no " .. name) end
      return name
    end
  end
  local hour = { initial = "1h", max = "1h" }
  mw.workflow("slow", { { name = "first", run = when "always" }, { name = "second", retries = 5, backoff = hour, run = when "luck" } })
  mw.workflow("fails", { { name = "first", run = when "always" }, { name = "second", retries = 0, run = when "luck" }, { name = "third", run = when "always" } })
  mw.workflow("held", { { name = "first", run = function() while not mw.kv.get("go") do mw.sleep(0.02) end end }, { name = "second", run = function() end } })
  mw.workflow("parent", function(ctx)
    ctx:trigger("slow", nil, { name = "left" })
    ctx:trigger("slow", nil, { name = "taken", on_cancel = "cancel" })
    return ctx:all {
      a = function(ctx) return ctx:call("slow", nil, { name = "called" }) end,
      b = function(ctx) return ctx:call("slow", nil, { name = "kept", on_cancel = "leave" }) end,
    }
  end)
  mw.workflow("spreads", function(ctx)
    return ctx:all {
      a = function(ctx) return ctx:step("risky", when "luck", { retries = 0 }) end,
      b = function(ctx) ctx:step("safe", when "always") return ctx:call("fails", nil, { name = "child" }) end,
      c = function(ctx) ctx:step("safe", when "always") ctx:sleep("20ms") return ctx:step("late", when "always") end,
    }
  end)
  mw.workflow("undoes", function(ctx)
    ctx:step("book", function() return 7 end, { undo = function(c, result) mw.kv.set("undone " .. c.id, result) end })
    ctx:wait_for("go")
    return ctx:step("end", function() if not mw.kv.get("luck") then error("no luck") end return "done" end, { retries = 0 })
  end)
  mw.post("/set/:name", function(req, res) mw.kv.set(req.params.name, true) res:json {} end)
  mw.post("/unset/:name", function(req, res) mw.kv.delete(req.params.name) res:json {} end)
  mw.get("/calls", function(req, res) res:json { n = tonumber(mw.kv.get(req.query.key) or 0) } end)
]==]

describe("branches of a run that is undone", function()
  it("end with it, so that a server drains at once", function()
    local s = server.start { plugins = { ["p.lua"] = [==[
      local mw = require "mw"
      mw.workflow("child", { { name = "one", run = function() mw.sleep(0.2) end } })
      mw.workflow("parent", function(ctx)
        ctx:step("book", function() end, { undo = function() mw.sleep(0.01) end })
        return ctx:map({ 1, 2, 3, 4 }, function(c) return c:call("child", nil, { name = "child" }) end, { concurrency = 2 })
      end)
    ]==] }, args = { "--workers", "1" } }
    local id = s:post("/api/v1/executions", { json = { workflow = "parent" } }).json().id
    local function status() return s:get("/api/v1/executions/" .. id).json().status end
    s:wait(function() return status() == "waiting" end, 10, "the run to wait")
    s:post("/api/v1/executions/" .. id .. "/cancel", { json = { undo = true } })
    s:wait(function() return status() == "cancelled" end, 10, "the run to end")
    local began = server.now()
    s:stop()
    assert.is_true(server.now() - began < 15, "a branch was left, and the drain waited for it")
  end)
end)

engines.describe("an operator on ", function(engine)
  local s, db
  setup(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "2" } }
    db = engine_db.of(s)
    s:post("/set/always", { json = {} })
  end)
  teardown(function() s:stop() end)
  after_each(function()
    for _, name in ipairs { "luck", "go" } do s:post("/unset/" .. name, { json = {} }) end
  end)

  local function get(id) return s:execution(id) end
  local function reach(id, wanted) return s:reach(id, wanted) end
  local function start(workflow, wanted) return reach(s:post("/api/v1/executions", { json = { workflow = workflow } }).json().id, wanted) end
  local function act(id, what, body)
    local answer = s:post("/api/v1/executions/" .. id .. "/" .. what, { json = body or {} })
    assert.equal(200, answer.status, answer.body)
    return answer.json()
  end
  local function refused(code, pattern, id, what, body)
    local answer = s:post("/api/v1/executions/" .. id .. "/" .. what, { json = body or {} })
    assert.equal(code, answer.status, answer.body)
    assert.matches(pattern, answer.json().detail)
  end
  local function notes(id) return db.run("SELECT action, actor FROM AUDIT WHERE subject = 'execution " .. id .. "' ORDER BY at_us, id") end
  local function changes(id) return db.run("SELECT kind FROM CHANGES WHERE subject = 'execution " .. id .. "' ORDER BY number") end
  local function column(id, name) return db.value("SELECT " .. name .. " FROM EXECUTIONS WHERE id = ID('" .. id .. "')") end
  local function set(id, columns) db.run("UPDATE EXECUTIONS SET " .. columns .. " WHERE id = ID('" .. id .. "')") end
  local function calls(id, step) return s:get("/calls?key=" .. step .. "%20of%20" .. id).json().n end
  local function let_go(id)
    s:post("/set/go", { json = {} })
    s:wait(function() return get(id).status ~= "running" end, 10, "the step to end")
  end
  local function luck() s:post("/set/luck", { json = {} }) end

  it("cancels what nobody works at, at once", function()
    local id = start("slow", "sleeping")
    local outcome = act(id, "cancel", { reason = "duplicate" })
    assert.same({ id = id, workflow = "slow", status = "cancelled", changed = true }, outcome)
    local run = get(id)
    assert.equal("cancelled", run.error.code)
    assert.equal("cancelled by local: duplicate", run.error.message)
    assert.is_string(run.finished_at)
    outcome = act(id, "cancel")
    assert.equal("cancelled", outcome.status)
    assert.is_false(outcome.changed)
    assert.equal("execution.cancelled|local", notes(id)) -- the second time nothing happened
    assert.equal("execution.cancelled", changes(id))
  end)

  it("interrupts a run in the hands of its owner where it waits", function()
    local id = start("held", "running")
    assert.is_true(act(id, "cancel", { reason = "late" }).changed)
    reach(id, "cancelled")
    assert.equal("cancelled by local: late", get(id).error.message)
    assert.is_false(act(id, "cancel").changed)
  end)

  it("pauses and resumes, and keeps what was waited for", function()
    local id = start("slow", "sleeping")
    local due = column(id, "due_us")
    assert.equal("paused", act(id, "pause").status)
    assert.is_false(act(id, "pause").changed)
    assert.equal(due, column(id, "due_us"))
    refused(409, "is paused", id, "retry")
    luck()
    assert.is_true(act(id, "resume").changed)
    assert.is_false(act(id, "resume").changed)
    reach(id, "completed")
    assert.equal("execution.paused|local\nexecution.resumed|local", notes(id))
  end)

  it("pauses a run in the hands of its owner, and takes that back", function()
    local id = start("held", "running")
    assert.equal("pause", act(id, "pause").control)
    assert.is_false(act(id, "pause").changed)
    assert.equal("1", column(id, "control"))
    assert.is_nil(act(id, "resume").control)
    assert.equal("0", column(id, "control"))
    let_go(id)
    reach(id, "completed")
    s:post("/unset/go", { json = {} })
    id = start("held", "running")
    act(id, "pause")
    let_go(id)
    reach(id, "paused")
    assert.equal("completed", get(id).steps[1].status)
    act(id, "resume")
    reach(id, "completed")
  end)

  it("lets a run go on that was resumed while its owner was pausing it", function()
    local id = start("held", "running")
    act(id, "pause")
    set(id, "control = 0") -- what a resume does, but the owner does not hear of it
    let_go(id)
    reach(id, "completed")
  end)

  it("begins the next attempt now", function()
    local id = start("slow", "sleeping")
    assert.equal(1, calls(id, "second"))
    luck()
    act(id, "retry")
    reach(id, "completed")
    assert.equal(1, calls(id, "first"))
    assert.equal(2, calls(id, "second"))
  end)

  it("retries what failed from the step that failed", function()
    local id = start("fails", "failed")
    refused(400, "has no step", id, "retry", { from = "secnd" })
    luck()
    act(id, "retry")
    reach(id, "completed")
    assert.is_nil(get(id).error)
    assert.same({ 1, 2, 1 }, { calls(id, "first"), calls(id, "second"), calls(id, "third") })
    assert.matches('"R":%["second",%d+,"local"%]', db.run("SELECT data FROM JOURNAL WHERE execution = ID('" .. id .. "')"))
    refused(409, "is completed", id, "retry")
    assert.equal("execution.retried|local", notes(id))
  end)

  it("retries the branches that failed, and not what others did beside them", function()
    local id = start("spreads", "failed")
    luck()
    act(id, "retry")
    reach(id, "completed")
    assert.same({ 1, 2, 1 }, { calls(id, "all:b/safe"), calls(id, "all:a/risky"), calls(id, "all:c/late") })
  end)

  it("clears what a run that ended had, when it goes on", function()
    local id = start("fails", "failed")
    assert.not_equal("", column(id, "finished_us"))
    s:post("/unset/always", { json = {} })
    set(id, "workflow = 'nowhere'") -- so that nobody takes it up
    act(id, "retry")
    local row = db.run("SELECT status, finished_us, error, owner FROM EXECUTIONS WHERE id = ID('" .. id .. "')")
    s:post("/set/always", { json = {} })
    assert.is_true(row == "1|||" or row:find("^6||") ~= nil or row:find("^2||") ~= nil, row)
  end)

  it("retries from a step that is named, also one that completed", function()
    luck()
    local id = start("fails", "completed")
    refused(409, "is completed", id, "retry")
    act(id, "retry", { from = "second" })
    s:wait(function() return column(id, "fence") ~= "1" and get(id).status == "completed" end, 10, "the run to end again")
    assert.equal(1, calls(id, "first"))
  end)

  it("retries from the very beginning, from a pause, and what its owner had cancelled", function()
    luck()
    local id = start("fails", "completed")
    act(id, "retry", { from = "" })
    s:wait(function() return calls(id, "first") == 2 and get(id).status == "completed" end, 10, "the run to end again")
    s:post("/unset/luck", { json = {} })
    id = start("slow", "sleeping")
    act(id, "pause")
    luck()
    assert.not_equal("paused", act(id, "retry", { from = "first" }).status)
    reach(id, "completed")
    assert.same({ 2, 2 }, { calls(id, "first"), calls(id, "second") })
    id = start("held", "running")
    act(id, "cancel")
    reach(id, "cancelled")
    s:post("/set/go", { json = {} })
    act(id, "retry")
    reach(id, "completed")
    assert.is_nil(get(id).error)
  end)

  it("refuses what a status does not allow, and says what would help", function()
    local done = (luck() or start("fails", "completed"))
    refused(409, "is completed, so it cannot be cancelled", done, "cancel")
    refused(409, "is completed, so there is nothing to pause", done, "pause")
    refused(409, "is completed, so there is nothing to resume", done, "resume")
    local held = start("held", "running")
    refused(409, "its owner has it in hand", held, "retry", { from = "first" })
    assert.is_false(act(held, "retry").changed)
    act(held, "cancel")
    let_go(held)
    refused(404, "there is no execution", "01900000-0000-7000-8000-000000000000", "pause")
    refused(404, "there is no execution", "nonsense", "cancel")
    refused(400, 'did you mean "reason"', done, "cancel", { reson = "x" })
    s:post("/unset/luck", { json = {} })
    local id = start("slow", "sleeping")
    set(id, "status = 4, waits = '\nx\n'")
    refused(409, "is waiting for a signal", id, "retry")
    set(id, "status = 7")
    refused(409, "is stuck: it does not run", id, "pause")
    act(id, "cancel")
  end)

  it("cancels children with their parent, except those that shall be left", function()
    local parent, called, left, triggered = start("slow", "sleeping"), start("slow", "sleeping"), start("slow", "sleeping"), start("slow", "sleeping")
    local grandchild = start("slow", "sleeping")
    for _, id in ipairs { called, left } do set(id, "parent = ID('" .. parent .. "'), parent_key = 'pay'") end
    set(triggered, "parent = ID('" .. parent .. "')")
    set(grandchild, "parent = ID('" .. called .. "'), parent_key = 'deep'")
    assert.equal("cancelled", act(parent, "cancel", { reason = "order withdrawn" }).status)
    assert.equal("cancelled", get(called).status)
    assert.equal("cancelled", get(grandchild).status)
    assert.equal("cancelled by local: order withdrawn", get(grandchild).error.message)
    assert.equal("sleeping", get(triggered).status)
    act(triggered, "cancel")
  end)

  it("cancels children as the calls said", function()
    local parent = start("parent", "waiting")
    local function children() return db.run("SELECT status FROM EXECUTIONS WHERE parent = ID('" .. parent .. "') ORDER BY status") end
    s:wait(function() return children() == "3\n3\n3\n3" end, 10, "the children to sleep")
    assert.equal("cancelled", act(parent, "cancel").status)
    assert.equal("3\n3\n10\n10", children())
    db.run("UPDATE EXECUTIONS SET status = 10, finished_us = 1 WHERE parent = ID('" .. parent .. "')")
  end)

  it("undoes what a cancelled run had finished when that is asked, and nothing when it is not", function()
    local id = start("undoes", "waiting")
    act(id, "cancel", { undo = true, reason = "withdrawn" })
    reach(id, "cancelled")
    assert.equal("cancelled by local: withdrawn", get(id).error.message)
    assert.equal(7, s:get("/calls?key=undone%20" .. id).json().n)
    id = start("undoes", "waiting")
    act(id, "cancel")
    assert.equal("cancelled", get(id).status)
    assert.equal(0, s:get("/calls?key=undone%20" .. id).json().n)
  end)

  it("keeps signals for a paused run, and begins everything anew after undoing", function()
    local id = start("undoes", "waiting")
    refused(409, "is waiting for a signal", id, "retry")
    act(id, "pause")
    assert.equal(202, s:post("/api/v1/executions/" .. id .. "/signals/go", { json = {} }).status)
    assert.equal("paused", get(id).status)
    act(id, "resume")
    reach(id, "failed")
    assert.equal(7, s:get("/calls?key=undone%20" .. id).json().n)
    luck()
    act(id, "retry")
    reach(id, "waiting")
    assert.equal(202, s:post("/api/v1/executions/" .. id .. "/signals/go", { json = {} }).status)
    reach(id, "completed")
  end)

  it("goes back to a wait that is named", function()
    luck()
    local id = start("undoes", "waiting")
    assert.equal(202, s:post("/api/v1/executions/" .. id .. "/signals/go", { json = {} }).status)
    reach(id, "completed")
    act(id, "retry", { from = "go" })
    reach(id, "waiting")
    assert.is_nil(get(id).output)
    assert.equal(202, s:post("/api/v1/executions/" .. id .. "/signals/go", { json = {} }).status)
    reach(id, "completed")
  end)

  it("cancels children of which some are in the hands of an owner", function()
    local parent, child = start("slow", "sleeping"), start("held", "running")
    set(child, "parent = ID('" .. parent .. "'), parent_key = 'pay'")
    assert.equal("cancelled", act(parent, "cancel").status)
    reach(child, "cancelled")
  end)

  it("leaves a parent with very many children to an owner, in one transaction of bounded size", function()
    local parent = start("slow", "sleeping")
    db.run(([[INSERT INTO EXECUTIONS (id, workflow, status, bundle, seed, created_us, parent, parent_key)
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 101)
      SELECT %s, 'x', 5, '', '1.a', 1, ID('%s'), 'k' || i FROM n]]):format(
      engine.url and "md5('" .. parent .. "' || i)::uuid" or "randomblob(16)", parent))
    assert.equal("cancel", act(parent, "cancel").control)
    assert.equal("101", db.value("SELECT count(*) FROM EXECUTIONS WHERE parent = ID('" .. parent .. "') AND status = 5"))
  end)

  it("undoes nothing of a run that has not begun, and queues one that has", function()
    local id = start("slow", "sleeping")
    set(id, "started_us = NULL")
    assert.equal("cancelled", act(id, "cancel", { undo = true }).status)
    id = start("slow", "sleeping")
    local outcome = act(id, "cancel", { undo = true })
    assert.equal("undo", outcome.control)
    s:wait(function() return column(id, "status") ~= "1" end, 10, "the run to be taken up")
  end)

  it("gives the slot of a cancelled run to the next of its group, and puts a resumed one back into the line", function()
    local first, second = start("slow", "sleeping"), start("slow", "sleeping")
    db.run("INSERT INTO GROUPS (app, workflow, group_key, running, slots) VALUES ('default', 'slow', 'g', 1, 1) ON CONFLICT DO NOTHING")
    set(first, "group_key = 'g', group_slots = 1, slot = 1")
    set(second, "group_key = 'g', group_slots = 1, slot = 0, status = 5")
    assert.equal("blocked", act(second, "resume").status)
    assert.is_false(act(second, "retry").changed)
    assert.equal("paused", act(second, "pause").status)
    assert.equal("blocked", act(second, "resume").status)
    act(first, "cancel")
    assert.equal("1", column(second, "slot"))
    assert.equal("1", db.value("SELECT running FROM GROUPS WHERE group_key = 'g'"))
    s:wait(function() return column(second, "owner") == "" and column(second, "status") == "3" end, 10, "the next one to run")
    act(second, "cancel")
    assert.equal("0", db.value("SELECT running FROM GROUPS WHERE group_key = 'g'"))
    act(second, "retry") -- it takes its slot again
    assert.equal("1", column(second, "slot"))
  end)

  it("keeps a run that has not begun for its time", function()
    local id = start("slow", "sleeping")
    set(id, "started_us = NULL, due_us = 4000000000000000")
    act(id, "pause")
    assert.equal("sleeping", act(id, "resume").status)
    assert.equal("4000000000000000", column(id, "due_us"))
    luck()
    act(id, "retry")
    reach(id, "completed")
  end)

  it("sees one winner of many who act at once, and never two owners", function()
    local ids = {}
    for i = 1, 4 do ids[i] = start("slow", "sleeping") end
    luck()
    local requests = {}
    for i = 1, 12 do requests[i] = function()
      return s:post("/api/v1/executions/" .. ids[i % 4 + 1] .. "/" .. (i % 3 == 0 and "cancel" or i % 3 == 1 and "retry" or "pause"), { json = {} })
    end end
    for _, answer in ipairs(s:concurrently(requests)) do assert.is_true(answer.status == 200 or answer.status == 409, answer.body) end
    for _, id in ipairs(ids) do
      s:wait(function() return ({ completed = true, cancelled = true, paused = true, sleeping = true })[get(id).status] end, 10, "the run to come to rest")
      assert.is_true(calls(id, "second") <= 2)
    end
  end)
end)
