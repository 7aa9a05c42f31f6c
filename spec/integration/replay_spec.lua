-- SPDX-License-Identifier: MIT
-- Replaying journals against other code, and moving runs to it, on both engines.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local TWO_STEPS = [==[
  ctx:step("a", function() mw.kv.incr("a") return { n = 1 } end)
  ctx:step("b", function() mw.kv.incr("b") return 2 end)
]==]

local function plugin(asks, list, more)
  return ([==[
    local mw = require "mw"
    mw.workflow("asks", function(ctx, input) %s end)
    mw.workflow("list", { %s })
    mw.get("/count/:name", function(req, res) res:json { n = tonumber(mw.kv.get(req.params.name) or 0) } end)
    mw.post("/luck", function(req, res) mw.kv.set("luck", true) res:json {} end)
    %s
  ]==]):format(asks, list, more or "")
end

local WAITS = TWO_STEPS .. [[ return ctx:wait_for("go") ]]
local LIST = [[ { name = "one", run = function() return 1 end },
  { name = "two", retries = 0, run = function() if not mw.kv.get("luck") then error("no luck") end return 2 end } ]]

engines.describe("other code on ", function(engine)
  local s, db
  before_each(function()
    s = server.start {
      plugins = { ["p.lua"] = plugin(WAITS, LIST) }, database = engine.fresh(), args = { "--workers", "1" },
    }
    db = engine_db.of(s)
  end)
  after_each(function() s:stop() end)

  local function get(id) return s:execution(id) end
  local function reach(id, wanted) return s:reach(id, wanted) end
  local function start(workflow, wanted) return reach(s:post("/api/v1/executions", { json = { workflow = workflow } }).json().id, wanted) end
  local function act(id, what, body, code)
    local answer = s:post("/api/v1/executions/" .. id .. "/" .. what, { json = body })
    assert.equal(code or 200, answer.status, answer.body)
    return answer.json()
  end
  local function replay(id, to) return act(id, "replay", { to = to or "latest" }) end
  local function edit(...)
    local before = s:generation()
    s:write("p.lua", plugin(...))
    s:wait_generation(before + 1, 10)
  end
  local function count(name) return s:get("/count/" .. name).json().n end
  local function rows(id) return db.run("SELECT number, data FROM JOURNAL WHERE execution = ID('" .. id .. "')") end

  it("replays a run that waits, and executes and stores nothing", function()
    local id = start("asks", "waiting")
    local before, row = rows(id), db.run("SELECT status, fence, due_us FROM EXECUTIONS WHERE id = ID('" .. id .. "')")
    local report = replay(id)
    assert.same({ false, "journal", 3 }, { report.diverges, report.ends, report.operations })
    edit(TWO_STEPS .. [[ ctx:step("c", function() mw.kv.incr("c") end) return ctx:wait_for("go") ]], LIST)
    report = replay(id)
    assert.is_true(report.diverges)
    assert.matches('expected the wait for "go", came to step "c"', report.message, 1, true)
    assert.same({ "go", "c" }, { report.expected, report.actual })
    assert.is_false(replay(id, "pinned").diverges)
    assert.equal(before, rows(id))
    assert.equal(row, db.run("SELECT status, fence, due_us FROM EXECUTIONS WHERE id = ID('" .. id .. "')"))
    assert.same({ 1, 1, 0 }, { count "a", count "b", count "c" })
  end)

  it("replays branches, children and compensation", function()
    local body = [[
      ctx:step("book", function() mw.kv.incr("book") end, { undo = function() mw.kv.incr("undone") end })
      ctx:all {
        left = function(ctx) ctx:step("l", function() mw.kv.incr("l") end) %s ctx:sleep("50ms") end,
        right = function(ctx) return ctx:call("list", nil, { name = "child" }) end,
      }
    ]]
    edit(body:format "", LIST)
    local id = start("asks", "failed") -- the child fails
    local report = replay(id)
    assert.is_false(report.diverges, report.message)
    assert.equal("failed", report.ends)
    edit(body:format [[ ctx:step("new", function() mw.kv.incr("new") end) ]], LIST)
    report = replay(id)
    assert.is_true(report.diverges)
    assert.matches('came to step "all:left/new"', report.message, 1, true)
    assert.same({ 1, 1, 1, 0 }, { count "book", count "l", count "undone", count "new" })
  end)

  it("says where, and what came instead", function()
    local id = start("asks", "waiting")
    edit([[ ctx:step("a", function() end) ctx:step("x", function() end) ]], LIST)
    assert.matches('expected step "b", came to step "x"', replay(id).message, 1, true)
    edit([[ ctx:step("a", function() end) return 1 ]], LIST)
    assert.matches('expected step "b", came to the end of the body', replay(id).message, 1, true)
    edit([[ ctx:step("a", function() end) error("broken") ]], LIST)
    assert.matches('it raises before it comes to "b": broken', replay(id).message, 1, true)
    edit([[ while true do end ]], LIST)
    assert.matches("does not come to an end", replay(id).message, 1, true)
    assert.equal(200, s:get("/count/a").status)
  end)

  it("compares the output of one that completed", function()
    local id = start("asks", "waiting")
    s:post("/api/v1/executions/" .. id .. "/signals/go", { json = { by = "eve" } })
    reach(id, "completed")
    assert.same({ false, "completed" }, { replay(id).diverges, replay(id).ends })
    edit(TWO_STEPS .. [[ local said = ctx:wait_for("go") return { said = said } ]], LIST)
    assert.matches("its output is another one", replay(id).message)
    edit(TWO_STEPS .. [[ local said = ctx:wait_for("go") ctx:step("more", function() end) return said ]], LIST)
    assert.matches('goes on with step "more" where the run had ended', replay(id).message, 1, true)
    assert.matches("run it again", act(id, "move", { to = "latest" }, 409).hint)
  end)

  it("moves a run that waits, which then ends on the new code", function()
    local id = start("asks", "waiting")
    local old = get(id).bundle
    edit(TWO_STEPS .. [[ local said = ctx:wait_for("go") return ctx:step("c", function() return "new" end) ]], LIST)
    local outcome = act(id, "move", { to = "latest" })
    assert.same({ true, "waiting" }, { outcome.changed, outcome.status })
    assert.is_false(act(id, "move", { to = "latest" }).changed)
    assert.not_equal(old, get(id).bundle)
    assert.matches('{"m":["' .. get(id).bundle .. '"', rows(id), 1, true)
    assert.equal("execution.moved|local", db.run("SELECT action, actor FROM AUDIT WHERE subject = 'execution " .. id .. "'"))
    s:post("/api/v1/executions/" .. id .. "/signals/go", { json = {} })
    reach(id, "completed")
    assert.equal("new", get(id).output)
    assert.same({ 1, 1 }, { count "a", count "b" })
    local back = start("asks", "waiting")
    assert.is_true(act(back, "move", { to = old }).changed)
    assert.equal(old, get(back).bundle)
  end)

  it("refuses to move what does not replay, runs, or has no such code", function()
    local id = start("asks", "waiting")
    edit([[ ctx:step("x", function() end) ]], LIST)
    local answer = act(id, "move", { to = "latest" }, 409)
    assert.matches('cannot be moved: .*expected step "a", came to step "x"', answer.detail)
    assert.equal("waiting", get(id).status)
    assert.matches("is no code", act(id, "move", { to = "newest" }, 400).detail)
    act(id, "move", { to = ("0"):rep(64) }, 404)
    act(id, "move", {}, 400)
    s:write("p.lua", 'local mw = require "mw"\nmw.workflow("other", { { name = "one", run = function() end } })\n')
    s:wait(function() return s:post("/api/v1/executions/" .. id .. "/replay", { json = {} }).status == 404 end, 10, "the workflow to go")
    assert.matches('no plugin declares the workflow "asks"', act(id, "replay", {}, 404).detail, 1, true)
  end)

  it("cures a run that failed: edit, move, retry", function()
    local id = start("list", "failed")
    assert.same({ false, "failed" }, { replay(id).diverges, replay(id).ends })
    edit(WAITS, [[ { name = "one", run = function() return 1 end }, { name = "two", run = function() return "cured" end } ]])
    act(id, "move", { to = "latest" })
    assert.equal("failed", get(id).status)
    act(id, "retry", {})
    reach(id, "completed")
    assert.equal("cured", get(id).output)
    assert.equal(1, get(id).steps[1].attempts)
  end)

  it("compares lists entry by entry", function()
    local id = start("list", "failed")
    edit(WAITS, [[ { name = "zero", run = function() end }, ]] .. LIST)
    assert.matches('entry 1 of the list is "zero", where the journal has "one"', replay(id).message, 1, true)
    edit(WAITS, LIST .. [[, { name = "three", run = function() end } ]])
    assert.is_false(replay(id).diverges)
    s:post("/luck", { json = {} })
    act(id, "retry", {})
    reach(id, "completed") -- on its own code
    assert.matches('has a step "three" where the run had ended', replay(id).message, 1, true)
  end)

  it("lets a stuck run go on, on code that goes its way", function()
    local id = start("asks", "waiting")
    local good = get(id).bundle
    edit(TWO_STEPS .. [[ ctx:step("c", function() end) return ctx:wait_for("go") ]], LIST)
    local bad = get(start("asks", "waiting")).bundle
    db.run("UPDATE EXECUTIONS SET bundle = '" .. bad .. "' WHERE id = ID('" .. id .. "')")
    s:post("/api/v1/executions/" .. id .. "/signals/go", { json = {} })
    reach(id, "stuck")
    act(id, "move", { to = good })
    reach(id, "completed")
  end)

  it("is tried and taken by the command line", function()
    local id, other = start("asks", "waiting"), start("asks", "waiting")
    local function command(...)
      local code, text = server.command({ "runs", "--data", s.data, ... }, { dir = s.dir })
      return text, code
    end
    local text, code = command("replay", id, other)
    assert.equal(0, code)
    assert.matches(id .. " takes the same way for 3, as far as its journal goes", text, 1, true)
    edit(TWO_STEPS .. [[ ctx:step("c", function() end) return ctx:wait_for("go") ]], LIST)
    text, code = command("replay", id)
    assert.equal(1, code)
    assert.matches('diverges after 2: .*came to step "c"', text)
    text, code = command("move", id)
    assert.equal(2, code)
    assert.matches("say where to: --to latest", text, 1, true)
    text, code = command("move", id, "--to", "latest")
    assert.equal(1, code)
    assert.matches("cannot be moved", text)
    edit(TWO_STEPS .. [[ ctx:wait_for("go") return "other" ]], LIST)
    text, code = command("move", "--where", "workflow=asks", "--to", "latest", "--yes")
    assert.equal(0, code, text)
    assert.matches("2 moved", text, 1, true)
  end)
end)
