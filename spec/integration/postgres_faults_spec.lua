-- SPDX-License-Identifier: MIT
-- PostgreSQL on its bad days, under a load of triggers and executions: connections cut, answers that never come, a server that is gone for a
-- while. Whatever it does: the server stays up, acknowledges nothing that it has not stored, repeats no finished step (there is no kill
-- here, so none at all), refuses with 503 or 429 and Retry-After meanwhile, and is done soon after.
--
-- MW_TEST_PG_DOWN: seconds for which PostgreSQL is stopped (2). MW_TEST_PG_SILENT: seconds of silence on open connections (15: it is found out).

local durable = require "support.durable"
local posix = require "support.posix"
local postgres = require "support.postgres"
local proxy = require "support.proxy"
local server = require "support.server"
local upstream = require "support.upstream"

local url = os.getenv("MW_TEST_DATABASE_URL")
if url == "" then url = nil end
local down = tonumber(os.getenv("MW_TEST_PG_DOWN") or "2")
local silent = tonumber(os.getenv("MW_TEST_PG_SILENT") or "15")
local slowness = (os.getenv("MW_TEST_SLOW") or "") ~= "" and 6 or 1
local seed = tonumber(os.getenv("MW_TEST_SEED") or tostring(os.time() % 100000))
print("MW_TEST_SEED=" .. seed)

local function check_refusal(answer)
  assert.truthy(answer, "a connection to the server broke")
  assert.is_true(answer.status == 503 or answer.status == 429, answer.status .. " " .. answer.body)
  assert.truthy(answer.headers["retry-after"])
  assert.truthy(answer.json().error)
end

