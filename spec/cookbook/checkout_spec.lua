-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/checkout.lua", function()
  local ORDER = { amount = 42, email = "a@b.c" }
  local app

  before_each(function() app = testing.load("plugins/checkout.lua", { env = { APP_PAYMENTS_URL = "https://pay.example/charges" } }) end)

  -- As a payment provider does: one charge a key, however often it is asked.
  local function provider()
    local charges, count = {}, 0
    return function(request)
      local key = request.headers["idempotency-key"]
      if not charges[key] then
        count = count + 1
        charges[key] = "ch_" .. count
      end
      return { json = { id = charges[key] } }
    end
  end

  it("charges, reserves and sends a receipt", function()
    local pay = app:stub_fetch("POST", "https://pay.example/charges", { json = { id = "ch_1" } }, { times = 1 })
    local run = app:run("checkout", ORDER):ok()
    assert.same({ sent = "a@b.c", charge = "ch_1" }, run.output)
    assert.same({ amount = 42 }, pay.calls[1]:json())
    assert.same({ execution = run.id, charge = "ch_1", amount = 42 }, app:one("SELECT * FROM orders"))
    app:finish()
  end)

  it("tries a provider that is down again, with the same key", function()
    local pay = app:stub_fetch("POST", "https://pay.example/charges", { { error = "timeout" }, { status = 503 }, { json = { id = "ch_1" } } })
    local run = app:run("checkout", ORDER):ok()
    assert.equal(3, run.steps.charge.attempts)
    assert.equal(pay.calls[1].headers["idempotency-key"], pay.calls[3].headers["idempotency-key"])
  end)

  it("fails for good when the amount is refused, and keeps no order", function()
    app:stub_fetch("POST", "https://pay.example/charges", { status = 422 })
    local run = app:run("checkout", ORDER)
    assert.equal("failed", run.status)
    assert.equal("http_status", run.error.code)
    assert.equal("charge", run.error.step)
  end)

  it("charges once and keeps one order, wherever the server dies", function()
    app:crash_at_each_step("checkout", ORDER, {
      setup = function(fresh) fresh:stub_fetch("POST", "https://pay.example/charges", provider()) end,
      check = function(_, crashed) assert.equal(1, crashed:one("SELECT count(*) AS n FROM orders").n) end,
    })
  end)

  it("starts an order number once", function()
    app:stub_fetch("POST", "https://pay.example/charges", provider())
    local first = app:request("POST", "/checkout", { json = { amount = 1, number = "o-1" } })
    local second = app:request("POST", "/checkout", { json = { amount = 1, number = "o-1" } })
    assert.equal(202, first.status)
    assert.same({ executionId = first:json().executionId, created = false }, second:json())
    assert.equal(400, app:request("POST", "/checkout", { json = { amount = "much" } }).status)
  end)

  it("has a stub provider of its own", function()
    local function pay(key) return app:request("POST", "/stub/payments", { json = { amount = 1 }, headers = { ["Idempotency-Key"] = key } }):json().id end
    assert.equal(pay "a", pay "a")
    assert.are_not.equal(pay "a", pay "b")
    assert.equal(422, app:request("POST", "/stub/payments", { json = { amount = -1 } }).status)
  end)
end)
