-- The nightly job {{name}}: the 3rd hour of each day in the zone below, on one server of a fleet, once.
--
--   moonwatch cron show {{name}}       when it runs next, and what became of it
--   moonwatch cron run {{name}}        now

local mw = require "mw"

mw.cron("{{name}}", "0 3 * * *", function(ctx)
  mw.log.info("{{name}} runs", { scheduled_at = ctx.scheduled_at })
  return { scheduled_at = ctx.scheduled_at }
end, { timezone = "UTC" })
