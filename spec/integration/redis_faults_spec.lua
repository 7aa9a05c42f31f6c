-- SPDX-License-Identifier: MIT
-- Bad days of Redis: away, killed, stopped, slow, refusing, and servers that are none.

local redis = require "support.redis"
local server = require "support.server"

local plugin = [[
  local mw = require "mw"

  local function said(...)
    local value, err = mw.try(...)
    if err then return { code = err.code, message = err.message, redis = err.redis, retryable = err.retryable } end
    return { value = value == nil and mw.null or value }
  end

  mw.post("/call", function(req, res)
    local redis = req.query.timeout and mw.redis.with { timeout = req.query.timeout } or mw.redis
    res:json(said(redis.call, unpack(req:json())))
  end)
  mw.post("/all", function(req, res) -- at once; answers in order
    local jobs = {}
    for i, argv in ipairs(req:json()) do jobs[i] = function() return said(mw.redis.call, unpack(argv)) end end
    local results = mw.all(jobs)
    res:json(mw.array(results))
  end)
  mw.post("/pipeline", function(req, res) res:json(said(mw.redis.pipeline, req:json())) end)
  mw.get("/late", function(_, res)
    local slow, out = mw.redis.with { timeout = "100ms" }, {}
    out.slow = said(slow.call, "DEBUG", "SLEEP", 0.25)
    out.pipeline = said(slow.pipeline, { { "SET", "late", 1 }, { "GET", "late" } })
    out.echo = mw.redis.echo("mine")
    out.late = mw.redis.get("late")
    res:json(out)
  end)
  mw.get("/abandoned", { timeout = "100ms" }, function(_, res) mw.redis.call("DEBUG", "SLEEP", 0.3) end)
  mw.get("/large", function(_, res) -- large and small ones at once
    local text, jobs, wrong = ("x"):rep(20 * 1024 * 1024), {}, 0
    for i = 1, 60 do
      jobs[i] = i % 20 == 0 and function() return mw.redis.with({ timeout = "25s" }).set("large" .. i, text) end
        or function() return mw.redis.with({ timeout = "25s" }).echo("OK") end
    end
    for _, value in pairs(mw.all(jobs)) do if value ~= "OK" then wrong = wrong + 1 end end
    res:json { wrong = wrong, size = mw.redis.call("STRLEN", "large40"), deleted = mw.redis.del("large20", "large40", "large60") }
  end)
  mw.get("/alive", function(_, res) res:text("yes") end)
]]

local function start(config, args)
  return server.start { plugins = { ["redis.lua"] = plugin }, config = config, args = args or { "--workers", "1" } }
end

local function call(s, ...) return s:post("/call", { json = { ... } }).json() end

local function wait_back(s)
  return s:wait(function() return call(s, "PING").value == "PONG" end, 10, "Redis to be used again")
end

