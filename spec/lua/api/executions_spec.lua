-- SPDX-License-Identifier: MIT

local exchange = require "support.fakes.exchange"
local fakes = require "support.fakes"

describe("executions in the API", function()
  local server, routes, fail

  before_each(function()
    server, fail = fakes.server(), false
    server.plugin(function(workflow)
      workflow("w", {
        { name = "one", run = function() return { n = 1 } end },
        { name = "two", retries = 1, run = function()
          if fail then error("no luck") end
          server.task.sleep(5)
          return 2
        end },
        { name = "three", run = function() return 3 end },
      })
    end)
    server.boot()
    routes = require("mw.api").routes("main")
    -- what the SQL of lua/mw/api asks for, from the fake's tables
    server.store.on_query = function(_, sql, params)
      if sql:find("execution_totals", 1, true) then
        local totals = { { workflow = "a", status = "8", total = "40000000" }, { workflow = "w", status = "8", total = #server.store.order } }
        return params[2] == "w" and { totals[2] } or totals
      end
      if sql:find("count(*)", 1, true) then return { { n = server.count } } end
      local rows = {}
      for i = #server.store.order, 1, -1 do
        local row = server.store.rows[server.store.order[i]]
        local is_page = sql:find("ORDER BY", 1, true)
        local id = params[2] and params[2].id
        local wanted = row.id == id
        if is_page then wanted = not id or row.id < id end
        if wanted then rows[#rows + 1] = row end
      end
      return rows
    end
  end)
  after_each(function() server.close() end)

  local function get(path, query) return exchange.send(server, routes, "GET", path, { query = query }) end

  local function post(body)
    return exchange.send(server, routes, "POST", "/api/v1/executions", { headers = { ["content-type"] = "application/json" }, body = body })
  end

  it("shows an execution with its steps while it runs", function()
    local run = server.trigger("w", { a = 1 })
    server.task.run(1)
    local body = get("/api/v1/executions/" .. run.id).body
    assert.equal("running", body.status)
    assert.same({ a = 1 }, body.input)
    assert.is_nil(body.output)
    assert.same({ "completed", "running", "pending" }, { body.steps[1].status, body.steps[2].status, body.steps[3].status })
    assert.same({ 1, 1, 0 }, { body.steps[1].attempts, body.steps[2].attempts, body.steps[3].attempts })
    assert.same({ n = 1 }, body.steps[1].result)
  end)

  it("shows what came of it", function()
    local run = server.trigger("w")
    server.task.run(10)
    local body = get("/api/v1/executions/" .. run.id:upper()).body
    assert.equal("completed", body.status)
    assert.equal(3, body.output)
    assert.equal(3, #body.steps)
    assert.is_string(body.steps[3].finished_at)
  end)

  it("shows why it failed, every attempt of it", function()
    fail = true
    local run = server.trigger("w")
    server.task.run(10)
    local body = get("/api/v1/executions/" .. run.id).body
    assert.equal("failed", body.status)
    assert.equal("no luck", body.error.message)
    assert.equal("two", body.error.step)
    assert.equal("failed", body.steps[2].status)
    assert.equal(2, #body.steps[2].tries)
    assert.equal("no luck", body.steps[2].tries[1].error.message)
  end)

  it("answers 404 for what is not there, and for what is no id", function()
    assert.equal(404, get("/api/v1/executions/0190aaaa-0000-7000-8000-00000000ffff").status)
    assert.equal(404, get("/api/v1/executions/nonsense").status)
  end)

  it("lists, newest first, page by page", function()
    local ids = {}
    for i = 1, 3 do ids[i] = server.trigger("w").id end
    local page = get("/api/v1/executions", { limit = "2", workflow = "w" }).body
    assert.same({ ids[3], ids[2] }, { page.items[1].id, page.items[2].id })
    assert.equal(3, page.total)
    assert.equal(ids[2], page.next)
    page = get("/api/v1/executions", { limit = "2", cursor = page.next }).body
    assert.equal(ids[1], page.items[1].id)
    assert.is_nil(page.next)
  end)

  it("says how many there are of each workflow and status, and all together", function()
    local body = get("/api/v1/executions/totals").body
    assert.same({ { workflow = "a", status = "completed", total = 40000000 }, { workflow = "w", status = "completed", total = 0 } }, body.items)
    assert.equal(40000000, body.total)
    assert.match('did you mean "workflow"?', get("/api/v1/executions/totals", { workflw = "w" }).body.detail, 1, true)
  end)

  it("says when the total is an estimate: where no counter knows it and there are more than a million", function()
    local body = get("/api/v1/executions").body
    assert.same({ 40000000 }, { body.total, body.total_is })
    server.count = 1000001
    body = get("/api/v1/executions", { tag = "red" }).body
    assert.same({ 1000000, "estimate" }, { body.total, body.total_is })
    server.count = 999999
    body = get("/api/v1/executions", { tag = "red" }).body
    assert.same({ 999999 }, { body.total, body.total_is })
  end)

  it("refuses wrong filters with a sentence", function()
    local cases = {
      { { limit = "0" }, "at least 1" }, { { limit = "many" }, "integer" }, { { limit = "501" }, "at most 500" },
      { { status = "done" }, "known are queued" }, { { cursor = "x" }, "cursor" }, { { workflw = "w" }, 'did you mean "workflow"?' },
    }
    for _, case in ipairs(cases) do
      local answer = get("/api/v1/executions", case[1])
      assert.equal(400, answer.status)
      assert.match(case[2], answer.body.detail, 1, true)
    end
  end)

  it("starts one by name, with your own id", function()
    local answer = post '{"workflow":"w","input":{"a":1},"id":"order-1"}'
    assert.equal(201, answer.status)
    assert.is_true(answer.body.created)
    answer = post '{"workflow":"w","input":{"a":1},"id":"order-1"}'
    assert.equal(200, answer.status)
    assert.is_false(answer.body.created)
    assert.equal(422, post('{"workflow":"w","input":{"a":2},"id":"order-1"}').status)
  end)

  it("refuses unknown fields and wrong types", function()
    local cases = {
      { '{"workflow":"w","inptu":1}', 'did you mean "input"?' }, { '{"workflow":7}', "must be a string" }, { "{}", 'needs "workflow"' },
      { "[1]", "must be an object" }, { '{"workflow":"w","id":""}', "non-empty" },
    }
    for _, case in ipairs(cases) do
      local answer = post(case[1])
      assert.equal(400, answer.status, case[1])
      assert.match(case[2], answer.body.detail, 1, true)
    end
    assert.equal(404, post('{"workflow":"nope"}').status)
    assert.equal(0, #server.store.order)
  end)

  it("lists the workflows that plugins declare", function()
    local body = get("/api/v1/workflows").body
    assert.equal("w", body.items[1].name)
    assert.equal("list", body.items[1].form)
    assert.equal("two", body.items[1].steps[2].name)
  end)

  it("describes itself in OpenAPI 3.1", function()
    local body = get("/api/v1/openapi.json").body
    assert.equal("3.1.0", body.openapi)
    for _, endpoint in ipairs(require("mw.api").endpoints) do
      if endpoint.doc then
        local path = endpoint.pattern:gsub(":(%w+)", "{%1}")
        assert.is_table(body.paths[path][endpoint.method:lower()], path)
      end
    end
    assert.is_false(body.paths["/api/v1/executions"].post.requestBody.content["application/json"].schema.additionalProperties)
  end)

  it("reloads, or says what is wrong and that nothing was changed", function()
    local function reload()
      return exchange.send(server, routes, "POST", "/api/v1/reload", { headers = { ["content-type"] = "application/json" }, body = "" })
    end
    server.reload = function() return true, '{"generation":2,"plugins":[],"errors":[]}' end
    assert.equal(2, reload().body.generation)
    server.reload = function()
      return false, '{"generation":2,"plugins":[],"errors":[{"file":"plugins/a.lua","line":3,"message":"unexpected symbol"}]}'
    end
    local answer = reload()
    assert.equal(422, answer.status)
    assert.match("plugins/a.lua:3: unexpected symbol", answer.body.detail, 1, true)
  end)

  it("shows plugins and load errors on /ops, escaped", function()
    server.plugins = {
      serving = { generation = 1, plugins = { { name = "a", file = "plugins/a.lua", declarations = {} } } },
      failed = { errors = { { file = "plugins/b.lua", line = 2, message = "<script>" } } },
    }
    local answer = exchange.send(server, require("mw.api").routes("control"), "GET", "/ops")
    assert.match("plugins/b.lua:2", answer.text, 1, true)
    assert.match("&lt;script&gt;", answer.text, 1, true)
    assert.is_nil(answer.text:find("<script", 1, true))
  end)
end)
