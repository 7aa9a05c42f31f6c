-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local json = require "mw.core.json"
local WAITING, COMPLETED, FAILED = 4, 8, 9

describe("a step that another service owns", function()
  local server, asked, answers

  before_each(function()
    server, asked, answers = fakes.server(), {}, {}
    server.store.on_query = function(_, sql) return sql:find("SELECT secret", 1, true) and { { secret = "k" } } or {} end
    package.loaded["mw.fetch"] = { fetch = function(url, opts)
      asked[#asked + 1] = { url = url, headers = opts.headers, body = json.decode(opts.body), text = opts.body }
      local answer = answers[#asked] or { 200, "null" }
      local res = { status = answer[1], body = answer[2] or "" }
      function res.ok()
        if res.status < 300 then return res end
        require("mw.errors").throw("http_status", "answered " .. res.status, { retryable = res.status >= 500, final = res.status < 500 or nil })
      end
      return res
    end }
  end)
  after_each(function()
    package.loaded["mw.fetch"] = nil
    server.close()
  end)

  local function declare(http, opts, after)
    local function plugin(workflow)
      local entry = { name = "ship", http = http, backoff = { initial = 0.1, factor = 1, max = 0.1 } }
      for key, value in pairs(opts or {}) do entry[key] = value end
      workflow("w", { { name = "first", run = function() return { n = 1 } end }, entry, after or { sleep = 0 } })
    end
    server.plugin(plugin)
    server.boot()
    return plugin
  end

  local function results(run)
    local state = require("mw.workflow.fold").rows(server.store.journals[run.id])
    return state.steps.ship
  end

  it("gets input and results, a key that stays, a trace and a signature", function()
    declare({ url = function(ctx) return "http://ship/" .. ctx.results.first.n end, secret = "s3" })
    answers = { { 503 }, { 200, '{"label":"x","none":null}' } }
    local run = server.trigger("w", { to = "Kiel" })
    server.task.run(5)
    assert.equal(COMPLETED, server.row(run).status)
    assert.equal(2, #asked)
    local first, second = asked[1], asked[2]
    assert.equal("http://ship/1", first.url)
    assert.same({ to = "Kiel" }, first.body.input)
    assert.same({ first = { n = 1 } }, first.body.results)
    assert.equal(run.id .. "/ship", first.headers["idempotency-key"])
    assert.equal(first.headers["idempotency-key"], second.headers["idempotency-key"])
    assert.equal(2, second.body.attempt)
    assert.match("^00%-" .. run.id:gsub("-", "") .. "%-%x+%-01$", first.headers.traceparent)
    assert.match("^t=%d+,v1=%x+$", first.headers["moonwatch-signature"])
    assert.match("/api/v1/executions/" .. run.id .. "/steps/ship/complete?token=1.", first.body.callback, 1, true)
    assert.equal('{"label":"x","none":null}', results(run).result)
  end)

  for what, answer in pairs { ["an answer that says so"] = { 404 }, ["what is no JSON"] = { 200, "<html>" } } do
    it("is failed for good by " .. what, function()
      declare { url = "http://ship" }
      answers = { answer }
      local run = server.trigger("w")
      server.task.run(5)
      assert.equal(FAILED, server.row(run).status)
      assert.equal(1, #asked)
    end)
  end

  it("waits without memory for a service that answers 202, also over a restart", function()
    local plugin = declare({ url = "http://ship" })
    answers = { { 202 } }
    local run = server.trigger("w")
    server.task.run(60)
    assert.equal(WAITING, server.row(run).status)
    assert.equal(0, (server.engine.load()))
    server.restart(plugin)
    server.store.send(run.id, "$step:ship", '{"status":"completed","output":{"id":7},"error":null}')
    server.task.run(10)
    assert.equal(COMPLETED, server.row(run).status)
    assert.equal(1, #asked)
    assert.equal('{"id":7}', results(run).result)
    assert.equal(1, results(run).attempts)
  end)

  it("is asked again when the service calls back with an error, or not in time", function()
    declare({ url = "http://ship" }, { callback_timeout = "1h", retries = 2, backoff = { initial = 2, factor = 1, max = 2, jitter = 0 } })
    answers = { { 202 }, { 202 }, { 200, "5" } }
    local run = server.trigger("w")
    server.task.run(10)
    server.store.send(run.id, "$step:ship", '{"status":"failed","output":null,"error":{"code":"jam","message":"paper"}}')
    server.task.run(20)
    assert.equal(2, #asked)
    server.task.run(3610)
    assert.equal(COMPLETED, server.row(run).status)
    assert.equal("5", results(run).result)
    assert.equal(3, results(run).attempts)
  end)

  it("fails for good when the service says so", function()
    declare({ url = "http://ship" })
    answers = { { 202 } }
    local run = server.trigger("w")
    server.task.run(1)
    server.store.send(run.id, "$step:ship", '{"status":"failed","output":null,"error":{"code":"lost","message":"gone","retryable":false}}')
    server.task.run(10)
    assert.equal(FAILED, server.row(run).status)
    assert.match('"lost"', server.row(run).error)
  end)
end)
