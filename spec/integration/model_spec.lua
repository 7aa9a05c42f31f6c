-- SPDX-License-Identifier: MIT
-- Random workflows of every kind against a model of them, on bad days: SQLite with one server, PostgreSQL with three nodes that share the work, one of
-- which has a clock that jumps. Servers are killed, started again on disks and networks that fail, hang past their lease, and lose
-- connections (support/trouble.lua). Whatever happens, each run ends as the model says, nothing that was recorded is done again, and undoing goes in
-- reverse.
--
--   MW_TEST_RUNS=300 MW_TEST_KILLS=9      more of it; at most nine interruptions, because eleven of one step are "poison"
--   MW_TEST_SEED=…                        the same plans again (the seed is printed; what the kernel schedules is not repeated)

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local model = require "support.model"
local posix = require "support.posix"
local proxy = require "support.proxy"
local server = require "support.server"
local trouble = require "support.trouble"
local upstream = require "support.upstream"

local kills = math.min(9, tonumber(os.getenv("MW_TEST_KILLS") or "4"))
local runs = tonumber(os.getenv("MW_TEST_RUNS") or "100")
local seed = tonumber(os.getenv("MW_TEST_SEED") or tostring(os.time() % 100000))
print(("%d runs, %d kills, MW_TEST_SEED=%d"):format(runs, kills, seed))

-- A generator of the spec's own, so that a seed is a seed on every machine.
local function generator(n)
  local state = n % 2147483646 + 1
  return function(most)
    state = state * 48271 % 2147483647
    return state % most + 1
  end
end

engines.describe("random workflows on ", function(engine)
  local up, nodes, random, network, luck, dir

  before_each(function()
    up, random = upstream.start { delay = 0.005 }, generator(seed)
    local url = engine.fresh()
    nodes, dir = {}, posix.temp_dir()
    local clock = url and trouble.clock(dir .. "/clock")
    network = url and proxy.start(tonumber(url:match("@[^/:]+:(%d+)")), seed)
    for i = 1, url and 3 or 1 do
      nodes[i] = server.start {
        plugins = { ["model.lua"] = model.plugin }, database = url and network:url(url), args = { "--workers", i == 1 and "2" or "1" },
        env = { APP_UPSTREAM = "http://127.0.0.1:" .. up.port, MW_CLOCK_FILE = url and i == 2 and dir .. "/clock" or nil },
      }
    end
    nodes[1].direct = url
    nodes[1]:get("/set_up")
    if clock then clock(3 * 3600 * 1000000) end
    luck = trouble.new { nodes = nodes, network = network, clock = clock, random = random, ends = kills }
  end)
  after_each(function()
    luck:wake()
    for _, node in ipairs(nodes) do
      node:stop()
      node:clean()
    end
    if network then network:stop() end
    up:stop()
    posix.remove_dir(dir)
  end)

  -- Asks until a node answers.
  local function surely(method, path, opts)
    return posix.wait_until(function()
      luck:tend()
      local node = luck:node()
      local ok, answer = pcall(node.request, node, method, path, opts)
      return ok and answer.status < 500 and answer.status ~= 429 and answer
    end, 30, path)
  end

  local function start(number)
    local plan = model.plan(random, { depth = 2 })
    local run = { name = "r" .. number, plan = plan, want = model.expect(plan), signals = model.signals(plan, "r" .. number) }
    run.id = surely("POST", "/api/v1/executions", { json = { workflow = "planned", id = run.name, input = { run = run.name, plan = plan } } }).json().id
    return run
  end

  -- The executions of a run and its children, by their names in the plan.
  local function family(run)
    local ids, todo = { [run.name] = run.id }, { { run.name, run.id } }
    while #todo > 0 do
      local name, id = unpack(table.remove(todo))
      local shown = surely("GET", "/api/v1/executions/" .. id).json()
      for _, step in ipairs(shown.steps or {}) do
        if step.kind == "child" and step.execution then
          local child = surely("GET", "/api/v1/executions/" .. step.execution).json()
          ids[child.input.run] = child.id
          todo[#todo + 1] = { child.input.run, child.id }
        end
      end
    end
    return ids
  end

  local function send_signals(run)
    if not run.signals[1] then return end
    local ids, left = family(run), {}
    for _, signal in ipairs(run.signals) do
      local id = ids[signal.run]
      local answer = id and surely("POST", ("/api/v1/executions/%s/signals/%s"):format(id, signal.name),
        { body = '"signal ' .. signal.name .. '"', headers = { ["idempotency-key"] = signal.name, ["content-type"] = "application/json" } })
      if not answer or answer.status ~= 202 and answer.status ~= 409 then left[#left + 1] = signal end
    end
    run.signals = left
  end

  local function has_ended(run)
    run.shown = surely("GET", "/api/v1/executions/" .. run.id).json()
    return run.shown.finished_at ~= nil
  end

  local function drive(list)
    local left = 0
    for _, run in ipairs(list) do
      if not run.ended then
        send_signals(run)
        run.ended = has_ended(run)
        if not run.ended then left = left + 1 end
      end
    end
    return left == 0, left .. " runs have not ended"
  end

  it("end as the model says, whatever happens", function()
    local list, db = {}, engine_db.of(nodes[1])
    for i = 1, runs do
      list[i] = start(i)
      if i % math.ceil(runs / (2 * kills)) == 0 then
        luck:strike()
        db.check_totals()
      end
    end
    luck:calm()
    local ok, why = pcall(posix.wait_until, function() return drive(list) end, 90, "the runs to end")
    print(table.concat(luck.log, "; "))
    local left = "SELECT id, status, owner, fence, control, waits, due_us, error FROM EXECUTIONS WHERE status < 8 LIMIT 10"
    assert(ok, not ok and why .. ", by their status, owner, fence, control, waits, due_us and error:\n" .. db.run(left))
    db.check_totals()
    local calls = up:calls()
    for _, run in ipairs(list) do
      assert.equal(run.want.status, run.shown.status, ("%s %s: %s"):format(run.name, run.id, run.shown.error and run.shown.error.message))
      if run.want.output then assert.same(run.want.output, run.shown.output, run.name) end
      if run.want.status == "failed" then assert.equal("planned", run.shown.error.code, run.name) end
      model.check_run(calls, run.name, run.plan, luck.interruptions)
    end
    for _, effect in ipairs(nodes[1]:get("/effects").json().rows) do
      assert.equal(1, tonumber(effect.n), ("%s %s by %s and %s"):format(effect.run, effect.step, effect.one, effect.other))
    end
  end)
end)
