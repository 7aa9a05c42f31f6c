-- SPDX-License-Identifier: MIT
-- mw.redis in a real server, against a real Redis.

local redis = require "support.redis"
local server = require "support.server"

local plugin = [[
  local mw = require "mw"

  local function answer(res, ...)
    local value, err = mw.try(...)
    if err then return res:json { code = err.code, message = err.message, redis = err.redis, retryable = err.retryable, where = err.where } end
    res:json { value = value }
  end

  mw.post("/call", function(req, res)
    local ask = req:json()
    answer(res, (ask.timeout and mw.redis.with { timeout = ask.timeout } or mw.redis).call, unpack(ask.argv))
  end)
  mw.post("/pipeline", function(req, res) answer(res, mw.redis.pipeline, req:json()) end)
  mw.post("/method", function(req, res)
    local ask = req:json()
    answer(res, function() return mw.redis[ask.name](unpack(ask.args)) end)
  end)

  mw.get("/unmindful", function(_, res)
    mw.redis.rpush("a list", 1)
    res:text(mw.redis.get("a list"))
  end)

  mw.get("/values", function(_, res)
    mw.redis.set("bytes", "a\0\r\n\255")
    mw.redis.call("HSET", "hash", "name", "Ann", "age", 7)
    mw.redis.set("half", 0.5)
    mw.redis.set("large", 2^53)
    res:json {
      bytes = mw.redis.get("bytes") == "a\0\r\n\255", absent = mw.redis.get("absent") == nil, status = mw.redis.set("x", 1),
      hash = mw.redis.hgetall("hash"), flat = mw.redis.call("HGETALL", "hash"), none = mw.redis.hgetall("absent"),
      half = mw.redis.get("half"), large = mw.redis.get("large"), list = mw.redis.lrange("absent", 0, -1),
      holes = mw.redis.mget("x", "absent", "half"), is_null = mw.redis.mget("absent")[1] == mw.null,
      beyond = mw.redis.incrby("large", 1), exact = mw.redis.incr("x"),
    }
  end)

  local add = mw.redis.script [=[ return redis.call("INCRBY", KEYS[1], ARGV[1]) ]=]
  local nested = mw.redis.script "return { 1, { 'two', { redis.error_reply('WRONGTYPE three') } }, false }"
  local broken = mw.redis.script "return redis.call('INCR', KEYS[1], 'too', 'many')"
  mw.get("/script", function(_, res)
    local first = add({ "total" }, { 5 })
    mw.redis.call("SCRIPT", "FLUSH")
    local deep = nested()
    res:json { first = first, again = add({ "total" }, { 2 }), two = deep[2][1], code = deep[2][2][1].code, null = deep[3] == mw.null }
  end)
  mw.get("/broken_script", function(_, res) answer(res, broken, { "k" }) end)

  mw.get("/many", function(_, res)
    local jobs, wrong = {}, 0
    for i = 1, 200 do jobs[i] = function() return mw.redis.echo("reply " .. i) end end
    for i, text in pairs(mw.all(jobs)) do if text ~= "reply " .. i then wrong = wrong + 1 end end
    res:json { wrong = wrong }
  end)

  mw.get("/transfer", function(req, res)
    local tries = 0
    answer(res, mw.redis.transaction, function(tx)
      tries = tries + 1
      local left = tonumber(tx:call("GET", "stock"))
      if tries <= tonumber(req.query.disturb or 0) then mw.redis.incrby("stock", 10) end
      if req.query.fail then error(mw.error("changed_my_mind", "no")) end
      if left == 0 then return end
      tx:queue("DECR", "stock")
      tx:queue("GET", "stock")
      if req.query.wrong then tx:queue("LPUSH", "stock", 1) end
      if req.query.unknown then tx:queue("NOSUCHCOMMAND") end
    end, { watch = { "stock" }, retries = 2 })
  end)
  mw.get("/unwatched", function(_, res)
    answer(res, mw.redis.transaction, function(tx) tx:queue("SET", "u", 1); tx:queue("INCR", "u") end)
  end)
  mw.get("/kept", function(_, res)
    local kept
    mw.redis.transaction(function(tx) kept = tx end)
    answer(res, kept.call, kept, "GET", "a")
  end)
  mw.get("/left", { timeout = "200ms" }, function()
    mw.redis.transaction(function(tx) mw.sleep("60s") end, { watch = { "stock" } })
  end)

  mw.workflow("steps", { { name = "write", run = function() return mw.redis.set("from_step", "yes") end } })
  mw.workflow("body", function(ctx) return mw.redis.get("from_step") end)
  mw.post("/run/:name", function(req, res) res:json { id = mw.trigger(req.params.name).id } end)
]]

