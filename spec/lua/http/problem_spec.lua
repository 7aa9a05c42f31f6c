-- SPDX-License-Identifier: MIT
local errors = require "mw.errors"
local problem = require "mw.http.problem"

describe("http.problem", function()
  local function answer(raised, development)
    local out = { headers = {} }
    local res = {}
    function res:status(status) out.status = status return self end
    function res:header(name, value) out.headers[name] = value return self end
    function res:json(body) out.body = body end
    local status = problem.answer({ trace_id = "t" }, res, raised, development)
    assert.equal(out.status, status)
    assert.equal(status, out.body.status)
    assert.equal("t", out.body.trace_id)
    assert.equal("application/problem+json", out.headers["content-type"])
    return out
  end

  it("chooses the status by the error's own, else by its code", function()
    local cases = { invalid = 400, json = 400, validation = 400, denied = 403, not_found = 404, conflict = 409, exists = 409, limit = 413,
      busy = 429, rate_limited = 429, unavailable = 503, circuit_open = 503, timeout = 503, sql = 500, whatever = 500 }
    for code, status in pairs(cases) do assert.equal(status, answer(errors.new(code, "x")).status, code) end
    assert.equal(422, answer(errors.new("invalid", "x", { status = 422 })).status)
    assert.equal(500, answer(errors.new("odd", "x", { status = 200 })).status)
  end)

  it("does not pass on the status that another server gave", function()
    assert.equal(500, answer(errors.new("http_status", "404 from pay.example", { status = 404 })).status)
  end)

  it("tells when to come back", function()
    assert.equal("3", answer(errors.new("busy", "x", { retry_after = 2.1 })).headers["retry-after"])
    assert.equal("1", answer(errors.new("unavailable", "x")).headers["retry-after"])
  end)

  it("keeps what is away to itself in production, but for what the plugin said and for the built-in surfaces", function()
    local away = errors.new("unavailable", "Redis at 10.0.0.5:6379 does not answer")
    assert.equal("this is not available at the moment", answer(away).body.detail)
    assert.is_nil(answer(away).body.code)
    assert.equal(away.message, answer(away, true).body.detail)
    assert.equal("closed for repairs", answer(errors.public("unavailable", "closed for repairs")).body.detail)
    local shown
    local res = { status = function(self) return self end, header = function(self) return self end, json = function(_, body) shown = body end }
    assert.equal(503, problem.answer_own({ trace_id = "t" }, res, away))
    assert.equal(away.message, shown.detail)
  end)

  it("shows unexpected errors in development only", function()
    assert.equal("the handler failed", answer("plugins/a.lua:3: secret").body.detail)
    assert.equal("plugins/a.lua:3: secret", answer("plugins/a.lua:3: secret", true).body.detail)
    assert.equal("not you", answer(errors.new("denied", "not you")).body.detail)
  end)
end)
