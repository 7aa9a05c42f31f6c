-- What was acknowledged survives kill -9, and a finished step never runs again. MW_TEST_KILLS raises the number of kills.

local server = require "support.server"
local upstream = require "support.upstream"

local kills = tonumber(os.getenv("MW_TEST_KILLS") or "6")
local seed = tonumber(os.getenv("MW_TEST_SEED") or tostring(os.time() % 100000))

local plugin = [==[
  local mw = require "mw"
  local url = mw.env.APP_UPSTREAM
  local function call(step)
    return function(ctx)
      local res = mw.fetch(url .. "/" .. step, { method = "POST", json = { run = ctx.input.run } }):ok()
      return { step = step, answer = res:json().n }
    end
  end
  local retry = { retries = 50, backoff = { initial = "50ms", max = "200ms" } }
  local function entry(name)
    return { name = name, run = call(name), retries = 50, backoff = { initial = "50ms", max = "200ms" } }
  end
  mw.workflow("listed", { entry "a", entry "b", entry "c" })
  mw.workflow("written", function(ctx, input)
    local last
    for _, name in ipairs { "a", "b", "c" } do last = ctx:step(name, function(step) return call(name)(step or ctx) end, retry) end
    return last
  end)
]==]

-- A step may be called again only while nothing later was called: a later call proves that its result was durable.
local function check_calls(calls)
  local order, reached, count = { a = 1, b = 2, c = 3 }, {}, {}
  for _, call in ipairs(calls) do
    local run, step = call.json.run, call.path:sub(2)
    assert.is_true((reached[run] or 0) <= order[step], ("run %s: step %s was called after a later step"):format(run, step))
    reached[run] = order[step]
    local key = run .. "/" .. step
    count[key] = (count[key] or 0) + 1
  end
  return count
end

local function databases()
  local list = { { name = "SQLite" } }
  local url = os.getenv("MW_TEST_DATABASE_URL")
  list[#list + 1] = { name = "PostgreSQL", url = url, missing = not url }
  return list
end

for _, database in ipairs(databases()) do
  describe("kill -9 on " .. database.name, function()
    local up
    before_each(function() up = upstream.start { delay = 0.01 } end)
    after_each(function() up:stop() end)

    local function start(opts)
      opts = opts or {}
      opts.plugins = { ["work.lua"] = plugin }
      opts.env = { APP_UPSTREAM = "http://127.0.0.1:" .. up.port }
      opts.database = database.url and server.fresh_database(database.url)
      opts.args = opts.args or { "--workers", "2" }
      return server.start(opts)
    end

    local function trigger(s, run, acknowledged)
      local name = run % 2 == 0 and "listed" or "written"
      local ok, answer = pcall(s.post, s, "/api/trigger", { json = { name = name, input = { run = run } }, timeout = 5 })
      if ok and answer.status == 200 then acknowledged[#acknowledged + 1] = answer.json().executionId end
    end

    local function all_completed(s, ids)
      for _, id in ipairs(ids) do
        local execution = s:get("/api/v1/executions/" .. id).json()
        if execution.status ~= "completed" then return false, id .. " is " .. tostring(execution.status) end
      end
      return true
    end

    it("of supervisor and server loses no acknowledged execution and repeats no finished step", function()
      if database.missing then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
      print("seed " .. seed)
      math.randomseed(seed)
      local s, acknowledged, run = start { supervised = true }, {}, 0
      for _ = 1, kills do
        local until_ = server.now() + 0.2 + math.random() * 0.5
        while server.now() < until_ do
          run = run + 1
          trigger(s, run, acknowledged)
        end
        s:kill_all()
        s:restart()
      end
      assert.is_true(#acknowledged > kills)
      s:wait(function() return all_completed(s, acknowledged) end, 60, "all executions to complete")
      for key, calls in pairs(check_calls(up:calls())) do
        assert.is_true(calls <= 1 + kills, key .. " was called " .. calls .. " times")
      end
      for _, id in ipairs(acknowledged) do
        local execution = s:get("/api/v1/executions/" .. id).json()
        assert.equal(3, #execution.steps)
        for _, step in ipairs(execution.steps) do assert.equal("completed", step.status) end
      end
      s:stop { keep = true }
      if not database.url then assert.equal("ok", server.integrity(s.data .. "/moonwatch.db")) end
      s:clean()
    end)

    it("resumes within a second of the start", function()
      if database.missing then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
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
      if database.missing then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
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
      if database.missing then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
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
      if database.missing then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
      local s, acknowledged = start { supervised = true }, {}
      local port = s.port
      trigger(s, 2, acknowledged)
      s:kill_server(9)
      s:wait(function() return all_completed(s, acknowledged) end, 20, "the execution to complete")
      assert.equal(port, s.port)
      s:stop()
    end)
  end)
end

describe("PostgreSQL that goes away", function()
  it("under load gives clear 503s, and every acknowledged trigger completes when it is back", function()
    local postgres = require "support.postgres"
    if not postgres.can_start() then return pending("needs the PostgreSQL server programs") end
    local up = upstream.start { delay = 0.005 }
    local pg = postgres.start()
    local s = server.start {
      plugins = { ["work.lua"] = plugin }, env = { APP_UPSTREAM = "http://127.0.0.1:" .. up.port }, database = pg.url,
      args = { "--workers", "2" },
    }
    local pid, acknowledged, refused, run = s:server_pid(), {}, 0, 0
    local function trigger_for(seconds)
      local until_ = server.now() + seconds
      while server.now() < until_ do
        run = run + 1
        local answer = s:post("/api/trigger", { json = { name = "listed", input = { run = run } }, timeout = 20 })
        if answer.status == 200 then acknowledged[#acknowledged + 1] = answer.json().executionId
        else
          assert.equal(503, answer.status, answer.body)
          assert.truthy(answer.json().error)
          assert.truthy(answer.headers["retry-after"])
          refused = refused + 1
        end
      end
    end
    trigger_for(1)
    pg:stop_now()
    trigger_for(1.5)
    assert.is_true(refused > 0)
    assert.equal(503, s:get("/readyz").status)
    assert.equal(200, s:get("/livez").status)
    pg:start_again()
    s:wait(function() return s:get("/readyz").status == 200 end, 20, "readiness")
    trigger_for(0.5)
    s:wait(function()
      for _, id in ipairs(acknowledged) do
        local answer = s:get("/api/v1/executions/" .. id)
        if answer.status ~= 200 or answer.json().status ~= "completed" then return false end
      end
      return true
    end, 60, "all executions to complete")
    check_calls(up:calls())
    assert.equal(pid, s:server_pid())
    s:stop()
    pg:stop()
    up:stop()
  end)

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
