-- SPDX-License-Identifier: MIT
-- What was acknowledged survives kill -9, and a finished step never runs again. MW_TEST_KILLS raises the number of kills; MW_TEST_SEED
-- repeats a run (the seed is printed).

local durable = require "support.durable"
local engines = require "support.engines"
local posix = require "support.posix"
local server = require "support.server"
local upstream = require "support.upstream"

local kills = tonumber(os.getenv("MW_TEST_KILLS") or "6")
local seed = tonumber(os.getenv("MW_TEST_SEED") or tostring(os.time() % 100000))
print(("%d kills, MW_TEST_SEED=%d"):format(kills, seed))

local plugin, check_calls = durable.plugin, durable.check_calls

engines.describe("kill -9 on ", function(engine)
  local up
  before_each(function() up = upstream.start { delay = 0.01 } end)
  after_each(function() up:stop() end)

  local function start(opts)
    opts = opts or {}
    opts.plugins = { ["work.lua"] = plugin }
    opts.env = opts.env or {}
    opts.env.APP_UPSTREAM = "http://127.0.0.1:" .. up.port
    opts.database = engine.fresh()
    opts.args = opts.args or { "--workers", "2" }
    return server.start(opts)
  end

  local function trigger(s, run, acknowledged, headers)
    local name = run % 2 == 0 and "listed" or "written"
    local body = { name = name, input = { run = run } }
    local ok, answer = pcall(s.post, s, "/api/trigger", { json = body, headers = headers, timeout = 5 })
    if ok and answer.status == 200 then acknowledged[#acknowledged + 1] = answer.json().executionId end
  end

  local function all_completed(s, ids)
    for _, id in ipairs(ids) do
      local execution = s:get("/api/v1/executions/" .. id).json()
      if execution.status ~= "completed" then return false, id .. " is " .. tostring(execution.status) end
    end
    return true
  end

  -- Triggers until `seconds` are over.
  local function trigger_for(seconds, s, first_run, acknowledged)
    local until_, run = server.now() + seconds, first_run
    while server.now() < until_ do
      run = run + 1
      trigger(s, run, acknowledged)
    end
    return run
  end

  local function check_steps(s, ids)
    for _, id in ipairs(ids) do
      local execution = s:get("/api/v1/executions/" .. id).json()
      assert.equal(3, #execution.steps)
      for _, step in ipairs(execution.steps) do assert.equal("completed", step.status) end
    end
  end

  local function stop_and_check(s)
    s:stop { keep = true }
    if not engine.url then assert.equal("ok", server.integrity(s.data .. "/moonwatch.db")) end
    s:clean()
  end

  it("of supervisor and server loses no acknowledged execution and repeats no finished step", function()
    math.randomseed(seed)
    local s, acknowledged, marks, run = start { supervised = true }, {}, {}, 0
    for _ = 1, kills do
      run = trigger_for(0.2 + math.random() * 0.5, s, run, acknowledged)
      s:kill_all()
      up:settle()
      marks[#marks + 1] = #up:calls()
      s:restart()
    end
    assert.is_true(#acknowledged > kills)
    s:wait(function() return all_completed(s, acknowledged) end, 60, "all executions to complete")
    check_calls(up:calls(), marks)
    check_steps(s, acknowledged)
    stop_and_check(s)
  end)

  it("of the one or the other at random moments loses none either", function()
    math.randomseed(seed + 1)
    local s, acknowledged, run = start { supervised = true }, {}, 0
    for _ = 1, kills do
      run = trigger_for(0.1 + math.random() * 0.3, s, run, acknowledged)
      if math.random() < 0.5 then s:kill_server(9)
      else
        local child = s:server_pid()
        s:kill(9)
        if math.random() < 0.5 then s:wait(function() return not server.is_alive(child) end, 30, "the server to exit") end
        s:restart()
      end
    end
    s:wait(function()
      local ok, done, why = pcall(all_completed, s, acknowledged)
      return ok and done, ok and why or done
    end, 60, "all executions to complete")
    for key, count in pairs(check_calls(up:calls())) do
      assert.is_true(count <= 1 + kills, key .. " was called " .. count .. " times")
    end
    check_steps(s, acknowledged)
    stop_and_check(s)
  end)

  it("does not make a second execution of a trigger that is sent again with its Idempotency-Key", function()
    local s = start { supervised = true }
    local function ask(run) -- from several clients at once, until each has an answer
      local function one()
        local ids = {}
        s:wait(function()
          trigger(s, run, ids, { ["idempotency-key"] = "key-" .. run })
          return ids[1]
        end, 20, "an answer")
        return ids[1]
      end
      return s:concurrently { one, one, one, one }
    end
    local function check_same(ids, id)
      for _, other in ipairs(ids) do assert.equal(id or ids[1], other) end
      return ids[1]
    end
    local id = check_same(ask(1))
    s:kill_all()
    s:restart()
    check_same(ask(1), id)
    s:kill_server(9)
    local second = check_same(ask(2)) -- while there is no server for a moment
    assert.not_equal(id, second)
    s:wait(function() return all_completed(s, { id, second }) end, 20, "both executions to complete")
    assert.equal(2, s:get("/api/v1/executions").json().total)
    local other = s:post("/api/trigger", { json = { name = "written", input = { run = 3 } }, headers = { ["idempotency-key"] = "key-1" } })
    assert.equal(422, other.status, other.body)
    for _, count in pairs(check_calls(up:calls())) do assert.is_true(count <= 3) end -- once, and once more a kill
    s:stop()
  end)

  it("repeats no step whose result waited while the body computed", function()
    local s, acknowledged = start { env = { MOONWATCH_LUA_SOFT_LIMIT = "60s", MOONWATCH_LUA_HARD_LIMIT = "90s" } }, {}
    acknowledged[1] = s:post("/api/trigger", { json = { name = "thinking", input = { run = 1 } } }).json().executionId
    s:wait(function() return #up:calls() >= 1 end, 10, "the first step to begin")
    s:pause(0.3)
    s:kill_all()
    s:restart()
    s:wait(function() return #up:calls() >= 2 end, 60, "the body to go on")
    s:wait(function() return all_completed(s, acknowledged) end, 10, "the execution to complete")
    assert.same({ ["1/a"] = 1, ["1/b"] = 1 }, check_calls(up:calls(), {}))
    s:stop()
  end)

  it("is nothing that a reload or a drain does: executions under way change hands, and each step is called once", function()
    up:set_delay(0.05)
    local s, acknowledged, run = start(), {}, 0
    for round = 1, 4 do
      run = trigger_for(0.3, s, run, acknowledged)
      if round == 4 then
        s:stop { keep = true }
        s:restart()
      else
        local generation = s:generation()
        s:write("work.lua", plugin .. "\n-- " .. round)
        s:wait(function() return s:generation() > generation end, 10, "the next generation")
      end
    end
    s:wait(function() return all_completed(s, acknowledged) end, 20, "all executions to complete")
    for key, count in pairs(check_calls(up:calls(), {})) do assert.equal(1, count, key) end
    check_steps(s, acknowledged)
    s:stop()
  end)

  it("leaves no descriptors behind in the supervisor or the next server", function()
    local s, acknowledged = start { supervised = true }, {}
    trigger(s, 1, acknowledged)
    s:wait(function() return all_completed(s, acknowledged) end, 10, "the execution to complete")
    local function open(pid) return #posix.descriptors(pid) end
    local in_supervisor, in_server = open(s.pid), open(s:server_pid())
    for _, target in ipairs(posix.descriptors(s:server_pid())) do
      assert.is_nil(target:find("memfd:", 1, true))
      assert.is_nil(target:find("signalfd", 1, true))
    end
    for _ = 1, 2 do
      local child = s:server_pid()
      s:kill_server(9)
      s:wait(function() return not server.is_alive(child) and #posix.children(s.pid) > 0 end, 10, "another server")
      s:wait(function() return s:get("/readyz", { timeout = 20 }).status == 200 end, 10, "readiness")
    end
    trigger(s, 2, acknowledged)
    s:wait(function() return all_completed(s, acknowledged) end, 10, "the execution to complete")
    assert.equal(in_supervisor, open(s.pid))
    assert.is_true(math.abs(open(s:server_pid()) - in_server) <= 4, "connections to clients, the upstream and the database come and go")
    s:stop()
  end)

  it("resumes within a second of the start", function()
    up:set_delay(0.4)
    local s, acknowledged = start(), {}
    for run = 1, 8 do trigger(s, run, acknowledged) end
    s:kill_all()
    up:set_delay(0)
    s:restart()
    s:wait(function() return all_completed(s, acknowledged) end, 2, "all executions to complete")
    s:stop()
  end)

  it("finishes an execution on the code it began with", function()
    up:set_delay(0.4)
    local s, acknowledged = start(), {}
    trigger(s, 2, acknowledged)
    s:wait(function() return #up:calls() >= 1 end, 5, "the first step to begin")
    s:kill_all()
    up:set_delay(0)
    s:write("work.lua", (plugin:gsub('entry "c"', 'entry "d"'):gsub('"a", "b", "c"', '"a", "b", "d"')))
    s:restart()
    s:wait(function() return all_completed(s, acknowledged) end, 10, "the execution to complete")
    local steps = s:get("/api/v1/executions/" .. acknowledged[1]).json().steps
    assert.same({ "a", "b", "c" }, { steps[1].name, steps[2].name, steps[3].name })
    s:stop()
  end)

  it("of the supervisor alone makes the server drain and exit, and the next start succeeds", function()
    local s, acknowledged = start { supervised = true }, {}
    local child = s:server_pid()
    trigger(s, 2, acknowledged)
    s:kill(9)
    s:wait(function() return not server.is_alive(child) end, 30, "the server to exit")
    s:restart()
    s:wait(function() return all_completed(s, acknowledged) end, 10, "the execution to complete")
    s:stop()
  end)

  it("of the server alone is mended by the supervisor on the same sockets", function()
    local s, acknowledged = start { supervised = true }, {}
    local port = s.port
    trigger(s, 2, acknowledged)
    s:kill_server(9)
    s:wait(function() return all_completed(s, acknowledged) end, 20, "the execution to complete")
    assert.equal(port, s.port)
    s:stop()
  end)
end)

describe("PostgreSQL that is away", function()
  it("before the start lets the server start, and it recovers by itself", function()
    local postgres = require "support.postgres"
    if not postgres.can_start() then return pending("needs the PostgreSQL server programs") end
    local pg = postgres.start()
    pg:stop_now()
    local s = server.start {
      plugins = { ["p.lua"] = [[
        local mw = require "mw"
        mw.get("/plain", function(_, res) res:json { ok = true } end)
        mw.get("/sql", function(_, res) res:json(mw.one("SELECT 1 AS one")) end)
        mw.workflow("w", { { name = "a", run = function() return 1 end } })
      ]] }, database = pg.url, wait_ready = false,
    }
    s:wait(function() return s:get("/livez").status == 200 end, 10, "the server")
    assert.equal(200, s:get("/plain").status)
    assert.equal(503, s:get("/sql").status)
    assert.equal(503, s:post("/api/trigger", { json = { name = "w" } }).status)
    pg:start_again()
    s:wait(function() return s:get("/readyz").status == 200 end, 20, "readiness")
    assert.equal(200, s:get("/sql").status)
    assert.equal(200, s:post("/api/trigger", { json = { name = "w" } }).status)
    s:stop()
    pg:stop()
  end)
end)

describe("a data folder that is moved away", function()
  it("stops acknowledging at once, and the executions go on when it is back", function()
    local s = server.start { args = { "--workers", "1" }, plugins = { ["p.lua"] = [[
      local mw = require "mw"
      local has_begun, may_end = false, false
      mw.workflow("w", { { name = "a", run = function()
        has_begun = true
        while not may_end do mw.sleep("10ms") end
        return 1
      end }, { name = "b", run = function() return 2 end } })
      mw.get("/begun", function(_, res) res:json(has_begun) end)
      mw.post("/end", function(_, res) may_end = true res:json(true) end)
    ]] } }
    local id = s:post("/api/trigger", { json = { name = "w" } }).json().executionId
    s:wait(function() return s:get("/begun").json() end, 10, "the first step to begin")
    assert(os.rename(s.data, s.data .. ".away"))
    local answer = s:post("/api/trigger", { json = { name = "w" } })
    assert.equal(503, answer.status, answer.body)
    assert.matches("moved or deleted", answer.json().error, 1, true)
    s:post("/end", { json = {} })
    s:wait_log("waits for the database", 10)
    assert(os.rename(s.data .. ".away", s.data))
    s:wait(function() return s:get("/api/v1/executions/" .. id).json().status == "completed" end, 10, "the execution to complete")
    assert.equal(1, s:get("/api/v1/executions").json().total)
    s:stop()
  end)
end)
