-- SPDX-License-Identifier: MIT
-- Groups through kills: runs of an `ordered` group go one after the other in the order of their creation, and of a group with `concurrency` there are never
-- more at work than it says, also when servers are killed in the middle, and on PostgreSQL with two nodes at it.
--
--   MW_TEST_SEED=…    which node is asked and killed (the seed is printed; what the kernel schedules is not repeated)

local engines = require "support.engines"
local posix = require "support.posix"
local server = require "support.server"
local upstream = require "support.upstream"

local seed = tonumber(os.getenv("MW_TEST_SEED") or tostring(os.time() % 100000))
print("MW_TEST_SEED=" .. seed)
local RUNS, LIMIT, KILLS = 30, 3, 3

local plugin = [==[
  local mw = require "mw"
  local function call(what)
    return function(s)
      mw.fetch(mw.env.APP_UPSTREAM .. "/" .. what, { method = "POST", json = { number = s.input.number, group = s.input.group } }):ok()
      mw.sleep(0.02)
      return true
    end
  end
  local function body(ctx, input)
    ctx:step("in", call "in")
    ctx:sleep(input.number % 7 == 0 and 1.05 or 0.03)
    ctx:step("out", call "out")
    return input.number
  end
  mw.workflow("line", body, { ordered = true, retries = 20, backoff = "50ms" })
  mw.workflow("gate", body, { concurrency = 3, retries = 20, backoff = "50ms" })
]==]

engines.describe("groups on ", function(engine)
  local up, nodes

  before_each(function()
    math.randomseed(seed)
    up, nodes = upstream.start { delay = 0.003 }, {}
    local url = engine.fresh()
    for i = 1, url and 2 or 1 do
      nodes[i] = server.start { plugins = { ["groups.lua"] = plugin }, database = url, args = { "--workers", "2" }, env = { APP_UPSTREAM = up.url } }
    end
  end)
  after_each(function()
    for _, node in ipairs(nodes) do node:stop() end
    up:stop()
  end)

  -- The calls of one group: for each run, where its first and its last one stand.
  local function spans_of(group)
    local spans, at = {}, 0
    for _, call in ipairs(up:calls()) do
      if call.json.group == group then
        at = at + 1
        local span = spans[call.json.number] or { first = at }
        spans[call.json.number], span.last = span, at
      end
    end
    return spans, at
  end

  local function start(workflow, group, number)
    local name = group .. "-" .. number
    return posix.wait_until(function()
      local node = nodes[math.random(#nodes)]
      local ok, answer = pcall(node.post, node, "/api/v1/executions",
        { json = { workflow = workflow, id = name, input = { number = number, group = group }, group = group }, timeout = 10 })
      if not ok or answer.status == 503 or answer.status == 429 then return false, answer end
      assert.is_true(answer.status < 300, answer.body)
      return answer.json().id
    end, 20, name)
  end

  it("keep their order and their limit, whoever is killed", function()
    local ids, groups = {}, { { "line", "first" }, { "line", "second" }, { "gate", "narrow" } }
    for i = 1, RUNS do
      local which = groups[i % #groups + 1]
      ids[i] = start(which[1], which[2], math.ceil(i / #groups))
      if i % (RUNS / KILLS) == 0 then
        posix.pause(0.05 + math.random() * 0.2)
        local node = nodes[math.random(#nodes)]
        node:kill_all()
        node:restart()
      end
    end
    nodes[1]:wait(function()
      for _, id in ipairs(ids) do
        local run = nodes[1]:get("/api/v1/executions/" .. id).json()
        if run.status ~= "completed" then return false, ("%s is %s"):format(id, run.status) end
      end
      return true
    end, 60, "the runs")
    local each = RUNS / #groups
    for _, group in ipairs { "first", "second" } do
      local spans = spans_of(group)
      for number = 2, each do
        assert.is_true(spans[number - 1].last < spans[number].first, ("%s: run %d began before run %d had ended"):format(group, number, number - 1))
      end
    end
    local spans, last = spans_of "narrow"
    local most = 0
    for at = 1, last do
      local open = 0
      for _, span in pairs(spans) do if span.first <= at and at <= span.last then open = open + 1 end end
      most = math.max(most, open)
    end
    assert.is_true(most <= LIMIT, most .. " runs were at work at once")
    assert.is_true(most > 1, "nothing ran beside another")
  end)
end)
