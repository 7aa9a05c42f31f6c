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
