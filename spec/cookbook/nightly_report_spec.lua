-- SPDX-License-Identifier: MIT
local testing = require "mw.testing"

describe("plugins/nightly_report.lua", function()
  local app
  before_each(function() app = testing.load { "plugins/nightly_report.lua", "plugins/checkout.lua" } end)

  local function reports() return app:query("SELECT day, orders, amount FROM reports ORDER BY day") end

  it("writes one report each morning in Berlin", function()
    app:advance("3d")
    local days = {}
    for i, report in ipairs(reports()) do days[i] = report.day end
    assert.same({ "2026-01-01T07:00:00+01:00", "2026-01-02T07:00:00+01:00", "2026-01-03T07:00:00+01:00" }, days)
  end)

  it("counts what was sold", function()
    app:stub_fetch("POST", "*", { json = { id = "ch_1" } })
    app:run("checkout", { amount = 42, email = "a@b.c" }):ok()
    app:advance("1d")
    assert.same({ day = "2026-01-01T07:00:00+01:00", orders = 1, amount = 42 }, reports()[1])
  end)

  it("waits for a database that is away, and then writes it once", function()
    app:advance("6h")
    app:database_away("2h")
    app:advance("1d")
    assert.equal(1, app:one("SELECT count(*) AS n FROM reports WHERE day LIKE '2026-01-01%'").n)
  end)
end)
