-- The sidecar and our own API over real HTTP: shapes, bad input, identity, access.

local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("greet", {
    { name = "hello", run = function(ctx) return { text = "hello " .. tostring(ctx.input and ctx.input.name) } end },
    { name = "bye", run = function(ctx) return { text = ctx.results.hello.text .. ", bye" } end },
  })
  mw.workflow("fails", { { name = "boom", retries = 1, backoff = { initial = "10ms" }, run = function() error("boom") end } })
  mw.get("/open", function(_, res) res:json { open = true } end)
]==]

local uuid = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-7%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"

engines.describe("the sidecar on ", function(engine)
  local s
  setup(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "2" } }
  end)
  teardown(function() s:stop() end)

  local function finished(id)
    local execution
    s:wait(function()
      execution = s:get("/api/v1/executions/" .. id).json()
      return execution.status == "completed" or execution.status == "failed"
    end, 10, "the execution to end")
    return execution
  end

  it("triggers a workflow and shows how it went", function()
    local answer = s:post("/api/trigger", { json = { name = "greet", input = { name = "Ada" } } })
    assert.equal(200, answer.status)
    assert.equal("application/json; charset=utf-8", answer.headers["content-type"])
    local id = answer.json().executionId
    assert.matches(uuid, id)
    local execution = finished(id)
    assert.equal("completed", execution.status)
    assert.same({ name = "Ada" }, execution.input)
    assert.same({ text = "hello Ada, bye" }, execution.output)
    assert.equal("hello", execution.steps[1].name)
    assert.equal(1, execution.steps[1].attempts)
    assert.same({ text = "hello Ada" }, execution.steps[1].result)
  end)

  it("shows a failed execution with its error and attempts", function()
    local execution = finished(s:post("/api/trigger", { json = { name = "fails" } }).json().executionId)
    assert.equal("failed", execution.status)
    assert.truthy(execution.error.message:find("boom", 1, true))
    assert.equal(2, execution.steps[1].attempts)
  end)

  it("keeps the bytes of an input as they came", function()
    local body = '{"name":"greet","input":{"b":1.50,"a":12345678901234567890,"n":null,"e":{},"l":[]}}'
    local id = s:post("/api/trigger", { body = body, headers = { ["content-type"] = "application/json" } }).json().executionId
    finished(id)
    assert.truthy(s:get("/api/v1/executions/" .. id).body:find('{"b":1.50,"a":12345678901234567890,"n":null,"e":{},"l":[]}', 1, true))
  end)

  it("answers members in the order of their names", function()
    local names = {}
    for name in s:get("/api/v1/executions?limit=1").body:gmatch('"([%w_]+)":') do names[#names + 1] = name end
    assert.equal("items", names[1])
    assert.same({ "next", "total" }, { names[#names - 1], names[#names] })
  end)

  it("answers health", function()
    assert.same({ status = "ok", sidecar = "flowwatch" }, s:get("/api/health").json())
    assert.same({ status = "ok", sidecar = "flowwatch" }, s:get("//api/health").json())
  end)

  local bad = {
    { "an unknown workflow", '{"name":"nope"}', 404, "workflow not found: nope" },
    { "a name that is no string", '{"name":7}', 400, "name must be a non-empty string" },
    { "an empty name", '{"name":""}', 400, "name must be a non-empty string" },
    { "no name", "{}", 400, "name must be a non-empty string" },
    { "broken JSON", '{"name":', 400, nil },
    { "an array", "[1]", 400, nil },
    { "a number", "7", 400, nil },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1] .. " with an error in its shape", function()
      local answer = s:post("/api/trigger", { body = case[2], headers = { ["content-type"] = "application/json" } })
      assert.equal(case[3], answer.status, answer.body)
      assert.equal("string", type(answer.json().error))
      if case[4] then assert.equal(case[4], answer.json().error) end
    end)
  end

  it("ignores unknown fields on the compatible path and refuses them on ours", function()
    assert.equal(200, s:post("/api/trigger", { json = { name = "greet", more = 1 } }).status)
    local answer = s:get("/api/v1/executions?worklow=greet")
    assert.equal(400, answer.status)
    assert.truthy(answer.body:find("worklow", 1, true))
    assert.truthy(answer.body:find("workflow", 1, true))
    assert.matches("application/problem%+json", answer.headers["content-type"])
    assert.truthy(answer.json().trace_id)
  end)

  it("refuses an input over the limit and stores nothing", function()
    local before = s:get("/api/v1/executions?limit=1").json().total
    local answer = s:post("/api/trigger", { json = { name = "greet", input = ("x"):rep(2 * 1024 * 1024) } })
    assert.equal(413, answer.status)
    assert.equal(before, s:get("/api/v1/executions?limit=1").json().total)
  end)

  it("starts one execution for two requests with the same Idempotency-Key", function()
    local body = { name = "greet", input = { name = "once" } }
    local function ask() return s:post("/api/trigger", { json = body, headers = { ["idempotency-key"] = "key-1" } }) end
    local results = s:concurrently { ask, ask, ask, ask }
    local id = results[1].json().executionId
    for _, answer in ipairs(results) do
      assert.equal(200, answer.status, answer.body)
      assert.equal(id, answer.json().executionId)
    end
    s:stop { keep = true }
    s:restart()
    assert.equal(id, ask().json().executionId)
    body.input.name = "twice"
    assert.equal(422, ask().status)
  end)

  it("lists executions page by page, newest first, by workflow and status", function()
    for _ = 1, 5 do finished(s:post("/api/trigger", { json = { name = "greet" } }).json().executionId) end
    local seen, cursor, pages = {}, nil, 0
    repeat
      local page = s:get("/api/v1/executions?workflow=greet&status=completed&limit=2" .. (cursor and "&cursor=" .. cursor or "")).json()
      for _, item in ipairs(page.items) do
        assert.is_nil(seen[item.id])
        seen[item.id] = true
        assert.equal("greet", item.workflow)
        assert.equal("completed", item.status)
      end
      cursor, pages = page.next, pages + 1
      assert.is_true(page.total >= 5)
    until not cursor
    assert.is_true(pages >= 3)
    assert.equal(400, s:get("/api/v1/executions?status=nonsense").status)
    assert.equal(400, s:get("/api/v1/executions?cursor=nonsense").status)
  end)

  it("answers 404 for an execution that is not there, also when the id is none", function()
    assert.equal(404, s:get("/api/v1/executions/01900000-0000-7000-8000-000000000000").status)
    assert.equal(404, s:get("/api/v1/executions/nonsense").status)
  end)

  it("lists workflows and describes itself", function()
    local workflows = s:get("/api/v1/workflows").json()
    assert.equal(2, workflows.total)
    local openapi = s:get("/api/v1/openapi.json").json()
    assert.matches("^3%.1", openapi.openapi)
    for _, path in ipairs { "/api/trigger", "/api/health", "/api/v1/executions", "/api/v1/executions/{id}", "/api/v1/workflows", "/api/v1/plugins",
      "/api/v1/reload", "/livez", "/readyz" } do
      assert.truthy(openapi.paths[path], path)
    end
  end)

  it("has probes and a plain page", function()
    assert.equal(200, s:get("/livez").status)
    assert.equal(200, s:get("/readyz").status)
    local page = s:get("/ops")
    assert.truthy(page.status == 200 or page.status == 401, page.status)
  end)

  it("answers 405 with Allow and 404 for what is not there", function()
    local answer = s:request("DELETE", "/api/trigger", { headers = { ["content-type"] = "application/json" } })
    assert.equal(405, answer.status)
    assert.truthy((answer.headers.allow or ""):find("POST", 1, true))
    assert.equal(404, s:get("/nowhere").status)
  end)
end)

describe("access without a token", function()
  local s
  setup(function() s = server.start { plugins = { ["p.lua"] = plugin } } end)
  teardown(function() s:stop() end)

  it("refuses a foreign Host with the rule and the fix", function()
    local answer = s:get("/api/v1/workflows", { headers = { host = "evil.example" } })
    assert.equal(403, answer.status)
    assert.truthy(answer.body:find("Host", 1, true))
    assert.truthy(answer.body:find("token", 1, true))
  end)
  it("refuses a foreign Origin", function()
    assert.equal(403, s:get("/api/v1/workflows", { headers = { origin = "https://evil.example" } }).status)
  end)
  it("refuses a content type that a form can send", function()
    for _, kind in ipairs { "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x" } do
      local answer = s:post("/api/trigger", { body = '{"name":"greet"}', headers = { ["content-type"] = kind } })
      assert.truthy(answer.status == 403 or answer.status == 415, answer.status .. " for " .. kind)
    end
  end)
  it("leaves plugin routes to the plugin", function()
    assert.equal(200, s:get("/open", { headers = { host = "anything.example", origin = "https://x.example" } }).status)
  end)
  it("refuses to listen beyond loopback, with the command that fixes it", function()
    local code, text = server.command { "serve", "--no-supervisor", "--listen", "0.0.0.0:0", "--data", s.dir .. "/other" }
    assert.not_equal(0, code)
    assert.truthy(text:find("--token", 1, true), text)
  end)
end)

describe("access with a token", function()
  local s
  local bearer = { authorization = "Bearer s3cret-token" }
  setup(function() s = server.start { plugins = { ["p.lua"] = plugin }, args = { "--token", "s3cret-token" } } end)
  teardown(function() s:stop() end)

  it("answers 401 in the contract's shape when it is missing or wrong", function()
    for _, headers in ipairs { {}, { authorization = "Bearer wrong" }, { authorization = "bearer s3cret-token" }, { authorization = "Basic x" } } do
      for _, path in ipairs { "/api/health", "/api/v1/workflows" } do
        local answer = s:get(path, { headers = headers })
        if path ~= "/api/health" then assert.equal(401, answer.status) end
      end
      local answer = s:post("/api/trigger", { json = { name = "greet" }, headers = headers })
      assert.equal(401, answer.status)
      assert.same({ error = { code = "unauthorized", message = "Unauthorized" } }, answer.json())
    end
  end)
  it("serves with it, whatever Host and Origin say", function()
    local headers = { authorization = bearer.authorization, host = "ops.example" }
    assert.equal(200, s:get("/api/v1/workflows", { headers = headers }).status)
    assert.equal(200, s:post("/api/trigger", { json = { name = "greet" }, headers = bearer }).status)
  end)
  it("never guards plugin routes and probes", function()
    assert.equal(200, s:get("/open").status)
    assert.equal(200, s:get("/livez").status)
    assert.equal(200, s:get("/readyz").status)
  end)
  it("is not needed on the control socket", function()
    assert.equal(200, s:control("GET", "/api/v1/workflows").status)
  end)
end)

describe("a listener for plugin routes", function()
  it("answers those and probes and nothing else, and the main one answers them no more", function()
    local s = server.start {
      plugins = { ["p.lua"] = [[require("mw").get("/api/mine", function(_, res) res:text("mine") end)]] },
      args = { "--listen-app", "127.0.0.1:0" },
    }
    assert.equal("mine", s:get("/api/mine", { port = s.app_port }).body)
    assert.equal(200, s:get("/livez", { port = s.app_port }).status)
    assert.equal(404, s:get("/api/v1/workflows", { port = s.app_port }).status)
    assert.equal(404, s:get("/api/mine").status)
    assert.equal(200, s:get("/api/v1/workflows").status)
    s:stop()
  end)
end)
