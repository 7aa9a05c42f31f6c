-- SPDX-License-Identifier: MIT

-- A nightly job: what was sold the day before, at seven in the morning in Berlin, on one server of a fleet, once. The report carries the tick
-- as its id, so a run that is tried again writes no second one.
--
--   moonwatch cron show nightly-report      when it runs next, and what became of it
--   moonwatch cron run nightly-report       now

local mw = require "mw"

local function sales()
  mw.query("CREATE TABLE IF NOT EXISTS orders (execution TEXT PRIMARY KEY, charge TEXT NOT NULL, amount INTEGER NOT NULL)")
  return mw.one("SELECT count(*) AS orders, coalesce(sum(amount), 0) AS amount FROM orders")
end

mw.cron("nightly-report", "0 7 * * *", function(ctx)
  local sold = sales()
  mw.query("CREATE TABLE IF NOT EXISTS reports (day TEXT PRIMARY KEY, orders INTEGER NOT NULL, amount INTEGER NOT NULL)")
  mw.query("INSERT INTO reports (day, orders, amount) VALUES ($1, $2, $3) ON CONFLICT (day) DO NOTHING", { ctx.scheduled_at, sold.orders, sold.amount })
  mw.log.info("report written", { day = ctx.scheduled_at, orders = sold.orders, amount = sold.amount })
  return { orders = sold.orders, amount = sold.amount }
end, { timezone = "Europe/Berlin", misfire = "once", retries = 5 })
