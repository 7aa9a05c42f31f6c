-- SPDX-License-Identifier: MIT
-- mw.redis.subscribe and publish in a real server, against a real Redis.

local posix = require "support.posix"
local redis = require "support.redis"
local server = require "support.server"

-- A reader is a task started by /listen; what it got is asked for at /got.
local plugin = [[
  local mw = require "mw"
  local readers = {}

  mw.post("/listen/:id", function(req, res)
    local ask, id = req:json(), req.params.id
    local reader = { messages = {}, gaps = 0 }
    readers[id] = reader
    mw.spawn(function()
      local ok, err = pcall(function()
        reader.feed = mw.redis.subscribe(ask.channels, { patterns = ask.patterns, queue = ask.queue, on_gap = function(dropped)
          reader.gaps = reader.gaps + 1
        end })
        reader.ready = true
        while reader.paused or ask.paused do
          reader.paused, ask.paused = true, nil
          mw.sleep("10ms")
        end
        for message in reader.feed do
          table.insert(reader.messages, message)
          if message.payload == "stop" then break end
        end
      end)
      reader.over = true
      if not ok then reader.error = { code = err.code, message = err.message } end
    end)
    res:json(true)
  end)
  mw.get("/got/:id", function(req, res)
    local reader = readers[req.params.id] or {}
    res:json { messages = mw.array(reader.messages or {}), gaps = reader.gaps, ready = reader.ready, over = reader.over, error = reader.error }
  end)
  mw.post("/close/:id", function(req, res) readers[req.params.id].feed:close(); res:json(true) end)
  mw.post("/go_on/:id", function(req, res) readers[req.params.id].paused = nil; res:json(true) end)
  mw.get("/wait", function(req, res)
    local feed = mw.redis.subscribe("quiet")
    local message, err = mw.try(feed.next, feed, "50ms")
    res:json { code = err and err.code, nothing = message == nil }
  end)
  mw.get("/left", function(req, res) mw.redis.subscribe("left") res:json(true) end)
  mw.post("/bad", function(req, res)
    local ask = req:json()
    local _, err = mw.try(mw.redis.subscribe, ask.channels, ask.opts)
    res:json { code = err.code, message = err.message }
  end)
  mw.get("/stream", function(req, res)
    for message in mw.redis.subscribe "stream" do res:write(message.payload .. "\n") end
  end)
  mw.post("/publish", function(req, res) local ask = req:json() res:json { n = mw.redis.publish(ask[1], ask[2]) } end)
  mw.get("/big_queue", function(req, res)
    local feed = mw.redis.subscribe("big")
    for i = 1, 12 do mw.redis.publish("big", ("x"):rep(1024 * 1024)) end
    mw.redis.publish("big", "last")
    local n, dropped = 0, 0
    repeat
      local message = feed:next("1s")
      n, dropped = n + 1, dropped + message.dropped
    until message.payload == "last"
    res:json { n = n, dropped = dropped }
  end)
]]

