-- SPDX-License-Identifier: MIT
-- What a server does when the world under it fails: fault points (core/base/fault.h) armed in its environment. Each is a bad moment that
-- passes, so that a spec sees the error, and then that nothing was lost and everything goes on.

local durable = require "support.durable"
local engines = require "support.engines"
local http = require "support.http"
local posix = require "support.posix"
local server = require "support.server"
local upstream = require "support.upstream"

local ffi = require("support.cdef")("base/err.h", "base/fault.h")
if not pcall(function() return ffi.C.mw_fault_name end) then
  it("faults are checked in builds that have fault points", function() pending("a release build has none") end)
  return
end

local hello = { ["p.lua"] = [[
  local mw = require "mw"
  mw.get("/plain", function(_, res) res:json { ok = true } end)
  mw.workflow("w", { { name = "a", run = function() return 1 end } })
]] }

-- The points that MW_FAULTS names.
local function names_of(faults)
  local names = {}
  for one in faults:gmatch("[^;]+") do names[#names + 1] = one:match("^[%w_]+") end
  return names
end

-- Stops a server in which those points must have acted.
local function stop(s, ...)
  if not s then return end
  local log = s:log()
  s:stop()
  for _, name in ipairs { ... } do assert.matches('a fault point acts","point":"' .. name .. '"', log, 1, true) end
end

-- The exit code and what was printed by a server that does not come up.
local function start_fails(faults, args)
  local dir = posix.temp_dir()
  posix.make_dirs(dir .. "/plugins")
  local argv = { "serve", "--no-supervisor", "--listen", "127.0.0.1:0", "--data", dir .. "/data", "--plugins", dir .. "/plugins" }
  for _, arg in ipairs(args or {}) do argv[#argv + 1] = arg end
  local code, text = server.command(argv, { env = { MW_FAULTS = faults } })
  posix.remove_dir(dir)
  return code, text
end

describe("MW_FAULTS", function()
  it("is printed with its seed, so that a run can be repeated", function()
    local s = server.start { plugins = hello, env = { MW_FAULTS = "pg_send=p0.5", MW_FAULT_SEED = "17" } }
    assert.matches('"MW_FAULTS":"pg_send=p0.5","MW_FAULT_SEED":17', s:log(), 1, true)
    s:stop()
  end)

  it("is refused with a sentence when it is nonsense", function()
    local code, text = start_fails "pg_sned"
    assert.equal(2, code)
    assert.matches('MW_FAULTS: there is no fault point "pg_sned"', text, 1, true)
  end)
end)

describe("SQLite on a bad disk", function()
  local up, s, armed = nil, nil, {}
  before_each(function() up = upstream.start() end)
  after_each(function()
    stop(s, unpack(armed))
    s, armed = nil, {}
    up:stop()
  end)

  local function start(faults)
    armed = names_of(faults)
    s = server.start { plugins = { ["work.lua"] = durable.plugin }, env = durable.env(up, { MW_FAULTS = faults }), args = { "--workers", "2" } }
    return durable.load(s, { on_refused = function(answer)
      assert.equal(503, answer.status, answer.body)
      assert.truthy(answer.headers["retry-after"])
    end })
  end

  -- Triggers until the fault has been met and is over.
  local function ride_out(load)
    s:wait(function()
      load:trigger()
      return load.refused > 0 and load:trigger().status == 200
    end, 20, "the fault to come and go")
    load:wait_completed(30)
    for key, count in pairs(durable.check_calls(up:calls(), {})) do assert.equal(1, count, key) end
    assert.equal(200, s:get("/readyz").status)
  end

  for _, case in ipairs {
    { "a commit that fails", "sqlite_commit=after=40,times=3", "I/O error" },
    { "a disk that is full", "sqlite_write=error:ENOSPC,after=600,times=3", "the disk is full: nothing was written to " },
    { "a write that fails", "sqlite_write=error:EIO,after=600,times=3", "I/O error" },
    { "an fsync that fails", "sqlite_sync=after=40,times=3", "I/O error" },
  } do
    it("answers " .. case[1] .. " with 503 and the reason, keeps what was acknowledged and goes on", function()
      local load = start(case[2])
      local first
      local check = load.on_refused
      load.on_refused = function(answer)
        check(answer)
        first = first or answer.json().error
      end
      ride_out(load)
      assert.matches(case[3], first, 1, true)
    end)
  end

  it("survives pages that cannot be read", function()
    local load = start "sqlite_read=p0.2,after=60,times=20"
    load.on_refused = nil
    s:wait(function()
      load:trigger()
      pcall(s.get, s, "/api/v1/executions?limit=" .. load.run)
      return s:log():find("a fault point acts", 1, true)
    end, 15, "a page that is read from the disk")
    load:trigger_times(10)
    s:wait(function() return s:get("/api/v1/executions").status == 200 end, 10, "a list")
    load:wait_completed(30)
    assert.equal("ok", server.integrity(s.data .. "/moonwatch.db"))
  end)

  it("goes on when the log cannot be copied back, says so, and copies it later", function()
    s = server.start { plugins = hello, env = { MW_FAULTS = "sqlite_checkpoint=times=1" } }
    armed = { "sqlite_checkpoint" }
    local large = { name = "w", input = { text = ("x"):rep(900 * 1024) } }
    local function log_bytes() return tonumber((io.popen("stat -c %s " .. s.data .. "/moonwatch.db"):read "*l")) end
    local before = log_bytes()
    for _ = 1, 24 do assert.equal(200, s:post("/api/trigger", { json = large }).status) end
    s:wait_log("a checkpoint failed; the log grows until one succeeds", 5)
    s:wait(function()
      s:post("/api/trigger", { json = large })
      return log_bytes() > before + 16 * 1024 * 1024
    end, 20, "the log to be copied into the database")
  end)

  it("does not start when the database cannot be opened", function()
    local code, text = start_fails "sqlite_open"
    assert.equal(1, code)
    assert.matches("open .*moonwatch.db", text)
    assert.matches("Permission denied", text, 1, true)
  end)

  it("does not start when its data directory cannot be written", function()
    for fault, words in pairs { file_open = "Permission denied", file_write = "No space left on device", file_sync = "Input/output error" } do
      local code, text = start_fails(fault)
      assert.equal(1, code)
      assert.matches("cannot write .*node.id: " .. words, text)
    end
  end)
end)

engines.describe_postgres("PostgreSQL on a bad network", function(engine)
  local up, s, armed = nil, nil, {}
  before_each(function() up = upstream.start() end)
  after_each(function()
    stop(s, unpack(armed))
    s, armed = nil, {}
    up:stop()
  end)

  local function start(faults, plugins)
    armed = names_of(faults)
    s = server.start { plugins = plugins or { ["work.lua"] = durable.plugin }, env = durable.env(up, { MW_FAULTS = faults }),
      args = { "--workers", "2" }, database = engine.fresh() }
    return durable.load(s)
  end
  it("starts once the database can be reached", function()
    local load = start "pg_connect=times=6"
    s:wait(function() -- a further connection may still be refused
      local answer = load:trigger()
      return answer and answer.status == 200
    end, 10, "a trigger to be taken")
    load:wait_completed(10)
  end)

  -- Load for a while, and on a busy machine until the fault has acted.
  local function trigger_into_fault(load)
    load:trigger_for(0.7)
    s:wait(function()
      local acted = s:log():find("a fault point acts", 1, true)
      if not acted then load:trigger_for(0.2) end
      return acted
    end, 30, "the fault")
  end

  for _, fault in ipairs { "pg_send=p0.03,after=100,times=20", "pg_receive=p0.03,after=100,times=20" } do
    it("loses no acknowledged execution and repeats no step with " .. fault, function()
      local load = start(fault)
      load.on_refused = function(answer) assert.equal(503, answer.status, answer.body) end
      trigger_into_fault(load)
      load:wait_completed(30)
      for key, count in pairs(durable.check_calls(up:calls(), {})) do assert.equal(1, count, key) end
    end)
  end

  it("repeats no step when commits happen whose answers are lost", function()
    local load = start "pg_commit=p0.1,after=60,times=15"
    load.on_refused = function(answer) assert.equal(503, answer.status, answer.body) end
    trigger_into_fault(load)
    load:wait_completed(30)
    for key, count in pairs(durable.check_calls(up:calls(), {})) do assert.equal(1, count, key) end
  end)

  it("makes one execution of a trigger that is sent again because its commit had no answer", function()
    start "pg_commit=after=3,times=1"
    local asked, answer = 0, nil
    local body = { name = "listed", input = { run = 1 } }
    for run = 1, 20 do -- the fault hits one of these, at its creation or later
      body.input.run = run
      repeat
        asked = asked + 1
        answer = s:post("/api/trigger", { json = body, headers = { ["idempotency-key"] = "key-" .. run } })
      until answer.status == 200
    end
    s:wait(function() return s:get("/api/v1/executions?status=completed").json().total == 20 end, 10, "all to complete")
    assert.equal(20, s:get("/api/v1/executions").json().total)
    for key, count in pairs(durable.check_calls(up:calls(), {})) do assert.equal(1, count, key) end
  end)

  it("runs what was claimed by a statement whose answer was lost", function()
    start("pg_claim=after=1,times=2", { ["p.lua"] = [[
      local mw = require "mw"
      mw.workflow("later", { { name = "a", retries = 1, backoff = "2100ms", run = function(ctx)
        if ctx.attempt == 1 then error("not yet") end
        return ctx.attempt
      end } })
    ]] })
    for run = 1, 4 do
      s:wait(function() -- a worker whose claim broke the connection refuses meanwhile
        return s:post("/api/trigger", { json = { name = "later" }, headers = { ["idempotency-key"] = "key-" .. run } }).status == 200
      end, 10, "a trigger to be taken")
    end
    s:wait(function()
      local list = s:get("/api/v1/executions?status=completed").json()
      return list.total == 4, s:get("/api/v1/executions").body
    end, 20, "all to complete")
    assert.truthy(s:log():find("a fault point acts", 1, true))
  end)

  it("fails a transaction that loses its connection, and nothing of it is there", function()
    start("pg_tx=after=2,times=1", { ["p.lua"] = [[
      local mw = require "mw"
      mw.post("/make", function(_, res) mw.query("CREATE TABLE t (n int)") res:json {} end)
      mw.post("/add", function(_, res)
        local ok, err = mw.try(mw.transaction, function(tx)
          for n = 1, 3 do tx:query("INSERT INTO t VALUES ($1)", { n }) end
        end)
        res:json { failed = not ok and err or nil, code = err and err.code, count = tonumber(mw.one("SELECT count(*) AS n FROM t").n) }
      end)
    ]] })
    s:post "/make"
    local first = s:post("/add").json()
    assert.equal("unavailable", first.code)
    assert.equal(0, first.count)
    assert.equal(3, s:post("/add").json().count)
  end)
end)

describe("a loop whose system calls fail", function()
  local s, armed = nil, {}
  after_each(function()
    stop(s, unpack(armed))
    s, armed = nil, {}
  end)

  it("accepts connections again when descriptors are free again", function()
    s = server.start { plugins = hello, env = { MW_FAULTS = "listener_accept=after=5,times=3" } }
    armed = { "listener_accept" }
    for _ = 1, 12 do assert.equal(200, s:get("/plain").status) end
    assert.matches("cannot accept connections; trying again", s:log(), 1, true)
  end)

  it("loses the one connection that breaks while it is read or written", function()
    s = server.start { plugins = hello, env = { MW_FAULTS = "stream_read=p0.2,after=20;stream_write=p0.2,after=20" } }
    armed = { "stream_read", "stream_write" }
    local answered, broken = 0, 0
    for _ = 1, 150 do
      local answer = http.try_request("127.0.0.1", s.port, "GET", "/plain")
      if answer then
        assert.equal(200, answer.status)
        answered = answered + 1
      else
        broken = broken + 1
      end
    end
    assert.is_true(answered > 50 and broken > 20, answered .. " answered, " .. broken .. " broken")
  end)

  it("compares files when folders cannot be watched, and reloads all the same", function()
    s = server.start { plugins = hello, env = { MW_FAULTS = "file_watch" } }
    assert.matches("not every folder can be watched", s:log(), 1, true)
    local generation = s:generation()
    s:write("p.lua", hello["p.lua"] .. "-- changed")
    s:wait_generation(generation + 1, 10)
  end)
end)

describe("mw.fetch on a bad network", function()
  local s, up, armed = nil, nil, {}
  before_each(function() up = upstream.start() end)
  after_each(function()
    stop(s, unpack(armed))
    s, armed = nil, {}
    up:stop()
  end)

  -- The error codes of five calls in a row, "ok" for an answer.
  local function five(faults, method, url)
    armed = names_of(faults)
    s = server.start { env = durable.env(up, { MW_FAULTS = faults, APP_METHOD = method or "GET", APP_URL = url or up.url }), plugins = { ["p.lua"] = [[
      local mw = require "mw"
      mw.get("/five", function(_, res)
        local codes = {}
        for i = 1, 5 do
          local ok, err = mw.try(mw.fetch, mw.env.APP_URL .. "/x", { method = mw.env.APP_METHOD, timeout = "5s" })
          codes[i] = ok and "ok" or err.code
        end
        res:json(codes)
      end)
    ]] } }
    return s:get("/five").json()
  end

  it("raises what the connection met, once, and works again", function()
    for fault, code in pairs {
      http_client_connect = "ECONNREFUSED", stream_connect = "ECONNREFUSED", http_client_write = "EPIPE", http_client_read = "ECONNRESET",
      http_client_timeout = "timeout",
    } do
      assert.same({ code, "ok", "ok", "ok", "ok" }, five(fault .. "=times=1"), fault)
      s:stop()
      s = nil
    end
  end)

  it("sends a GET again when a kept connection was dead, but never a POST", function()
    assert.same({ "ok", "ok", "ok", "ok", "ok" }, five "http_client_reuse=times=2")
    s:stop()
    assert.same({ "ok", "ECONNRESET", "ok", "ECONNRESET", "ok" }, five("http_client_reuse=times=2", "POST"))
  end)

  it("says that a name has no address", function()
    assert.same({ "dns", "dns", "dns", "dns", "dns" }, five("dns_lookup", "GET", "http://nowhere.invalid"))
  end)

  it("raises busy while too many names are looked up", function()
    s = server.start { env = { MW_FAULTS = "dns_lookup;work_submit=after=20,times=5" }, plugins = { ["p.lua"] = [[
      local mw = require "mw"
      mw.get("/names", function(_, res)
        local codes = {}
        for i = 1, 40 do
          local _, err = mw.try(mw.fetch, "http://host" .. i .. ".invalid/")
          codes[err.code] = (codes[err.code] or 0) + 1
        end
        res:json(codes)
      end)
    ]] } }
    assert.same({ dns = 35, busy = 5 }, s:get("/names").json())
  end)

  it("is not reached by a server that cannot start the thread which loads plugins", function()
    local code, text = start_fails "work_submit"
    assert.equal(1, code)
    assert.matches("plugins cannot be loaded", text, 1, true)
  end)
end)
