-- SPDX-License-Identifier: MIT
-- Executions that an outside server watches: a plugin with workflows whose steps call it, triggers that remember what was acknowledged,
-- and the checks of what was promised: everything acknowledged completes, and a finished step is not called again.
--
--   local load = durable.load(s)                 -- s: support.server, with plugins = { ["work.lua"] = durable.plugin } and durable.env(up)
--   load:trigger_for(0.5); load:wait_completed(60)
--   durable.check_calls(up:calls(), marks)

local assert = require "luassert"
local server = require "support.server"

local M = {}

M.plugin = [==[
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
  mw.workflow("thinking", function(ctx)
    ctx:step("a", call("a"))
    local sum = 0
    for i = 1, 3e8 do sum = sum + i % 7 end
    ctx:step("b", call("b"))
    return sum
  end)
  mw.workflow("later", { entry "a",
    { name = "b", retries = 50, backoff = { initial = "2200ms", max = "2200ms" }, run = function(ctx) -- sleeps in the store, and is claimed again
      if ctx.attempt == 1 then error("not yet") end
      return call("b")(ctx)
    end }, entry "c" })
  mw.workflow("written", function(ctx, input)
    local last
    for _, name in ipairs { "a", "b", "c" } do last = ctx:step(name, function(step) return call(name)(step or ctx) end, retry) end
    return last
  end)
]==]

function M.env(up, more)
  local env = { APP_UPSTREAM = up.url }
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

---A step may be called again only while nothing later was called, because a later call proves that its result was durable, and only
---when the server was killed in between: `marks` are the numbers of calls there were at each kill (nil: not known).
function M.check_calls(calls, marks)
  local order, reached, last, count = { a = 1, b = 2, c = 3 }, {}, {}, {}
  for i, call in ipairs(calls) do
    local run, step = call.json.run, call.path:sub(2)
    local key = run .. "/" .. step
    assert.is_true((reached[run] or 0) <= order[step], ("run %s: step %s was called after a later step"):format(run, step))
    local killed = not last[key] or not marks
    for _, mark in ipairs(marks or {}) do killed = killed or (last[key] <= mark and mark < i) end
    assert.is_true(killed, ("run %s: step %s was called again without a kill in between"):format(run, step))
    reached[run], last[key], count[key] = order[step], i, (count[key] or 0) + 1
  end
  return count
end

local Load = {}
Load.__index = Load

---opts.later: every eighth execution sleeps for a second or two. opts.on_refused(answer): sees what was not acknowledged (nil: a connection that broke).
function M.load(s, opts)
  return setmetatable({ server = s, run = 0, acknowledged = {}, refused = 0, broken = 0, on_refused = opts and opts.on_refused,
    later = opts and opts.later }, Load)
end

---Triggers the next run, half of them as lists. Returns the answer, or nil when the connection broke.
function Load:trigger(headers)
  self.run = self.run + 1
  local name = self.later and self.run % 8 == 0 and "later" or self.run % 2 == 0 and "listed" or "written"
  local body = { name = name, input = { run = self.run } }
  local ok, answer = pcall(self.server.post, self.server, "/api/trigger", { json = body, headers = headers, timeout = 20 })
  if ok and answer.status == 200 then
    self.acknowledged[#self.acknowledged + 1] = answer.json().executionId
    return answer
  end
  if ok then self.refused = self.refused + 1 else self.broken = self.broken + 1 end
  if self.on_refused then self.on_refused(ok and answer or nil) end
  return ok and answer or nil
end

---Triggers until `seconds` are over.
function Load:trigger_for(seconds)
  local until_ = server.now() + seconds
  while server.now() < until_ do self:trigger() end
end

function Load:trigger_times(times)
  for _ = 1, times do self:trigger() end
end

---Waits until everything that was acknowledged has completed. What has been seen completed is not asked for again.
function Load:wait_completed(seconds)
  local left = {}
  for _, id in ipairs(self.acknowledged) do left[#left + 1] = id end
  self.server:wait(function()
    while #left > 0 do
      local ok, answer = pcall(self.server.get, self.server, "/api/v1/executions/" .. left[#left], { timeout = 5 })
      if not ok then return false, answer end
      if answer.status ~= 200 then return false, answer.body end
      local execution = answer.json()
      if execution.status ~= "completed" then
        return false, ("%s is %s (%d of %d left)"):format(execution.id, execution.status, #left, #self.acknowledged)
      end
      left[#left] = nil
    end
    return true
  end, seconds, "all executions to complete")
end

return M