describe("mw.redis.subscribe", function()
  local r, s
  local function case(name, fn)
    it(name, function()
      if not r then return pending("needs redis-server") end
      fn()
    end)
  end
  setup(function()
    if not redis.can_start() then return end
    r = redis.start()
    s = server.start { plugins = { ["feed.lua"] = plugin }, config = ('return { redis = { url = "%s", timeout = "2s" } }'):format(r.url),
      args = { "--workers", "1" } }
  end)
  teardown(function()
    if s then s:stop() end
    if r then r:stop() end
  end)

  local count = 0
  local function got(id) return s:get("/got/" .. id).json() end
  local function listen(channels, opts)
    count = count + 1
    local ask = { channels = channels }
    for key, value in pairs(opts or {}) do ask[key] = value end
    s:post("/listen/" .. count, { json = ask })
    local id = count
    s:wait(function() local g = got(id) return g.ready or g.error end, 5, "the subscription")
    return id
  end
  local function wait_messages(id, n)
    return s:wait(function() local g = got(id) return #g.messages >= n and g.messages end, 5, n .. " messages")
  end
  local function subscribers(channel) return r:command("PUBSUB", "NUMSUB", channel)[2] end

  case("brings what is published from its return on, in order", function()
    local id = listen { "a", "b", "a" }
    for i = 1, 50 do r:command("PUBLISH", i % 2 == 0 and "a" or "b", "m" .. i) end
    local messages = wait_messages(id, 50)
    for i = 1, 50 do
      assert.same({ channel = i % 2 == 0 and "a" or "b", payload = "m" .. i, dropped = 0, gap = false }, messages[i])
    end
  end)

  case("takes patterns", function()
    local id = listen("jobs.*", { patterns = true })
    r:command("PUBLISH", "jobs.mail", "x")
    assert.same({ { channel = "jobs.mail", pattern = "jobs.*", payload = "x", dropped = 0, gap = false } }, wait_messages(id, 1))
  end)

  case("publishes, and says to how many", function()
    local id = listen "counted"
    assert.equal(1, s:post("/publish", { json = { "counted", "x" } }).json().n)
    wait_messages(id, 1)
  end)

  case("subscribes once for many, and lets go with the last", function()
    local one, two = listen "shared", listen "shared"
    assert.equal(1, subscribers "shared")
    r:command("PUBLISH", "shared", "x")
    wait_messages(one, 1)
    wait_messages(two, 1)
    s:post("/close/" .. one)
    s:wait(function() return got(one).over end, 5, "the loop to end")
    r:command("PUBLISH", "shared", "y")
    wait_messages(two, 2)
    assert.equal(1, #got(one).messages)
    s:post("/close/" .. two)
    s:wait(function() return subscribers "shared" == 0 end, 5, "UNSUBSCRIBE")
    local three = listen "shared"
    r:command("PUBLISH", "shared", "z")
    wait_messages(three, 1)
  end)

  case("drops the oldest for a slow reader, and tells it how many", function()
    local id = listen("slow", { queue = 10, paused = true })
    for i = 1, 25 do r:command("PUBLISH", "slow", "m" .. i) end
    s:post("/publish", { json = { "slow", "m26" } })
    s:post("/go_on/" .. id)
    local messages = wait_messages(id, 10)
    assert.same({ payload = "m17", channel = "slow", dropped = 16, gap = false }, messages[1])
    assert.equal("m26", messages[10].payload)
    assert.equal(0, messages[10].dropped)
  end)

  case("bounds the bytes that wait", function()
    local out = s:get("/big_queue").json()
    assert.equal(13, out.n + out.dropped)
    assert.is_true(out.dropped >= 4)
  end)

  case("waits for one message at most as long as it is told", function() assert.same({ code = "timeout", nothing = true }, s:get("/wait").json()) end)

  case("ends with the task that subscribed", function()
    s:get("/left")
    s:wait(function() return subscribers "left" == 0 end, 5, "UNSUBSCRIBE")
  end)

  case("streams to a client until that goes away", function()
    local client = assert(posix.connect("127.0.0.1", s.port))
    posix.write(client, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    s:wait(function() return subscribers "stream" == 1 end, 5, "SUBSCRIBE")
    r:command("PUBLISH", "stream", "to the browser")
    local text = ""
    s:wait(function()
      text = text .. (posix.read(client, posix.now() + 0.1) or "")
      return text:find("to the browser", 1, true)
    end, 5, "the message")
    posix.close(client)
    s:wait(function()
      r:command("PUBLISH", "stream", "anyone?")
      return subscribers "stream" == 0
    end, 10, "the end of the task")
  end)

  case("subscribes again after a lost connection, and tells of the gap", function()
    local id = listen { "gap", "gap2" }
    r:command("PUBLISH", "gap", "before")
    wait_messages(id, 1)
    r:command("CLIENT", "KILL", "TYPE", "pubsub")
    s:wait(function() return got(id).gaps == 1 end, 10, "on_gap")
    r:command("PUBLISH", "gap2", "after")
    assert.same({ channel = "gap2", payload = "after", dropped = 0, gap = true }, wait_messages(id, 2)[2])
    r:command("PUBLISH", "gap", "more")
    assert.is_false(wait_messages(id, 3)[3].gap)
  end)

  case("does so after Redis was killed", function()
    local id = listen "killed"
    r:kill()
    r:start_again()
    s:wait(function() return got(id).gaps == 1 end, 10, "on_gap")
    r:command("PUBLISH", "killed", "back")
    assert.equal("back", wait_messages(id, 1)[1].payload)
  end)

  case("says what is wrong with a call", function()
    local function said(channels, opts) return s:post("/bad", { json = { channels = channels, opts = opts } }).json() end
    assert.matches("queue must be from 1 to 100000", said("a", { queue = 0 }).message)
    assert.matches("unknown option .*did you mean \"patterns\"", said("a", { pattern = true }).message)
    assert.matches("1 to 1000 channels", said({}).message)
    assert.matches("channel 1 is a number", said({ 1 }).message)
  end)

  case("raises when Redis does not allow the channel", function()
    r:command("ACL", "SETUSER", "default", "resetchannels", "&open*")
    r:command("CLIENT", "KILL", "TYPE", "pubsub")
    local out = s:wait(function()
      local answer = s:post("/bad", { json = { channels = "closed" } }).json()
      return answer.code ~= "unavailable" and answer
    end, 5, "the refusal")
    assert.equal("denied", out.code)
    r:command("ACL", "SETUSER", "default", "allchannels")
  end)

  case("ends at a reload, so that nothing comes twice", function()
    local id = listen "reloaded"
    local generation = s:generation()
    s:write("other.lua", "local mw = require 'mw'")
    s:wait_generation(generation + 1)
    s:wait(function() return subscribers "reloaded" == 0 end, 5, "UNSUBSCRIBE")
    assert.is_nil(got(id).ready) -- the new generation knows nothing of it
  end)

  case("does not hold up the end of a server, nor raises when Redis is away", function()
    listen "drained"
    r:kill()
    s:wait(function() return s:post("/bad", { json = { channels = "away" } }).json().code == "unavailable" end, 10, "failing fast")
    local from = server.now()
    s:stop()
    s = nil
    assert.is_true(server.now() - from < 5)
  end)
end)
