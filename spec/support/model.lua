-- SPDX-License-Identifier: MIT
-- Random workflows with a model of what must come of them. A plan is a list of operations; the plugin's workflow "planned" carries out the plan
-- that it gets as its input, and the model says what its output, its error and its calls of an outside server have to be.
--
--   local plan = model.plan(random, { depth = 2 })
--   local want = model.expect(plan)              -- { status, output }; model.signals(plan): what it waits for
--   model.check_calls(calls, ends)               -- calls: of support.upstream; raises what cannot be

local M = {}

M.plugin = [==[
  local mw = require "mw"
  local url = mw.env.APP_UPSTREAM
  local retry = { retries = 60, backoff = { initial = "20ms", max = "60ms" } }

  local function call(s, what, run, fails)
    mw.fetch(url .. "/" .. what, { method = "POST", json = { run = run, key = s.step, attempt = s.attempt } }):ok()
    if s.attempt <= (fails or 0) then error("not yet") end
  end

  local carry_out
  local doing = {}

  function doing.step(c, op, run, out)
    out[#out + 1] = c:step(op.name, function(s)
      call(s, "do", run, op.fails)
      return op.name
    end, { retries = 60, backoff = retry.backoff, undo = op.undo and function(s, result) call(s, "undo", run) end or nil })
  end
  function doing.transaction(c, op, run, out)
    out[#out + 1] = c:transaction(op.name, function(s, tx)
      tx:query("INSERT INTO effects (run, step, execution) VALUES ($1, $2, $3)", { run, s.step, s.id })
      return op.name
    end, retry)
  end
  function doing.sleep(c, op) c:sleep(op.seconds) end
  function doing.signal(c, op, run, out) out[#out + 1] = c:wait_for(op.name) end
  function doing.all(c, op, run, out)
    local branches = {}
    for name, plan in pairs(op.branches) do
      branches[name] = function(b) return carry_out(b, plan, run) end
    end
    local results = c:all(branches)
    for _, name in ipairs(op.names) do for _, value in ipairs(results[name]) do out[#out + 1] = value end end
  end
  function doing.map(c, op, run, out)
    for _, value in ipairs(c:map(op.items, function(b, item)
      return b:step("item", function(s)
        call(s, "do", run)
        return item * 2
      end, retry)
    end, { concurrency = 3 })) do out[#out + 1] = value end
  end
  function doing.call(c, op, run, out)
    for _, value in ipairs(c:call("planned", { run = run .. "/" .. op.name, plan = op.plan })) do out[#out + 1] = value end
  end
  function doing.fail() error { code = "planned", message = "as planned", retryable = false } end

  function carry_out(c, plan, run)
    local out = mw.array {}
    for _, op in ipairs(plan) do doing[op.op](c, op, run, out) end
    return out
  end

  mw.workflow("planned", function(ctx, input) return carry_out(ctx, input.plan, input.run) end)
  mw.get("/effects", function(_, res) res:json { rows = mw.query("SELECT run, step, count(*) AS n, min(execution) AS one, max(execution) AS other FROM effects GROUP BY run, step") } end)
  mw.get("/set_up", function(_, res)
    mw.query("CREATE TABLE IF NOT EXISTS effects (run TEXT NOT NULL, step TEXT NOT NULL, execution TEXT NOT NULL)")
    res:json { ok = true }
  end)
]==]

-- ---- plans ----

local make

local makers = {
  function(random, name) return { op = "step", name = name, fails = random(4) == 1 and 1 or 0, undo = random(2) == 1 } end,
  function(random, name) return { op = "step", name = name, fails = 0, undo = true } end,
  function(random) return { op = "sleep", seconds = random(12) / 10 } end,
  function(random, name) return { op = "signal", name = name } end,
  function(random) return { op = "map", items = { random(9), random(9), random(9), random(9), random(9) } } end,
  function(random, name) return { op = "transaction", name = name } end,
  function(random, name, depth)
    if depth == 0 then return { op = "step", name = name, fails = 0, undo = false } end
    return { op = "all", names = { "a", "b" }, branches = { a = make(random, depth - 1, name .. "a"), b = make(random, depth - 1, name .. "b") } }
  end,
  function(random, name, depth)
    if depth == 0 then return { op = "sleep", seconds = 0.05 } end
    return { op = "call", name = name, plan = make(random, 0, name .. "c") }
  end,
}

function make(random, depth, prefix)
  local plan = {}
  for i = 1, 1 + random(3) do plan[i] = makers[random(#makers)](random, prefix .. i, depth) end
  return plan
end

function M.plan(random, opts)
  local plan = make(random, opts.depth or 2, "s")
  if random(4) == 1 then plan[#plan + 1] = { op = "fail" } end
  return plan
end

-- ---- what must come of them ----

local function each(plan, fn)
  for _, op in ipairs(plan) do
    fn(op)
    if op.op == "all" then for _, name in ipairs(op.names) do each(op.branches[name], fn) end end
  end
end

-- Signals that the run itself waits for, with what its children wait for: { {run-suffix, name}, … }.
function M.signals(plan, run, list)
  list = list or {}
  each(plan, function(op)
    if op.op == "signal" then list[#list + 1] = { run = run, name = op.name } end
    if op.op == "call" then M.signals(op.plan, run .. "/" .. op.name, list) end
  end)
  return list
end

local function outputs(plan, out)
  for _, op in ipairs(plan) do
    if op.op == "step" or op.op == "transaction" then out[#out + 1] = op.name end
    if op.op == "signal" then out[#out + 1] = "signal " .. op.name end
    if op.op == "map" then for _, item in ipairs(op.items) do out[#out + 1] = item * 2 end end
    if op.op == "call" then outputs(op.plan, out) end
    if op.op == "all" then for _, name in ipairs(op.names) do outputs(op.branches[name], out) end end
    if op.op == "fail" then return false end
  end
  return true
end

function M.expect(plan)
  local out = {}
  local ok = outputs(plan, out)
  return { status = ok and "completed" or "failed", output = ok and out or nil }
end

-- Keys of steps in the order in which one strand calls them: a list of lists, each of which is in order.
local function strands(plan, prefix, list, uses)
  local mine, used = {}, { all = 0, map = 0 }
  list[#list + 1] = mine
  for _, op in ipairs(plan) do
    if op.op == "step" then mine[#mine + 1] = prefix .. op.name end
    if op.op == "all" then
      used.all = used.all + 1
      local key = prefix .. "all" .. (used.all > 1 and "#" .. used.all or "")
      for _, name in ipairs(op.names) do strands(op.branches[name], key .. ":" .. name .. "/", list, uses) end
    end
  end
  return list
end

--- The steps with `undo` of the body itself, in order.
function M.undone(plan)
  local keys = {}
  for _, op in ipairs(plan) do
    if op.op == "step" and op.undo then keys[#keys + 1] = op.name end
    if op.op == "fail" then return keys end
  end
  return {}
end

--- calls: what the outside server saw; run: its name; kills: how often servers ended. Raises what cannot be.
function M.check_run(calls, run, plan, kills)
  local by_key, number = {}, 0
  for _, call in ipairs(calls) do
    if call.json.run == run then
      number = number + 1
      local key = call.path:sub(2) .. " " .. call.json.key
      by_key[key] = by_key[key] or { first = number, count = 0 }
      by_key[key].last, by_key[key].count = number, by_key[key].count + 1
    end
  end
  for key, seen in pairs(by_key) do
    if seen.count > 2 + kills then error(("run %s: %s was called %d times with %d kills"):format(run, key, seen.count, kills)) end
  end
  for _, strand in ipairs(strands(plan, "", {})) do
    for i = 2, #strand do
      local before, after = by_key["do " .. strand[i - 1]], by_key["do " .. strand[i]]
      if after and (not before or before.last > after.first) then
        error(("run %s: step %s was called (again) after %s was"):format(run, strand[i - 1], strand[i]))
      end
    end
  end
  local undone = M.undone(plan)
  for i = #undone, 1, -1 do
    local seen, next_one = by_key["undo undo:" .. undone[i]], i > 1 and by_key["undo undo:" .. undone[i - 1]]
    if not seen then error(("run %s: step %s was not undone"):format(run, undone[i])) end
    if next_one and seen.last > next_one.first then error(("run %s: step %s was undone after %s"):format(run, undone[i], undone[i - 1])) end
  end
end

return M