describe("a Redis that has bad days", function()
  local r, s
  local function case(name, fn)
    it(name, function()
      if not redis.can_start() then return pending("needs redis-server") end
      fn()
    end)
  end
  setup(function()
    if not redis.can_start() then return end
    r = redis.start()
    s = start(('return { redis = { url = "%s", timeout = "1s" } }'):format(r.url))
  end)
  teardown(function()
    if s then s:stop() end
    if r then r:stop() end
  end)
  before_each(function() if r then wait_back(s) end end)

  case("throws a late reply away, in its place", function()
    local out = s:get("/late").json()
    assert.equal("timeout", out.slow.code)
    assert.is_true(out.slow.retryable)
    assert.matches("^DEBUG: Redis at 127.0.0.1:%d+ did not answer within 100 ms; it may still be executed$", out.slow.message)
    assert.equal("timeout", out.pipeline.code)
    assert.equal("mine", out.echo)
    assert.equal("1", out.late) -- it was executed
  end)

  case("does the same for a task that is gone", function()
    assert.equal(503, s:get("/abandoned").status)
    assert.equal("mine", call(s, "ECHO", "mine").value)
  end)

  case("fails what was sent when it is killed, says that it may have been executed, and comes back", function()
    local results = s:concurrently {
      function() return call(s, "DEBUG", "SLEEP", "0.8") end,
      function()
        s:wait(function() return r:is_busy() end, 5, "the command to be under way")
        r:kill()
        return s:wait(function()
          local out = call(s, "SET", "a", "1")
          return out.message and out.message:find("was not sent", 1, true) and out or (out.message or ""):find("refused") and out
        end, 5, "failing fast")
      end,
    }
    assert.equal("unavailable", results[1].code)
    assert.matches("it may have been executed$", results[1].message)
    assert.equal("unavailable", results[2].code)
    assert.is_true(results[2].retryable)
    local from = server.now()
    for _ = 1, 20 do assert.equal("unavailable", call(s, "GET", "a").code) end
    assert.is_true(server.now() - from < 1) -- none of them waits for its deadline
    assert.equal("yes", s:get("/alive").body)
    r:start_again()
    wait_back(s)
    assert.matches("Redis is away", s:log())
    assert.matches("Redis is back", s:log())
  end)

  case("keeps a new connection after CLIENT KILL", function()
    for _ = 1, 3 do
      call(s, "PING")
      r:command("CLIENT", "KILL", "TYPE", "normal")
      wait_back(s)
    end
  end)

  case("times out while it is stopped, gives the connection up, and uses it again when it goes on", function()
    r:pause()
    local out = call(s, "PING")
    assert.equal("timeout", out.code)
    s:wait(function() return call(s, "PING").code == "unavailable" end, 15, "failing fast")
    assert.equal("yes", s:get("/alive").body)
    r:resume()
    wait_back(s)
  end)

  case("keeps the order of commands around one that is slow", function()
    local list = { { "DEBUG", "SLEEP", "0.2" } }
    for i = 1, 100 do list[#list + 1] = { "ECHO", "n" .. i } end
    local results = s:post("/all", { json = list }).json()
    for i = 1, 100 do assert.equal("n" .. i, results[i + 1].value) end
  end)

  case("refuses more when too much is under way", function()
    local list = {}
    for i = 1, 10000 do list[i] = { "ECHO", "x" } end
    assert.equal(10000, #s:post("/pipeline", { json = list }).json().value)
    r:pause()
    assert.equal("timeout", s:post("/pipeline", { json = list }).json().code)
    local out = call(s, "PING")
    assert.equal("busy", out.code)
    assert.is_true(out.retryable)
    r:resume()
    wait_back(s)
    for i = 1, 33 do list[i] = { "BLPOP", "none", "0.2" } end
    local blocking, busy = { unpack(list, 1, 33) }, 0
    for _, one in ipairs(s:post("/all", { json = blocking }).json()) do if one.code == "busy" then busy = busy + 1 end end
    assert.equal(1, busy)
  end)

  case("sends large values between small ones", function()
    assert.same({ wrong = 0, size = 20 * 1024 * 1024, deleted = 3 }, s:get("/large", { timeout = 30 }).json())
    r:pause() -- nothing is read: what the sockets do not take waits, and is given up with the connection
    assert.equal("timeout", s:post("/call?timeout=300ms", { json = { "SET", "large", ("y"):rep(900 * 1024) } }).json().code)
    r:resume()
    wait_back(s)
  end)

  case("answers a large reply, and refuses one beyond the limit", function()
    r:command("SET", "large", ("x"):rep(4 * 1024 * 1024))
    assert.equal(4 * 1024 * 1024, #call(s, "GET", "large").value)
    r:command("CONFIG", "SET", "proto-max-bulk-len", "100mb")
    r:command("SETRANGE", "huge", 70 * 1024 * 1024, "x")
    local before = s:memory()
    local out = s:post("/call?timeout=25s", { json = { "GET", "huge" } }).json()
    assert.equal("limit", out.code)
    assert.matches("larger than 64 MiB", out.message)
    wait_back(s)
    local is_slow = (os.getenv("MW_TEST_SLOW") or "") ~= "" -- a sanitizer keeps what is freed
    assert.is_true(is_slow or s:memory() < before + 64 * 1024 * 1024)
    r:command("DEL", "huge")
  end)

  case("tells READONLY and LOADING apart from refusals", function()
    r:command("REPLICAOF", "127.0.0.1", "1")
    local out = call(s, "SET", "a", "1")
    assert.equal("unavailable", out.code)
    assert.is_true(out.retryable)
    assert.matches("point redis.url at the primary", out.message)
    r:command("REPLICAOF", "NO", "ONE")
    assert.equal("OK", call(s, "SET", "a", "1").value)
  end)
end)

describe("a Redis that does not let us in", function()
  local r, s
  before_each(function() r, s = nil, nil end)
  after_each(function()
    if s then s:stop() end
    if r then r:stop() end
  end)
  local function case(name, fn)
    it(name, function()
      if not redis.can_start() then return pending("needs redis-server") end
      fn()
    end)
  end

  case("is told apart from one that is away: no password", function()
    r = redis.start { password = "pw-secret" }
    s = start(('return { redis = "%s" }'):format(r.url))
    local out = call(s, "GET", "a")
    assert.equal("denied", out.code)
    assert.matches("NOAUTH.*put user and password into redis.url", out.message)
  end)

  case("… and a wrong one, which is shown nowhere", function()
    r = redis.start { password = "pw-secret" }
    s = start(('return { redis = "redis://ann:wrong-secret@%s" }'):format(r.address))
    local out = call(s, "GET", "a")
    assert.equal("denied", out.code)
    assert.matches("WRONGPASS", out.message)
    assert.is_nil((out.message .. s:log()):find("wrong%-secret"))
  end)

  case("knows users with ACLs", function()
    r = redis.start { acl = { "ann", "on", ">p@ss", "~own:*", "+@all", "-flushall" } }
    s = start(('return { redis = "redis://ann:p%%40ss@%s" }'):format(r.address))
    assert.equal("OK", call(s, "SET", "own:a", "1").value)
    assert.same({ "denied", "NOPERM" }, { call(s, "GET", "other").code, call(s, "GET", "other").redis })
    assert.equal("denied", call(s, "FLUSHALL").code)
  end)

  case("is asked for a database it has not", function()
    r = redis.start()
    s = start(('return { redis = "%s/999" }'):format(r.url))
    local out = call(s, "GET", "a")
    assert.equal("config", out.code)
    assert.matches("DB index is out of range", out.message)
  end)

  case("speaks TLS: with the right authority", function()
    r = redis.start { tls = true }
    s = start(('return { redis = { url = "%s", ca_file = "%s" } }'):format(r.tls_url, r.ca_file))
    assert.equal("OK", call(s, "SET", "a", ("t"):rep(100000)).value)
    assert.equal(100000, #call(s, "GET", "a").value)
  end)

  case("… and not without", function()
    r = redis.start { tls = true }
    s = start(('return { redis = "%s" }'):format(r.tls_url))
    local out = call(s, "GET", "a")
    assert.equal("tls", out.code)
    assert.matches("certificate", out.message)
  end)

  case("listens on a Unix socket", function()
    r = redis.start()
    s = start(('return { redis = "%s?db=1" }'):format(r.unix_url))
    assert.equal("OK", call(s, "SET", "a", "1").value)
    local client = r:client()
    client:call("SELECT", "1")
    assert.equal("1", client:call("GET", "a"))
    client:close()
  end)
end)

describe("a server that is no Redis", function()
  local fake, s
  after_each(function()
    if s then s:stop() end
    if fake then fake.stop() end
    s, fake = nil, nil
  end)

  local PONG = "+PONG\r\n"
  -- Lets us in, then answers with `text`.
  local function after_ping(text)
    return function(bytes) return bytes:find("PING", 1, true) and PONG or text end
  end
  local function against(answer)
    fake = redis.fake(answer)
    s = start(('return { redis = { url = "%s", timeout = "500ms" } }'):format(fake.url))
    return call(s, "GET", "a")
  end

  local answers = {
    { "HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", "protocol" },
    { "a length that is none", "$abc\r\n", "protocol" },
    { "a negative length", "*-5\r\n", "protocol" },
    { "lists without end", ("*1\r\n"):rep(5000), "protocol" },
    { "a promise of a huge list, and no more", "*2147483647\r\n", "timeout" },
    { "a promise of a huge text, and no more", "$4611686018427387904\r\nx", "timeout" },
    { "half a reply", "$10\r\nabc", "timeout" },
    { "silence", nil, "timeout" },
    { "MOVED", "-MOVED 3999 127.0.0.1:6381\r\n", "config" },
    { "LOADING", "-LOADING Redis is loading the dataset in memory\r\n", "unavailable" },
    { "an error without words", "-\r\n", "redis" },
    { "a hang-up", "", "unavailable" },
  }
  for _, one in ipairs(answers) do
    it("is no harm: " .. one[1], function()
      local before
      local out = against(after_ping(one[2]))
      assert.equal(one[3], out.code, out.message)
      before = s:memory()
      assert.equal("yes", s:get("/alive").body)
      assert.is_true(s:memory() < before + 16 * 1024 * 1024)
    end)
  end

  it("is no harm when it answers more than was asked", function()
    local out = against(function(bytes) return bytes:find("PING", 1, true) and PONG or "+one\r\n+two\r\n" end)
    assert.equal("one", out.value)
    s:wait(function() return call(s, "GET", "a").value == "one" end, 5, "a fresh connection")
  end)

  it("is no harm when half of what nobody asked for is finished under the next call", function()
    local out = against(function(bytes)
      if bytes:find("PING", 1, true) then return PONG end
      local _, asked = bytes:gsub("GET", "")
      return asked == 1 and "+one\r\n*3\r\n$5\r\nhello\r\n" or "$1\r\nx\r\n$1\r\ny\r\n"
    end)
    assert.equal("one", out.value)
    local both = s:post("/pipeline", { json = { { "GET", "a" }, { "GET", "b" } } }).json()
    assert.same({ "x", "y" }, both.value)
  end)

  it("is no harm when it answers before it was asked in full", function()
    fake = redis.fake(function() return PONG end)
    s = start(('return { redis = { url = "%s", timeout = "500ms" } }'):format(fake.url))
    assert.is_not_nil(s:get("/large", { timeout = 30 }).status)
    assert.equal("yes", s:get("/alive").body)
  end)

  it("does not let us in while it loads", function()
    local out = against(function() return "-LOADING Redis is loading the dataset in memory\r\n" end)
    assert.equal("unavailable", out.code)
    assert.matches("LOADING", out.message)
  end)

  it("is one that never answers a connection", function()
    local out = against(function() return nil end)
    assert.is_true(out.code == "timeout" or out.code == "unavailable")
    assert.matches("was not sent", out.message)
  end)
end)

describe("a start without its Redis", function()
  it("is not held up, and neither is its end", function()
    local s = start('return { redis = "redis://127.0.0.1:1" }')
    assert.equal("yes", s:get("/alive").body)
    local out = call(s, "GET", "a")
    assert.equal("unavailable", out.code)
    assert.is_true(out.retryable)
    assert.matches("127.0.0.1:1: connection refused; it was not sent", out.message)
    s:stop()
  end)

  it("says so when the name of its host does not exist", function()
    local s = start('return { redis = "redis://no-such-host.invalid" }')
    assert.equal("unavailable", call(s, "GET", "a").code)
    s:stop()
  end)
end)
