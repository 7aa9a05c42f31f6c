-- The workflow {{name}}. Every finished step is recorded: after a crash an execution goes on where it was.
--
--   moonwatch trigger {{name}} '{"name":"Ada"}'

local mw = require "mw"

mw.workflow("{{name}}", {
  { name = "prepare", run = function(ctx)
      return { text = "Hello, " .. (ctx.input.name or "world") .. "!" }
    end },
  -- Up to four attempts of ten seconds. ctx.step_key is the same for each: give it to whoever must not act twice.
  { name = "deliver", retries = 3, timeout = 10, run = function(ctx)
      mw.log.info("{{name}} delivers", { text = ctx.results.prepare.text })
      return { delivered = true }
    end },
})
