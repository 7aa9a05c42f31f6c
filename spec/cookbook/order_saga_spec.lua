-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/order_saga.lua", function()
  local app

  before_each(function() app = testing.load("plugins/order_saga.lua") end)

  local function logged(message)
    local count = 0
    for _, line in ipairs(app.logged) do if line.message == message then count = count + 1 end end
    return count
  end

  it("goes through", function()
    local run = app:run("order_saga", { item = "lamp", amount = 42 }):ok()
    assert.match("^ch_", run.results.charge.charge)
    assert.equal(1, logged "mail sent")
    assert.equal(1, logged "warehouse told")
    assert.equal(1, app:one("SELECT count(*) AS n FROM reservations").n)
  end)

  it("refunds and gives back when there is none left", function()
    local run = app:run("order_saga", { item = "gone", amount = 42 })
    assert.equal("failed", run.status)
    assert.equal("out_of_stock", run.error.code)
    assert.equal("pack", run.error.step)
    assert.equal(1, logged "refunded")
    assert.equal(0, app:one("SELECT count(*) AS n FROM reservations").n)
  end)

  it("tries a declined card once, and takes back what may have been charged", function()
    local run = app:run("order_saga", { item = "lamp", amount = 5000 })
    assert.equal("card_declined", run.error.code)
    assert.equal(1, run.steps.charge.attempts)
    assert.equal(1, logged "refunded")
  end)

  it("ends the same, done or undone, wherever the server dies", function()
    app:crash_at_each_step("order_saga", { item = "lamp", amount = 42 })
    app:crash_at_each_step("order_saga", { item = "gone", amount = 42 }, { check = function(_, crashed)
      assert.equal(0, crashed:one("SELECT count(*) AS n FROM reservations").n)
    end })
  end)
end)
