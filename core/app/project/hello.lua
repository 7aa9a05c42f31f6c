-- A first plugin: a route, and a workflow that it starts. Save a change and it serves at once.
--
--   curl http://127.0.0.1:9400/hello?name=Ada
--   curl -X POST -H 'content-type: application/json' -d '{"name":"Ada"}' http://127.0.0.1:9400/greetings
--   curl http://127.0.0.1:9400/api/v1/executions

local mw = require "mw"

mw.get("/hello", function(req, res)
  res:json { hello = req.query.name or "world" }
end)

-- Every finished step is recorded: after a crash the execution goes on where it was.
mw.workflow("greet", {
  { name = "compose", run = function(ctx)
      return { text = "Hello, " .. ctx.input.name .. "!" }
    end },
  { name = "deliver", retries = 3, timeout = 10, run = function(ctx)
      mw.log.info("greeting", { text = ctx.results.compose.text })
      return { delivered = true }
    end },
})

mw.post("/greetings", function(req, res)
  local run = mw.trigger("greet", { name = req:json().name or "world" })
  res:status(202):json { executionId = run.id }
end)
