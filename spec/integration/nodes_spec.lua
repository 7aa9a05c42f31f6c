-- SPDX-License-Identifier: MIT
-- Nodes that die and nodes that hang: who is left takes their runs over once their lease is over, not before, and goes on behind what was recorded. A node
-- that wakes up finds its runs taken, changes nothing, and works on. The clock of the node that takes over is three hours ahead all the time: leases are
-- told by the database's.

local ffi = require "ffi"
local engines = require "support.engines"
local posix = require "support.posix"
local server = require "support.server"
local upstream = require "support.upstream"

local SIGSTOP, SIGCONT = 19, 18
local STEPS = 6
-- A lease is renewed every third of it, so that at least two thirds are left of it at any moment.
local LEASE = 6
local EARLIEST, LATEST = LEASE * 0.6, LEASE + 15

local plugin = [==[
  local mw = require "mw"
  mw.workflow("paced", function(ctx, input)
    local nodes = mw.array {}
    for i = 1, input.steps do
      nodes[i] = ctx:step("s" .. i, function(s)
        mw.sleep(0.25)
        mw.fetch(mw.env.APP_UPSTREAM .. "/" .. s.step, { method = "POST", json = { run = s.id, node = mw.env.APP_NODE } }):ok()
        return mw.env.APP_NODE
      end)
    end
    return nodes
  end)
  mw.workflow("naps", function(ctx)
    ctx:step("before", function() return mw.env.APP_NODE end)
    ctx:sleep(1.2)
    return ctx:step("after", function() return mw.env.APP_NODE end)
  end)
]==]

engines.describe_postgres("nodes that end or hang", function(engine)
  local up, dir, nodes

  before_each(function()
    up, dir, nodes = upstream.start { delay = 0.005 }, posix.temp_dir(), {}
    posix.write_file(dir .. "/clock", ffi.string(ffi.new("int64_t[1]", 3 * 3600 * 1000000), 8))
    local url = engine.fresh()
    for _, name in ipairs { "ahead", "hangs", "dies" } do
      nodes[name] = server.start { plugins = { ["p.lua"] = plugin }, database = url, args = { "--workers", "1" },
        env = { MOONWATCH_POSTGRES_LEASE = LEASE .. "s", APP_NODE = name, APP_UPSTREAM = up.url, MW_CLOCK_FILE = name == "ahead" and dir .. "/clock" or nil } }
    end
  end)
  after_each(function()
    for _, node in pairs(nodes) do
      if node.pid then posix.kill(node.pid, SIGCONT) end
      node:stop()
    end
    up:stop()
    posix.remove_dir(dir)
  end)

  local function start(node, workflow, query)
    return node:post("/api/v1/executions" .. (query or ""), { json = { workflow = workflow, input = { steps = STEPS } }, timeout = 30 }).json()
  end

  local function show(id) return nodes.ahead:get("/api/v1/executions/" .. id).json() end

  -- Calls of the steps of a run, by step: the nodes that made them.
  local function calls_of(id)
    local by_step, first = {}, {}
    for i, call in ipairs(up:calls()) do
      local step = call.path:sub(2)
      if call.json.run == id then
        by_step[step] = by_step[step] or {}
        table.insert(by_step[step], call.json.node)
        first[step] = first[step] or i
      end
    end
    for i = 2, STEPS do assert.is_true(first["s" .. i - 1] < first["s" .. i], "a step was called before the one in front of it") end
    return by_step
  end

  -- The owner did the first steps, the other all that follow; only the step that was under way in between may have been called by both.
  local function check_taken_over(run, owner)
    assert.equal("completed", run.status)
    local by_step, taken, doubled = calls_of(run.id), false, 0
    for i = 1, STEPS do
      local step, called = run.output[i], by_step["s" .. i]
      if step == "ahead" then taken = true end
      assert.equal(taken and "ahead" or owner, step, "who recorded step " .. i)
      if #called > 1 then doubled = doubled + 1 end
      assert.is_true(#called <= 2, ("step %d was called %d times"):format(i, #called))
      if #called == 2 then assert.is_true(called[1] ~= called[2], "a node called a step twice") end
    end
    assert.is_true(taken, "the run was not taken over")
    assert.is_true(doubled <= 1, doubled .. " steps were called twice")
  end

  it("are taken over after their lease, behind what they recorded, and do no harm when they wake up", function()
    local owners, ids = {}, {}
    for i = 1, 8 do
      local owner = i % 2 == 0 and "hangs" or "dies"
      ids[i] = start(nodes[owner], "paced").id
      owners[ids[i]] = owner
    end
    nodes.hangs:wait(function()
      for _, id in ipairs(ids) do
        local steps = show(id).steps
        if not (steps and steps[1] and steps[1].status == "completed") then return false, id end
      end
      return true
    end, 10, "the first steps")
    nodes.hangs:kill(SIGSTOP)
    nodes.dies:kill_all()
    local began, ended = posix.now(), {}
    nodes.ahead:wait(function()
      for _, id in ipairs(ids) do
        if not ended[id] then
          local run = show(id)
          if run.status ~= "completed" then return false, id .. " is " .. run.status end
          ended[id] = run
        end
      end
      return true
    end, LATEST, "the runs to be taken over")
    assert.is_true(posix.now() - began > EARLIEST, ("they were taken over after %.1f s"):format(posix.now() - began))
    nodes.hangs:kill(SIGCONT)
    nodes.hangs:wait(function()
      local ok, answer = pcall(nodes.hangs.get, nodes.hangs, "/readyz", { timeout = 2 })
      return ok and answer.status == 200
    end, 15, "the node that hung to be ready")
    assert.equal("completed", start(nodes.hangs, "paced", "?wait=20").status) -- longer than what it was at when it hung
    for _, id in ipairs(ids) do
      assert.same(ended[id], show(id))
      check_taken_over(ended[id], owners[id])
    end
  end)

  it("keep their runs and their times as long as they live, beside a node whose clock is ahead", function()
    local owners, ids, began = {}, {}, posix.now()
    for i = 1, 6 do
      local owner = i % 2 == 0 and "hangs" or "dies"
      ids[i] = start(nodes[owner], "paced").id
      owners[ids[i]] = owner
    end
    for _, name in ipairs { "ahead", "hangs", "dies" } do
      began = posix.now()
      assert.equal("completed", start(nodes[name], "naps", "?wait=20").status)
      local took = posix.now() - began
      assert.is_true(took >= 1.15, ("a sleep of 1.2 s was over after %.2f s"):format(took))
      assert.is_true(took < 6, ("a sleep of 1.2 s took %.2f s"):format(took))
    end
    for _, id in ipairs(ids) do
      local run = nodes.ahead:get("/api/v1/executions/" .. id .. "?wait=20", { timeout = 30 }).json()
      assert.equal("completed", run.status)
      for step, called in pairs(calls_of(id)) do assert.same({ owners[id] }, called, step) end
    end
  end)
end)
