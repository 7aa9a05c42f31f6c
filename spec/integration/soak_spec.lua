-- SPDX-License-Identifier: MIT
-- Everything at once for minutes, with reloads in between: afterwards memory, descriptors and threads are where they were, and all that was
-- acknowledged is done. MW_TEST_SOAK_SECONDS (default 60) is how long for each engine; 3600 is what a release gets.

local posix = require "support.posix"
local server = require "support.server"

local SECONDS = tonumber(os.getenv("MW_TEST_SOAK_SECONDS") or "") or 60
local WARM_SECONDS, RELOAD_EVERY = math.min(15, SECONDS / 4), 2

local function plugin(round)
  return ([==[
    local mw = require "mw"
    local ROUND = %d
    mw.get("/round", function(_, res) res:json { round = ROUND } end)
    mw.post("/echo", function(req, res) res:json { bytes = #req.body } end)
    mw.post("/stream", { stream = true, body = "8MB" }, function(req, res)
      local n = 0
      for piece in req:chunks() do n = n + #piece end
      res:json { bytes = n }
    end)
    mw.get("/long", function(_, res) for i = 1, 20 do res:write(("x"):rep(10000)) mw.sleep("10ms") end res:finish() end)
    mw.get("/sql", function(_, res)
      mw.transaction(function(tx)
        tx:query("INSERT INTO soak (name, n) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET n = soak.n + 1", { "k" .. mw.random(1, 50) })
      end)
      res:json(mw.one("SELECT count(*) AS n FROM soak"))
    end)
    mw.get("/prepare", function(_, res)
      mw.query("CREATE TABLE IF NOT EXISTS soak (name TEXT PRIMARY KEY, n INTEGER NOT NULL)")
      res:json {}
    end)
    mw.get("/kv", function(_, res) res:json { n = mw.kv.incr("n" .. mw.random(1, 1000), 1, { ttl = "2s" }) } end)
    mw.get("/fetch", function(req, res) res:json(mw.fetch("http://" .. req.headers.host .. "/round"):ok():json()) end)
    mw.get("/fails", function() error(mw.error("invalid", "as it should")) end)
    mw.get("/burns", function(_, res) local t = {} for i = 1, 20000 do t[i] = { i } end res:json { n = #t } end)
    mw.get("/spawns", function(_, res) for _ = 1, 10 do mw.spawn(mw.sleep, "50ms") end res:json {} end)
    mw.workflow("soak", {
      { name = "a", run = function(ctx) return { n = ctx.input.value } end },
      { name = "b", retries = 3, run = function(ctx) if mw.random() < 0.05 then error("again") end return ctx.results.a.n + 1 end },
      { name = "c", run = function(ctx) mw.sleep("5ms") return { n = ctx.results.b } end },
    })
  ]==]):format(round)
end

-- ---- clients, each a process that does one thing until the time is over and says how often ----

local function until_over(seconds, fn)
  local give_up, count = posix.now() + seconds, 0
  while posix.now() < give_up do
    fn(count)
    count = count + 1
  end
  return count
end

local function expect(answer, status)
  if answer.status ~= status then error(("%d instead of %d: %s"):format(answer.status, status, answer.body), 0) end
end

-- Asks for the paths in turn on one connection, which the server may close between two of them.
local function asks(s, paths)
  return function(seconds)
    local conn
    return until_over(seconds, function(i)
      conn = conn or s:connect()
      local path, status = (paths[i % #paths + 1]):match("(%S+) ?(%d*)")
      local answer = conn:request("GET", path)
      expect(answer, tonumber(status) or 200)
      if (answer.headers.connection or ""):lower() == "close" then conn = conn:close() end
    end)
  end
end

local function uploads(s)
  return function(seconds)
    local body = ("0123456789"):rep(30000)
    return until_over(seconds, function(i)
      expect(s:post("/stream", { body = body, headers = { ["content-type"] = "text/plain" } }), 200)
      expect(s:post("/echo", { body = body:sub(1, i % 1000), headers = { ["content-type"] = "text/plain" } }), 200)
    end)
  end
end

-- Leaves in the middle, speaks nonsense, sends half.
local function misbehaves(s)
  return function(seconds)
    local lines = {
      "GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\nhalf",
      "\0\1\2\3 nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nX: " .. ("y"):rep(60000), "GET /long HTTP/1.1\r\nHo",
    }
    return until_over(seconds, function(i)
      local conn = s:connect()
      posix.write(conn.fd, lines[i % #lines + 1], posix.now() + 1)
      posix.pause(0.01)
      conn:close()
    end)
  end
end

local function triggers(s)
  return function(seconds)
    return until_over(seconds, function(i)
      local answer = s:post("/api/trigger", { json = { name = "soak", input = { value = i } } })
      expect(answer, 200)
    end)
  end
end

local function edits(s)
  return function(seconds)
    return until_over(seconds, function(i)
      if i % 5 == 4 then s:write("soak.lua", "this is = not lua") else s:write("soak.lua", plugin(i)) end
      posix.pause(RELOAD_EVERY)
    end)
  end
end

-- ---- what is held ----

local function threads(s) return tonumber(posix.read_file("/proc/" .. s:server_pid() .. "/status"):match("Threads:%s*(%d+)")) end

local function count_of(s, statuses)
  local answer = s:get("/api/v1/executions?limit=1&status=" .. statuses)
  expect(answer, 200)
  return answer.json()
end

local function unfinished(s) return count_of(s, "queued,running,sleeping,waiting,paused,blocked,stuck").total end

-- Waits until nothing is under way any more, then says what the server holds.
local function settled(s)
  s:wait(function() return unfinished(s) == 0 end, 30, "every execution to finish")
  local last = { descriptors = 0 }
  s:wait(function() -- connections of clients that left, and states of old generations, go a little later
    local now = { descriptors = #posix.descriptors(s:server_pid()), threads = threads(s), memory = s:memory() }
    local quiet = now.descriptors == last.descriptors and now.threads == last.threads and math.abs(now.memory - last.memory) < 65536
    last = now
    if not quiet then posix.pause(0.5) end
    return quiet
  end, 30, "the server to be quiet")
  return last
end

local function run(s, seconds)
  local clients = {
    asks(s, { "/round", "/kv", "/sql", "/fails 400", "/burns" }), asks(s, { "/fetch", "/long", "/spawns", "/round" }),
    asks(s, { "/sql", "/livez", "/api/v1/executions?limit=5", "/api/v1/plugins" }), uploads(s), misbehaves(s), triggers(s), edits(s),
  }
  local jobs = {}
  for i, client in ipairs(clients) do jobs[i] = function() return client(seconds) end end
  local counts = s:concurrently(jobs)
  s:write("soak.lua", plugin(0))
  s:wait(function() return s:get("/round").json().round == 0 end, 10, "the last edit")
  return counts
end

local function soak(database)
  local s = server.start { plugins = { ["soak.lua"] = plugin(0) }, args = { "--workers", "2" }, database = database, supervised = true }
  finally(function() s:stop() end)
  local pid, total = s:server_pid(), 0
  expect(s:get("/prepare"), 200)
  total = total + run(s, WARM_SECONDS)[6]
  local before = settled(s)
  local counts = run(s, SECONDS - WARM_SECONDS)
  total = total + counts[6]
  local after = settled(s)
  local said = ("requests %d, uploads %d, abuses %d, triggers %d, edits %d; descriptors %d -> %d, threads %d -> %d, memory %.1f -> %.1f MiB"):format(
    counts[1] + counts[2] + counts[3], counts[4], counts[5], counts[6], counts[7], before.descriptors, after.descriptors,
    before.threads, after.threads, before.memory / 1048576, after.memory / 1048576)
  print("# " .. said)
  assert.equal(pid, s:server_pid(), "the server was started again")
  assert.is_true(math.abs(after.descriptors - before.descriptors) <= 8, said) -- connections to the database come and go
  assert.equal(before.threads, after.threads, said)
  assert.is_true(after.memory - before.memory < 8 * 1048576, said)
  local completed, other = count_of(s, "completed"), count_of(s, "failed,cancelled")
  assert.is_true(completed.total == total or completed.total_is == "estimate", ("%d triggered, %d completed, %d failed: %s"):format(total,
    completed.total, other.total, other.items[1] and s:get("/api/v1/executions/" .. other.items[1].id).body:sub(1, 500) or ""))
end

describe("an hour of everything", function()
  it("leaves memory, descriptors and threads where they were, on SQLite", function() soak(nil) end)

  it("leaves them where they were, on PostgreSQL", function()
    local url = os.getenv("MW_TEST_DATABASE_URL")
    if not url then return pending("needs postgres") end
    soak(server.fresh_database(url))
  end)
end)
