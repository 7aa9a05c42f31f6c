-- SPDX-License-Identifier: MIT

local exchange = require "support.fakes.exchange"
local fakes = require "support.fakes"

describe("the sidecar", function()
  local server, routes

  local function declare(workflow) workflow("w", { { name = "one", run = function(ctx) return ctx.input end } }) end

  before_each(function()
    server = fakes.server()
    server.plugin(declare)
    server.boot()
    routes = require("mw.api").routes("main")
  end)
  after_each(function() server.close() end)

  local function trigger(body, headers)
    local all = { ["content-type"] = "application/json" }
    for name, value in pairs(headers or {}) do all[name] = value end
    return exchange.send(server, routes, "POST", "/api/trigger", { headers = all, body = body })
  end

  it("starts a workflow and answers its id", function()
    local answer = trigger '{"name":"w","input":{"a":1}}'
    assert.equal(200, answer.status)
    assert.equal(server.store.order[1], answer.body.executionId)
    server.task.run(1)
    assert.equal('{"a":1}', server.row(answer.body.executionId).output)
  end)

  it("keeps an absent input apart from null, and ignores unknown fields", function()
    assert.is_nil(server.row(trigger('{"name":"w","more":true}').body.executionId).input)
    assert.equal("null", server.row(trigger('{"name":"w","input":null}').body.executionId).input)
  end)

  it("says what is wrong, and stores nothing", function()
    local cases = {
      { 400, '{"name":""}', "name must be a non-empty string" }, { 400, '{"name":7}', "name must be a non-empty string" },
      { 400, "[]", "name must be a non-empty string" }, { 400, '{"input":1}', "name must be a non-empty string" },
      { 400, '"w"', "name must be a non-empty string" }, { 400, "{oops", "not valid JSON" }, { 400, "", "body is empty" },
      { 404, '{"name":"nope"}', "workflow not found: nope" },
    }
    for _, case in ipairs(cases) do
      local answer = trigger(case[2])
      assert.equal(case[1], answer.status, case[2])
      assert.is_string(answer.body.error)
      assert.match(case[3], answer.body.error, 1, true)
    end
    assert.equal("workflow not found: nope", trigger('{"name":"nope"}').body.error)
    assert.equal(0, #server.store.order)
  end)

  it("refuses a body over http.max_body in its own shape", function()
    local answer = trigger('{"name":"w","input":"' .. ("x"):rep(2 ^ 20) .. '"}')
    assert.equal(413, answer.status)
    assert.match("http.max_body", answer.body.error, 1, true)
    assert.equal(0, #server.store.order)
  end)

  it("wants JSON in UTF-8", function()
    assert.equal(415, trigger('{"name":"w"}', { ["content-type"] = "application/xml" }).status)
    assert.equal(415, trigger('{"name":"w"}', { ["content-type"] = "application/json; charset=latin1" }).status)
    assert.equal(200, trigger('{"name":"w"}', { ["content-type"] = "application/json; charset=UTF-8" }).status)
  end)

  it("answers a repeated Idempotency-Key with the same execution, also after a restart", function()
    local first = trigger('{"name":"w","input":{"a":1,"b":2}}', { ["idempotency-key"] = "k1" })
    local again = trigger('{"name":"w","input":{"b": 2, "a": 1}}', { ["idempotency-key"] = "k1" })
    assert.equal(first.body.executionId, again.body.executionId)
    server.task.run(1)
    server.restart(declare)
    routes = require("mw.api").routes("main")
    assert.equal(first.body.executionId, trigger('{"name":"w","input":{"a":1,"b":2}}', { ["idempotency-key"] = "k1" }).body.executionId)
    assert.equal(1, #server.store.order)
  end)

  it("answers 422 when the key comes with another body", function()
    trigger('{"name":"w","input":1}', { ["idempotency-key"] = "k1" })
    local answer = trigger('{"name":"w","input":2}', { ["idempotency-key"] = "k1" })
    assert.equal(422, answer.status)
    assert.match("Idempotency-Key", answer.body.error, 1, true)
  end)

  it("bounds the key", function()
    assert.equal(400, trigger('{"name":"w"}', { ["idempotency-key"] = ("k"):rep(256) }).status)
    assert.equal(200, trigger('{"name":"w"}', { ["idempotency-key"] = ("k"):rep(255) }).status)
  end)

  it("answers 429 and 503 with Retry-After while the store cannot take more", function()
    for code, status in pairs { busy = 429, unavailable = 503 } do
      server.store.refuse = function(kind) return kind == "create" and require("mw.errors").new(code, "not now") or nil end
      local answer = trigger '{"name":"w"}'
      assert.equal(status, answer.status)
      assert.equal("1", answer.headers["retry-after"])
    end
  end)

  it("is healthy", function()
    assert.same({ status = "ok", sidecar = "flowwatch" }, exchange.send(server, routes, "GET", "/api/health").body)
  end)
end)
