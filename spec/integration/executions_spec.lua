-- SPDX-License-Identifier: MIT
-- Finding and reading executions over HTTP: filters, pages, steps of every kind, the journal, waiting for the end, and the options of a start.

local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("quick", { { name = "a", run = function(ctx) return ctx.input end } })
  mw.workflow("bad", { { name = "boom", retries = 0, run = function() error { code = "out_of_stock", message = "there is none left" } end } })
  mw.workflow("rich", function(ctx)
    ctx:set { phase = "asking" }
    ctx:progress(1, 2, "half")
    ctx:step("a", function() return 1 end, { undo = function() end })
    ctx:trigger("quick", 5)
    ctx:call("quick", 6)
    ctx:all { x = function(c) return c:step("s", function() return "x" end) end }
    ctx:sleep(0.001)
    return ctx:wait_for("go", { timeout = "1h", form = { title = "Go?" } })
  end)
  mw.workflow("listed", {
    { name = "a", run = function() return 1 end },
    { name = "never", when = function(ctx) return ctx.results.a > 1 end, run = function() end },
    { wait_for = "go" },
    { name = "last", run = function() end },
  })
]==]

engines.describe("executions on ", function(engine)
  local s

  setup(function()
    s = server.start {
      plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "2" },
    }
  end)
  teardown(function()
    s:stop()
    s:clean()
  end)

  local function start(workflow, more, query)
    local body = { workflow = workflow }
    for key, value in pairs(more or {}) do body[key] = value end
    return s:post("/api/v1/executions" .. (query or ""), { json = body })
  end

  local function list(query) return s:get("/api/v1/executions?" .. query) end
  local function ids(query)
    local found = {}
    for i, item in ipairs(list(query).json().items) do found[i] = item.id end
    return found
  end

  local function show(id) return s:get("/api/v1/executions/" .. id).json() end

  local function wait_status(id, wanted)
    return s:wait(function()
      local run = show(id)
      return run.status == wanted and run, id .. " is " .. run.status
    end, 10)
  end

  it("are answered when they have ended, or after the time to wait", function()
    local answer = start("quick", { input = { name = "x" } }, "?wait=10")
    assert.equal(200, answer.status)
    assert.equal("completed", answer.json().status)
    assert.same({ name = "x" }, answer.json().output)
    answer = start("listed", nil, "?wait=0.2")
    assert.equal(202, answer.status)
    local id = answer.json().id
    assert.equal("waiting", s:get("/api/v1/executions/" .. id .. "?wait=0.1").json().status)
    s:post("/api/v1/executions/" .. id .. "/signals/go", { json = {} })
    assert.equal("completed", s:get("/api/v1/executions/" .. id .. "?wait=10").json().status)
  end)

  it("are found by what was said at their start, and by their error", function()
    local tagged = start("quick", { tags = { "vip", "eu" }, group = "tenant-1", priority = 5, id = "mine-1" }, "?wait=10").json()
    local plain = start("quick", { tags = { "eu" } }, "?wait=10").json()
    local failed = start("bad", nil, "?wait=10").json()
    assert.same({ "vip", "eu" }, tagged.tags)
    assert.equal(5, tagged.priority)
    assert.equal("tenant-1", tagged.group)
    assert.same({ tagged.id }, ids "tag=vip")
    assert.same({ plain.id, tagged.id }, ids "tag=eu")
    assert.same({ tagged.id }, ids "group=tenant-1")
    assert.same({ tagged.id }, ids "external_id=mine-1")
    assert.same({ failed.id }, ids "error=out_of_stock")
    assert.same({ failed.id }, ids "error=none%20left&status=failed,stuck&workflow=bad")
    assert.same({}, ids "error=nothing%20like%20it")
    assert.same({}, ids "created_after=2090-01-01T00:00:00Z")
    assert.is_true(#ids "created_after=1h" >= 3)
    assert.same({}, ids "finished_before=2020-01-01T00:00:00%2B02:00")
  end)

  it("come in pages that new ones do not shift", function()
    local made = {}
    for i = 1, 5 do made[i] = start("quick", { tags = { "paged" } }, "?wait=5").json().id end
    local first = list("tag=paged&limit=2").json()
    assert.same({ made[5], made[4] }, { first.items[1].id, first.items[2].id })
    assert.equal(5, first.total)
    start("quick", { tags = { "paged" } })
    local second = list("tag=paged&limit=2&cursor=" .. first.next).json()
    assert.same({ made[3], made[2] }, { second.items[1].id, second.items[2].id })
  end)

  it("are refused by what is wrong with the question", function()
    for query, words in pairs {
      ["stauts=failed"] = "did you mean", ["status=broken"] = "known are", ["created_after=yesterday"] = "must be a time", ["limit=0"] = "at least 1",
      ["cursor=x"] = "cursor", ["parent=x"] = "id of an execution",
    } do
      local answer = list(query)
      assert.equal(400, answer.status)
      assert.is_truthy(answer.body:find(words, 1, true), answer.body)
    end
    for _, more in ipairs { { priority = 1000 }, { delay = "soon" }, { at = "tomorrow" }, { tags = { "" } }, { at = 1, delay = 1 } } do
      local answer = start("quick", more)
      assert.equal(400, answer.status, answer.body)
    end
    assert.equal(404, s:get("/api/v1/executions/nonsense/journal").status)
  end)

  it("show what they did and what they wait for, in kinds", function()
    local id = start("rich").json().id
    local run = wait_status(id, "waiting")
    s:wait(function()
      run = show(id)
      return run.waits[1]
    end, 10)
    assert.same({ phase = "asking" }, run.state)
    assert.same({ done = 1, total = 2, text = "half" }, run.progress)
    assert.equal("go", run.waits[1].signal)
    assert.same({ title = "Go?" }, run.waits[1].form)
    assert.is_string(run.waits[1].deadline_at)
    local kinds = {}
    for i, step in ipairs(run.steps) do kinds[i] = step.kind .. " " .. step.name .. " " .. step.status end
    assert.same({
      "step a completed", "trigger quick completed", "child quick#2 completed", "group all completed", "step all:x/s completed", "sleep sleep completed",
      "wait go waiting",
    }, kinds)
    assert.equal(2, #ids("parent=" .. id))
    assert.equal(id, show(ids("parent=" .. id)[1]).parent)
    s:post("/api/v1/executions/" .. id .. "/signals/go", { headers = { ["content-type"] = "application/json" } })
    assert.is_true(wait_status(id, "completed").output)
  end)

  it("show entries of a list that were skipped, and those to come", function()
    local id = start("listed").json().id
    wait_status(id, "waiting")
    local shown = {}
    for i, step in ipairs(show(id).steps) do shown[i] = step.kind .. " " .. step.name .. " " .. step.status end
    assert.same({ "step a completed", "skip never skipped", "wait go waiting", "step last pending" }, shown)
  end)

  it("give their journal in pages", function()
    local id = start("rich").json().id
    wait_status(id, "waiting")
    local page = s:get("/api/v1/executions/" .. id .. "/journal?limit=2").json()
    assert.equal(2, #page.items)
    assert.equal(1, page.items[1].number)
    assert.equal("a", page.items[1].events[1].a[1])
    assert.equal(2, page.next)
    assert.equal(3, s:get("/api/v1/executions/" .. id .. "/journal?after=2").json().items[1].number)
  end)

  it("start later when they are told to, over both APIs", function()
    local later = start("quick", { delay = "1h" }).json().id
    assert.equal("sleeping", show(later).status)
    local dated = start("quick", { at = "2090-01-01T00:00:00Z" }).json().id
    assert.matches("^2090%-01%-01T00:00:00", show(dated).due_at)
    local answer = s:post("/api/trigger", { json = { name = "quick", options = { id = "o-1", tags = { "sidecar" }, delay = 3600 } } })
    assert.equal(200, answer.status)
    assert.same({ "sidecar" }, show(answer.json().executionId).tags)
    assert.equal(answer.json().executionId, s:post("/api/trigger", { json = { name = "quick", options = { id = "o-1" } } }).json().executionId)
  end)
end)