describe("mw.redis", function()
  local r, s
  local function case(name, fn)
    it(name, function()
      if not r then return pending("needs redis-server") end
      fn()
    end)
  end

  setup(function()
    if not redis.can_start() then return end
    r = redis.start { password = "s3cret-word" }
    s = server.start { plugins = { ["redis.lua"] = plugin }, config = ('return { redis = "redis://:s3cret-word@%s/2" }'):format(r.address),
      args = { "--workers", "1" } }
  end)
  teardown(function()
    if s then s:stop() end
    if r then r:stop() end
  end)
  before_each(function() if r then r:command("FLUSHALL") end end)

  local function call(...) return s:post("/call", { json = { argv = { ... } } }).json() end

  case("is no client's fault when it refuses", function()
    assert.equal(500, s:get("/unmindful").status)
    r:command("ACL", "SETUSER", "default", "-rpush")
    assert.equal(500, s:get("/unmindful").status)
    r:command("ACL", "SETUSER", "default", "+rpush")
  end)

  case("keeps bytes, numbers, nil and lists what they are", function()
    local v = s:get("/values").json()
    assert.is_true(v.bytes and v.absent and v.is_null)
    assert.equal("OK", v.status)
    assert.same({ name = "Ann", age = "7" }, v.hash)
    assert.same({ "name", "Ann", "age", "7" }, v.flat)
    assert.same({}, v.none)
    assert.equal("0.5", v.half)
    assert.equal("9007199254740992", v.large)
    assert.equal("9007199254740993", v.beyond) -- as text: a number would be another
    assert.equal(2, v.exact)
    assert.matches('"list":%[%]', s:get("/values").body)
    assert.matches('"holes":%["1",null,"0.5"%]', s:get("/values").body)
  end)

  case("uses the database of the URL", function()
    call("SET", "where", "here")
    local client = r:client()
    assert.is_nil(client:call("GET", "where"))
    client:call("SELECT", "2")
    assert.equal("here", client:call("GET", "where"))
    client:close()
  end)

  case("raises what Redis refuses, with a code and Redis' own word", function()
    call("LPUSH", "list", "x")
    local out = call("GET", "list")
    assert.equal("invalid", out.code)
    assert.equal("WRONGTYPE", out.redis)
    assert.is_false(out.retryable)
    assert.matches("^plugins/redis.lua:", out.where)
    assert.equal("redis", call("NOSUCHCOMMAND").code)
  end)

  case("names the argument that cannot be sent", function()
    local function said(name, ...) return s:post("/method", { json = { name = name, args = { ... } } }).json() end
    assert.equal("invalid", said("get", true).code)
    assert.matches("^mw.redis.set: argument 2 is a table; .* mw.json.encode", said("set", "k", { 1 }).message)
    assert.matches("^mw.redis.get: argument 1 is a boolean", said("get", true).message)
    assert.matches("no command", said("Bad-Name", "k").message)
  end)

  local elsewhere = {
    { "MULTI" }, { "watch", "k" }, { "SUBSCRIBE", "c" }, { "SELECT", "1" }, { "AUTH", "x" }, { "CLIENT", "reply", "OFF" }, { "MONITOR" }, { "WAIT", "1", "0" },
  }
  case("refuses commands that would change the shared connection", function()
    for _, argv in ipairs(elsewhere) do
      local out = call(unpack(argv))
      assert.equal("invalid", out.code, argv[1])
      assert.matches("cannot be sent: ", out.message)
    end
  end)

  case("answers a pipeline in order, with an error in the place of the one that failed", function()
    local out = s:post("/pipeline", { json = { { "SET", "a", "x" }, { "INCR", "a" }, { "GET", "a" } } }).json().value
    assert.equal("OK", out[1])
    assert.equal("redis", out[2].code)
    assert.equal("x", out[3])
    assert.same({}, s:post("/pipeline", { body = "[]", headers = { ["Content-Type"] = "application/json" } }).json().value)
    assert.matches("command 2 must be a list", s:post("/pipeline", { json = { { "GET", "a" }, "GET" } }).json().message)
    assert.matches("BLPOP waits", s:post("/pipeline", { json = { { "BLPOP", "a", 1 } } }).json().message)
  end)

  case("matches 200 commands in flight to their replies", function() assert.equal(0, s:get("/many").json().wrong) end)

  case("runs scripts by digest, and sends them again when Redis forgot them", function()
    assert.same({ first = 5, again = 7, two = "two", code = "invalid", null = true }, s:get("/script").json())
    assert.equal("redis", s:get("/broken_script").json().code)
  end)

  case("lets a blocking command wait without holding up others", function()
    local results = s:concurrently {
      function() return s:post("/call", { json = { argv = { "BLPOP", "queue", "5" } } }).json().value[2] end,
      function()
        s:wait(function() return tonumber(r:command("INFO", "clients"):match("blocked_clients:(%d+)")) == 1 end, 5, "the BLPOP")
        call("RPUSH", "queue", "job")
        return "pushed"
      end,
    }
    assert.same({ "job", "pushed" }, results)
    assert.is_nil(call("BLPOP", "queue", "0.05").value)
    assert.is_nil(call("XREAD", "BLOCK", "50", "STREAMS", "stream", "$").value)
  end)

  case("gives up a blocking command for good when its deadline passes", function()
    local out = s:post("/call", { json = { argv = { "BLPOP", "lost", "0.01" }, timeout = "20ms" } }).json()
    assert.is_nil(out.value)
    call("RPUSH", "lost", "kept")
    assert.equal(1, call("LLEN", "lost").value)
  end)

  describe("transactions", function()
    case("apply everything together", function()
      call("SET", "stock", "3")
      assert.same({ 2, "2" }, s:get("/transfer").json().value)
      assert.same({ "OK", 2 }, s:get("/unwatched").json().value)
    end)
    case("are tried again when a watched key was changed", function()
      call("SET", "stock", "3")
      assert.same({ 22, "22" }, s:get("/transfer?disturb=2").json().value)
    end)
    case("raise conflict when that goes on", function()
      call("SET", "stock", "3")
      local out = s:get("/transfer?disturb=9").json()
      assert.equal("conflict", out.code)
      assert.is_true(out.retryable)
      assert.equal("33", call("GET", "stock").value)
    end)
    case("do nothing when the function fails or queues nothing", function()
      call("SET", "stock", "3")
      assert.equal("changed_my_mind", s:get("/transfer?fail=1").json().code)
      assert.equal("3", call("GET", "stock").value)
      call("SET", "stock", "0")
      assert.same({}, s:get("/transfer").json().value)
    end)
    case("give an error in the place of the command that failed, and refuse all when one is unknown", function()
      call("SET", "stock", "3")
      local out = s:get("/transfer?wrong=1").json().value
      assert.equal(2, out[1])
      assert.equal("invalid", out[3].code)
      assert.matches("unknown command", s:get("/transfer?unknown=1").json().message)
      assert.equal("2", call("GET", "stock").value)
    end)
    case("end with their function and with their task", function()
      assert.matches("the transaction is over", s:get("/kept").json().message)
      assert.equal(503, s:get("/left").status)
      s:wait(function() return not r:command("CLIENT", "LIST"):find("cmd=watch", 1, true) end, 5, "the connection to be closed")
    end)
  end)

  case("works in a step, and is refused in the body of a workflow", function()
    local function outcome(name)
      local id = s:post("/run/" .. name).json().id
      return s:wait(function()
        local run = s:get("/api/v1/executions/" .. id).json()
        return (run.status == "completed" or run.status == "failed") and run
      end, 10, name)
    end
    assert.equal("completed", outcome("steps").status)
    assert.equal("yes", call("GET", "from_step").value)
    local body = outcome("body")
    assert.equal("failed", body.status)
    assert.matches("mw.redis.get differs from run to run", body.error.message)
  end)

  case("never shows the password", function()
    call("GET", "x")
    local _, text = s:command("config", "--origin")
    assert.is_nil((s:log() .. text):find("s3cret", 1, true))
  end)
end)

describe("mw.redis without a Redis", function()
  it("says at a call how to configure one, and refuses to run while a plugin loads", function()
    local s = server.start { plugins = { ["a.lua"] = [[
      local mw = require "mw"
      mw.get("/a", function(_, res) local _, err = mw.try(mw.redis.get, "k"); res:json { code = err.code, message = err.message } end)
    ]] } }
    local out = s:get("/a").json()
    assert.equal("config", out.code)
    assert.matches('redis = "redis://127.0.0.1:6379" in moonwatch.lua, or set REDIS_URL', out.message, 1, true)
    s:write("b.lua", [[local mw = require "mw"; mw.redis.get("k")]])
    local code, text = s:command("check", "--plugins", s.plugins)
    assert.not_equal(0, code)
    assert.matches("mw.redis.get cannot run while a plugin loads", text)
    s:stop()
  end)
end)