describe("PostgreSQL that misbehaves", function()
  local up, p, s, pid, load

  before_each(function()
    if not url then return end
    up = upstream.start { delay = 0.01 }
    local database = server.fresh_database(url)
    p = proxy.start(tonumber(database:match("@[^/:]+:(%d+)")), seed)
    s = server.start { plugins = { ["work.lua"] = durable.plugin }, env = durable.env(up), database = p:url(database), args = { "--workers", "2" } }
    s.direct = database
    pid, load = s:server_pid(), durable.load(s, { on_refused = check_refusal })
  end)
  after_each(function()
    if not url then return end
    s:stop()
    p:stop()
    up:stop()
  end)

  local function case(name, fn)
    it(name, function()
      if not url then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
      fn()
    end)
  end

  -- Good again, and everything that was acknowledged is done, each step once.
  local function recovers(seconds)
    s:wait(function() return s:get("/readyz").status == 200 end, seconds or 15, "readiness")
    s:wait(function()
      local answer = load:trigger()
      return answer and answer.status == 200
    end, 10, "a trigger that is taken")
    load:wait_completed(30)
    for key, count in pairs(durable.check_calls(up:calls(), {})) do assert.equal(1, count, key) end
    assert.equal(pid, s:server_pid())
  end

  case("loses its connections one by one", function()
    local cut = 0
    s:wait(function()
      load:trigger_times(3)
      cut = cut + p:cut_one()
      return cut >= 12
    end, 20, "twelve cuts")
    recovers()
    assert.is_true(#load.acknowledged >= 12, #load.acknowledged .. " acknowledged")
  end)

  case("loses all of them at once, again and again", function()
    for _ = 1, 5 do
      load:trigger_for(0.15)
      p:cut()
    end
    recovers()
  end)

  case("answers late", function()
    p:set("delay", 0.12)
    load:trigger_times(6)
    p:set("delay", 0)
    recovers()
    assert.equal(0, load.refused)
  end)

  case("is cut off in the middle of what is sent to it", function()
    load.later = true
    p:set("cut_request", 0.05)
    s:wait(function()
      load:trigger_times(5)
      return p:seen "cut_request" >= 4
    end, 20, "four cuts")
    p:set("cut_request", 0)
    recovers()
  end)

  case("commits, and its answers are lost", function()
    load.later = true
    p:set("cut_reply", 0.05)
    s:wait(function()
      load:trigger_times(5)
      return p:seen "cut_reply" >= 4
    end, 20, "four cuts")
    p:set("cut_reply", 0)
    recovers()
  end)

  case("makes one execution of a trigger that was sent again with its id or key, whatever became of the first commit", function()
    p:set("cut_reply", 0.08)
    local ids, run = {}, 0
    while run < 80 and p:seen "cut_reply" < 8 do
      run = run + 1
      local by_key = run % 2 == 0
      local body = { name = "listed", input = { run = run }, id = not by_key and "run-" .. run or nil }
      s:wait(function()
        local answer = s:post(by_key and "/api/trigger" or "/api/v1/executions", { timeout = 20,
          json = by_key and body or { workflow = "listed", input = body.input, id = body.id }, headers = by_key and { ["idempotency-key"] = "key-" .. run } or nil })
        if answer.status ~= 503 and answer.status ~= 429 then
          assert.is_true(answer.status < 300, answer.body)
          ids[run] = answer.json().executionId or answer.json().id
        end
        return ids[run]
      end, 20, "an answer")
    end
    p:set("cut_reply", 0)
    s:wait(function() return s:get("/api/v1/executions?status=completed").json().total == run end, 20, "all to complete")
    assert.equal(run, s:get("/api/v1/executions").json().total)
    for _, count in pairs(durable.check_calls(up:calls(), {})) do assert.equal(1, count) end
  end)

  case("falls silent and speaks again, with its connections open", function()
    load:trigger_times(4)
    p:set("hold", 1)
    local began = posix.now()
    local waiting = {}
    for i = 1, 4 do
      waiting[i] = function() return s:post("/api/trigger", { json = { name = "listed", input = { run = 100 + i } }, timeout = silent + 60 }) end
    end
    waiting[5] = function()
      posix.pause(silent)
      local ready, live = s:get("/readyz").status, s:get("/livez").status
      p:set("hold", 0)
      return ready .. " " .. live
    end
    local answers = s:concurrently(waiting)
    assert.is_true(posix.now() - began >= silent)
    if silent >= 8 then assert.equal("503 200", answers[5]) end
    for i = 1, 4 do
      if answers[i].status == 200 then load.acknowledged[#load.acknowledged + 1] = answers[i].json().executionId
      else check_refusal(answers[i]) end
    end
    load.run = 200
    recovers(30)
  end)

  case("has every backend terminated, one after the other", function()
    local function terminate_one()
      return server.postgres(s.direct, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND"
        .. " pid <> pg_backend_pid() ORDER BY random() LIMIT 1")
    end
    local ended = 0
    s:wait(function()
      load:trigger_times(3)
      if terminate_one() == "t" then ended = ended + 1 end
      return ended >= 8
    end, 20, "eight ends")
    recovers()
  end)
end)

describe("PostgreSQL that goes away", function()
  it(("for %g s under load, and comes back"):format(down), function()
    if not postgres.can_start() then return pending("needs the PostgreSQL server programs") end
    local up, pg = upstream.start { delay = 0.005 }, postgres.start()
    local s = server.start { plugins = { ["work.lua"] = durable.plugin }, env = durable.env(up), database = pg.url, args = { "--workers", "2" } }
    local pid, load = s:server_pid(), durable.load(s, { on_refused = check_refusal })
    load:trigger_for(1)
    local before = s:memory()
    pg:stop_now()
    local back, most, told = posix.now() + down, 0, false
    while posix.now() < back do
      load:trigger_for(0.2)
      most = math.max(most, s:memory())
      told = told or s:get("/readyz").status == 503
      assert.equal(200, s:get("/livez").status)
    end
    assert.is_true(load.refused > 0)
    assert.is_true(told, "/readyz did not tell it")
    assert.is_true(most - before < 16 * 1024 * 1024 * slowness, ("memory grew from %d to %d"):format(before, most))
    pg:start_again()
    local started = posix.now()
    s:wait(function() return s:get("/readyz").status == 200 end, 15, "readiness")
    load:trigger_for(0.3)
    load:wait_completed(60)
    print(("away for %g s: %d acknowledged, %d refused, all done %.1f s after it was back"):format(down, #load.acknowledged, load.refused,
      posix.now() - started))
    for key, count in pairs(durable.check_calls(up:calls(), {})) do assert.equal(1, count, key) end
    assert.equal(pid, s:server_pid())
    s:stop()
    pg:stop()
    up:stop()
  end)
end)
