-- What the benchmarks call: a small JSON route, and a 3-step workflow triggered in process.

local mw = require "mw"

mw.get("/hello", function(_, res) res:json { ok = true } end)

mw.workflow("bench", {
  { name = "a", run = function() return { n = 1 } end },
  { name = "b", run = function(ctx) return { n = ctx.results.a.n + 1 } end },
  { name = "c", run = function(ctx)
      mw.kv.incr("done:" .. ctx.input.batch)
      return { n = ctx.results.b.n + 1 }
    end },
})

-- POST /bench/run {"batch": "x", "count": 20000, "concurrency": 64}: triggers, keeping that many triggers in flight.
mw.post("/bench/run", { timeout = 300 }, function(req, res)
  local ask = req:json()
  local left = ask.count
  local function trigger_many()
    while left > 0 do
      left = left - 1
      mw.trigger("bench", { batch = ask.batch })
    end
  end
  local started = mw.now()
  local lanes = {}
  for i = 1, ask.concurrency do lanes[i] = trigger_many end
  mw.all(lanes)
  res:json { triggered_seconds = mw.now() - started }
end)

-- POST /bench/latency {"batch": "x", "count": 200}: one at a time on an idle server; milliseconds from trigger to the last step.
mw.post("/bench/latency", { timeout = 120 }, function(req, res)
  local ask, took = req:json(), {}
  for i = 1, ask.count do
    local batch = ask.batch .. i
    local started = mw.now()
    mw.trigger("bench", { batch = batch })
    while not mw.kv.get("done:" .. batch) do mw.sleep("1ms") end
    took[i] = (mw.now() - started) * 1000
    mw.sleep(0.02)
  end
  table.sort(took)
  res:json { p50_ms = took[math.ceil(#took * 0.5)], p99_ms = took[math.ceil(#took * 0.99)] }
end)

mw.get("/bench/done/:batch", function(req, res) res:json { done = mw.kv.get("done:" .. req.params.batch) or 0 } end)
