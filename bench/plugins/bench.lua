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

-- The same three steps in a function.
mw.workflow("bench_function", function(ctx, input)
  local a = ctx:step("a", function() return { n = 1 } end)
  local b = ctx:step("b", function() return { n = a.n + 1 } end)
  return ctx:step("c", function()
    mw.kv.incr("done:" .. input.batch)
    return { n = b.n + 1 }
  end)
end)

-- A parent with one child of one step.
mw.workflow("bench_child", { { name = "a", run = function() return { n = 1 } end } })
mw.workflow("bench_parent", function(ctx, input)
  local answer = ctx:call("bench_child", input)
  return ctx:step("last", function()
    mw.kv.incr("done:" .. input.batch)
    return { n = answer.n + 1 }
  end)
end)

-- A hundred items, each with a step of its own, all beside each other.
local hundred = {}
for i = 1, 100 do hundred[i] = i end
mw.workflow("bench_map", function(ctx, input)
  local squares = ctx:map(hundred, function(c, item) return c:step("square", function() return item * item end) end, { concurrency = 100 })
  return ctx:step("last", function()
    mw.kv.incr("done:" .. input.batch)
    return #squares
  end)
end)

-- What bench/seed.py copies.
mw.workflow("bench_asleep", {
  { name = "a", run = function() return { n = 1 } end },
  { sleep = "30d" },
  { name = "b", run = function() return { n = 2 } end },
})

-- POST /bench/run {"batch": "x", "count": 20000, "concurrency": 64, "workflow": "bench", "delay": "1ms"}: triggers, keeping that many
-- triggers in flight. Without `delay` a run goes from its trigger to the worker in memory; with it, it is stored and claimed when due.
mw.post("/bench/run", { timeout = 300 }, function(req, res)
  local ask = req:json()
  local left, workflow = ask.count, ask.workflow or "bench"
  local opts = ask.delay and { delay = ask.delay } or nil
  local function trigger_many()
    while left > 0 do
      left = left - 1
      mw.trigger(workflow, { batch = ask.batch }, opts)
    end
  end
  local started = mw.now()
  local lanes = {}
  for i = 1, ask.concurrency do lanes[i] = trigger_many end
  mw.all(lanes)
  res:json { triggered_seconds = mw.now() - started }
end)

-- POST /bench/paced {"batch": "x", "count": 100}: triggers one execution each 20 ms, so that the server is idle when it comes. How
-- long each took is in its created_at and finished_at.
mw.post("/bench/paced", { timeout = 120 }, function(req, res)
  local ask = req:json()
  for _ = 1, ask.count do
    mw.trigger("bench", { batch = ask.batch })
    mw.sleep("20ms")
  end
  res:json { triggered = ask.count }
end)

-- Runs that are at work at the same time: each waits a little in its first step.
mw.workflow("bench_held", {
  { name = "a", run = function() mw.sleep("300ms") return { n = 1 } end },
  { name = "b", run = function(ctx) return { n = ctx.results.a.n + 1 } end },
  { name = "c", run = function(ctx)
      mw.kv.incr("done:" .. ctx.input.batch)
      return { n = ctx.results.b.n + 1 }
    end },
})

-- POST /bench/held {"batch": "x", "at_once": 1000, "rounds": 5}: so many at once, so often; answers when all are done.
mw.post("/bench/held", { timeout = 300 }, function(req, res)
  local ask = req:json()
  for round = 1, ask.rounds do
    local left, lanes = ask.at_once, {}
    local function trigger_many()
      while left > 0 do
        left = left - 1
        mw.trigger("bench_held", { batch = ask.batch })
      end
    end
    for i = 1, math.min(64, ask.at_once) do lanes[i] = trigger_many end
    mw.all(lanes)
    while tonumber(mw.kv.get("done:" .. ask.batch) or 0) < round * ask.at_once do mw.sleep("50ms") end
  end
  res:json { done = ask.rounds * ask.at_once }
end)

mw.get("/bench/done/:batch", function(req, res) res:json { done = mw.kv.get("done:" .. req.params.batch) or 0 } end)

-- Calls `work` count times, `concurrency` at once, and answers how long all of it took.
local function timed(ask, work)
  local left = ask.count
  local function lane()
    while left > 0 do
      left = left - 1
      work()
    end
  end
  local started = mw.now()
  local lanes = {}
  for i = 1, ask.concurrency do lanes[i] = lane end
  mw.all(lanes)
  return { count = ask.count, seconds = mw.now() - started }
end

-- POST /bench/fetch {"url": "http://…", "count": 100000, "concurrency": 64}: fetches it that often.
mw.post("/bench/fetch", { timeout = 120 }, function(req, res)
  local ask = req:json()
  local url = ask.url
  res:json(timed(ask, function() mw.fetch(url):ok() end))
end)

-- POST /bench/query {"accounts": 10000, "count": 100000, "concurrency": 64}: what `pgbench -S -M prepared` asks of the same table.
mw.post("/bench/query", { timeout = 120 }, function(req, res)
  local ask = req:json()
  local accounts = ask.accounts
  res:json(timed(ask, function()
    mw.query("SELECT abalance FROM pgbench_accounts WHERE aid = $1", { mw.random(1, accounts) })
  end))
end)

-- POST /bench/redis {"key": "bench", "count": 100000, "concurrency": 64}: gets it that often.
mw.post("/bench/redis", { timeout = 120 }, function(req, res)
  local ask = req:json()
  local key = ask.key
  res:json(timed(ask, function() mw.redis.get(key) end))
end)
