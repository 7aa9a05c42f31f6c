-- SPDX-License-Identifier: MIT
-- Running runs again, and acting on many of them, on both engines.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("fails", { { name = "one", retries = 0, run = function(ctx)
    if ctx.input and ctx.input.good then return ctx.input end
    error("out of stock")
  end } })
  mw.workflow("slow", { { name = "one", retries = 5, backoff = { initial = "1h", max = "1h" }, run = function() error("not yet") end } })
]==]

engines.describe("many runs on ", function(engine)
  local s, db
  setup(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "2" } }
    db = engine_db.of(s)
  end)
  teardown(function() s:stop() end)
  before_each(function() db.run("DELETE FROM EXECUTIONS") end)

  local function get(id) return s:execution(id) end
  local function reach(id, wanted) return s:reach(id, wanted) end
  local function start(workflow, wanted, input, more)
    local body = { workflow = workflow, input = input }
    for name, value in pairs(more or {}) do body[name] = value end
    return reach(s:post("/api/v1/executions", { json = body }).json().id, wanted)
  end
  local function bulk(body, code)
    local answer = s:post("/api/v1/executions/bulk", { json = body })
    assert.equal(code or 200, answer.status, answer.body)
    return answer.json()
  end
  local function count(where) return tonumber(db.value("SELECT count(*) FROM EXECUTIONS WHERE " .. where)) end

  it("runs one again with the same input, and says of what", function()
    local id = start("fails", "failed", { size = 1 })
    local answer = s:post("/api/v1/executions/" .. id .. "/rerun", { json = {} })
    assert.equal(201, answer.status, answer.body)
    local made = answer.json()
    assert.not_equal(id, made.id)
    assert.same({ id, true }, { made.rerun_of, made.created })
    assert.same({ size = 1 }, get(reach(made.id, "failed")).input)
    assert.equal('["rerun_of:' .. id .. '"]', db.value("SELECT tags FROM EXECUTIONS WHERE id = ID('" .. made.id .. "')"))
    assert.equal("execution.rerun|local", db.run("SELECT action, actor FROM AUDIT WHERE subject = 'execution " .. id .. "'"))
    assert.matches(made.id, db.run("SELECT detail FROM CHANGES WHERE subject = 'execution " .. id .. "'"), 1, true)
  end)

  it("runs one again with edited input, kept as it was written", function()
    local id = start("fails", "failed")
    local answer = s:post("/api/v1/executions/" .. id .. "/rerun", {
      body = '{"input":{"good": true, "n": 12345678901234567890}}', headers = { ["content-type"] = "application/json" },
    })
    reach(answer.json().id, "completed")
    assert.truthy(s:get("/api/v1/executions/" .. answer.json().id).body:find('{"good": true, "n": 12345678901234567890}', 1, true))
  end)

  it("runs one again once a key, and keeps its tags, priority and group", function()
    local id = start("fails", "failed")
    db.run("UPDATE EXECUTIONS SET tags = '[\"vip\",\"rerun_of:x\"]', priority = 7, group_key = 'g', group_slots = 1 WHERE id = ID('" .. id .. "')")
    local opts = { json = {}, headers = { ["idempotency-key"] = "again-" .. id } }
    local first, second = s:post("/api/v1/executions/" .. id .. "/rerun", opts), s:post("/api/v1/executions/" .. id .. "/rerun", opts)
    assert.same({ 201, 200 }, { first.status, second.status })
    assert.equal(first.json().id, second.json().id)
    assert.equal('["vip","rerun_of:' .. id .. '"]|7|g', db.run("SELECT tags, priority, group_key FROM EXECUTIONS WHERE id = ID('" .. first.json().id .. "')"))
    assert.equal(404, s:post("/api/v1/executions/01900000-0000-7000-8000-000000000000/rerun", { json = {} }).status)
    db.run("UPDATE EXECUTIONS SET workflow = 'gone' WHERE id = ID('" .. id .. "')")
    assert.equal(404, s:post("/api/v1/executions/" .. id .. "/rerun", { json = {} }).status)
  end)

  it("counts before, does what was expected, and reports it", function()
    for _ = 1, 3 do start("slow", "sleeping") end
    start("fails", "failed")
    local preview = bulk { action = "cancel", filter = { workflow = "slow" }, dry_run = true }
    assert.same({ 3, 3 }, { preview.matched, #preview.sample })
    assert.equal(3, count "status = 3")
    local report = bulk { action = "cancel", filter = { workflow = "slow" }, expect = 3, reason = "old" }
    assert.same({ 3, 3, 0, 0, 0 }, { report.matched, report.done, report.unchanged, report.skipped, report.failed })
    assert.is_nil(report.next)
    assert.equal(3, count "status = 10")
    assert.equal(1, count "status = 9")
    assert.equal(3, tonumber(db.value "SELECT count(*) FROM AUDIT WHERE action = 'execution.cancelled'"))
    report = bulk { action = "cancel", filter = { workflow = "slow" }, expect = 3 }
    assert.same({ 0, 3 }, { report.done, report.unchanged })
  end)

  it("does nothing when more are found than were expected, or none was", function()
    for _ = 1, 3 do start("slow", "sleeping") end
    assert.matches("finds 3 executions by now, more than the 2", bulk({ action = "cancel", filter = { status = "sleeping" }, expect = 2 }, 409).detail)
    assert.matches("needs expect", bulk({ action = "cancel", filter = { status = "sleeping" } }, 400).detail)
    assert.matches("filter is empty", bulk({ action = "cancel", filter = {}, expect = 9 }, 400).detail)
    assert.matches("ids, or a filter", bulk({ action = "cancel" }, 400).detail)
    assert.matches("must be one of cancel, move, pause, rerun, resume, retry", bulk({ action = "explode", ids = { "x" } }, 400).detail)
    assert.matches('status "slep" is unknown', bulk({ action = "cancel", filter = { status = "slep" }, dry_run = true }, 400).detail)
    assert.matches('did you mean "status"', bulk({ action = "cancel", filter = { stauts = "x" }, dry_run = true }, 400).detail, 1, true)
    assert.equal(3, count "status = 3")
  end)

  it("passes by what a status does not allow, and says which", function()
    local sleeping, failed = start("slow", "sleeping"), start("fails", "failed")
    local report = bulk { action = "pause", ids = { sleeping, failed, "nonsense" } }
    assert.same({ 1, 2, 0 }, { report.done, report.skipped, report.failed })
    assert.equal(failed, report.problems[1].id)
    assert.matches("nothing to pause", report.problems[1].detail)
    assert.matches("there is no execution", report.problems[2].detail)
  end)

  it("runs many again without finding its own", function()
    for _ = 1, 3 do start("fails", "failed") end
    local report = bulk { action = "rerun", filter = { status = "failed" }, expect = 3 }
    assert.same({ 3, 3 }, { report.done, #report.created })
    assert.equal(6, count "1 = 1")
  end)

  it("goes on where it stopped", function()
    local ids = {}
    for i = 1, 3 do ids[i] = start("slow", "sleeping") end
    local newest = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    local report = bulk { action = "pause", filter = { status = "sleeping" }, cursor = ids[1] .. "." .. newest }
    assert.equal(2, report.done)
    assert.equal("sleeping", get(ids[1]).status)
    assert.matches("not one that was given", bulk({ action = "pause", filter = { status = "sleeping" }, cursor = "x" }, 400).detail)
  end)

  it("finds by group, tag, error and time", function()
    local a, b = start("fails", "failed"), start("slow", "sleeping", nil, { tags = { "vip", "eu" }, group = "g" })
    local function found(filter)
      local preview = bulk { action = "pause", filter = filter, dry_run = true }
      local ids = {}
      for i, one in ipairs(preview.sample) do ids[i] = one.id end
      return table.concat(ids, " ")
    end
    assert.equal(a, found { error = "out of stock" })
    assert.equal("", found { error = "out of luck" })
    assert.equal(b, found { tag = "vip" })
    assert.equal("", found { tag = "vi" })
    assert.equal(b, found { group = "g" })
    assert.equal(a .. " " .. b, found { created_after = "1m" })
    assert.equal("", found { created_before = "1m" })
    assert.equal("", found { created_before = "2026-01-01T00:00:00Z", status = "failed,sleeping" })
    assert.equal(a, found { created_after = "2020-02-29T23:59:59.5+02:00", status = "failed" })
    assert.matches("created_after must be a time like", bulk({ action = "pause", filter = { created_after = "yesterday" }, dry_run = true }, 400).detail)
  end)
end)
