-- SPDX-License-Identifier: MIT

--- Crashes in specs: app:crash_at_each_step runs a workflow once for every place where a server may die, and app:replay runs its body
--- again from the journal alone.

local app = require "mw.testing.app"
local fetches = require "mw.testing.fetches"
local json = require "mw.core.json"
local validate = require "mw.validate"

local App = app.App

local M = {}

local words = {
  called = "before the function of step %q was called (attempt %d)",
  returned = "after the function of step %q had returned (attempt %d), before its result was committed",
}

local function describe(point)
  if point.kind ~= "committed" then
    local text = words[point.kind]:format(point.step, point.attempt)
    return point.failed and text:gsub("returned", "failed", 1):gsub("its result", "that", 1) or text
  end
  local what = point.step and ("the %s of step %q"):format(point.row, point.step) or "the end of the run"
  return ("after %s was committed%s"):format(what, point.status and " (" .. point.status .. ")" or "")
end

-- ---- apps that begin where another stands ----

local function fork(self)
  local copy = { only = self.only, files = self.files, stubs = fetches.fresh(self.stubs), step_stubs = self.step_stubs, redis_stub = self.redis_stub, options = self.options }
  local opts = {}
  for key, value in pairs(self.options) do opts[key] = value end
  opts.from, opts.world = self.rig:dir(), self.rig:world()
  return app.open(copy, opts)
end

-- What is seen of a run from outside: where it is now, which steps' results are committed, how often each was called after that.
local function follow(self, crash_at)
  local watch = { count = 0, done = {}, again = {}, points = {} }
  self.on_point = function(point)
    local key = point.id .. "\0" .. (point.step or "")
    if point.kind == "called" and watch.done[key] then watch.again[#watch.again + 1] = point.step end
    if point.over then watch.done[key] = true end -- it has a result, or has failed for good
    watch.count = watch.count + 1
    watch.points[watch.count] = point
    return watch.count == crash_at
  end
  return watch
end

-- Starts it; when the server dies before the answer, the execution is the one that was stored: the first, others may be its children.
local function run_surely(self, start, input, id)
  local before = #self.triggered
  local ok, started
  if type(start) == "function" then
    ok, started = pcall(start, self, input)
  else
    ok, started = pcall(function() return self:trigger(start, input, { id = id }).id end)
  end
  local stored = self.triggered[before + 1]
  if not ok and not (self.restarts > 0 and stored) then error(started, 0) end
  if type(started) ~= "string" and not stored then app.fail("app:crash_at_each_step: the function must return an execution's id") end
  return self:wait_run(ok and type(started) == "string" and started or stored.id)
end

local function run_once(self, name, input, opts, crash_at)
  local copy = fork(self)
  if opts.setup then opts.setup(copy) end
  local watch = follow(copy, crash_at)
  return copy, run_surely(copy, name, input, opts.id), watch
end

local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) ~= "table" then return a == b end
  return json.encode(a, { sort = true }) == json.encode(b, { sort = true })
end

local function shown(value) return value == nil and "nil" or json.encode(value, { sort = true }) end

local function problem_of(run, baseline, watch, opts)
  if watch.again[1] then return ("step %q was called again although its outcome was committed"):format(watch.again[1]) end
  if run.status ~= baseline.status then return ("it should be %s\n%s"):format(baseline.status, tostring(run)) end
  if opts.output == false then return nil end
  if not same(run.output, baseline.output) then
    return ("the output differs\n  without a crash: %s\n  with it:         %s\n(output = false does not compare it, if it may differ)")
      :format(shown(baseline.output), shown(run.output))
  end
end

local function try_point(self, name, input, opts, at, baseline, total)
  local copy, run, watch = run_once(self, name, input, opts, at)
  local point = watch.points[at]
  local place = ("crash %d of %d, %s"):format(at, total, point and describe(point) or "which was not reached")
  local problem = problem_of(run, baseline, watch, opts)
  if problem then app.fail("%s: %s", place, problem) end
  if opts.check then
    local ok, err = pcall(opts.check, run, copy)
    if not ok then error(type(err) == "string" and place .. ": " .. err or err, 0) end
  end
  copy:close()
end

---@class mw.testing.CrashOpts
---@field check? fun(run: mw.testing.Run, app: mw.testing.App) your own assertions, with the app that crashed
---@field setup? fun(app: mw.testing.App) before each run, for stubs that count
---@field output? boolean false: the output may differ
---@field id? string the caller's own id of the run
---@field every? integer try only each so many-th place, for a workflow of hundreds of steps

local known = { check = "function", setup = "function", id = "string", output = "boolean", every = "integer" }

--- Runs the workflow without a crash, then once for every place where the server may die: before a step's function is called, after it
--- returned and before its result is committed, and after each commit. Each time the server is thrown away there and a new one goes on
--- from the databases, in a fresh Lua state. Fails, naming the place, unless the run ends as it does without a crash, with the same
--- output, and no step whose result was committed is called again. Every run begins with the databases, stubs and clock of this app, which
--- stays as it is. A step whose result was not committed is called again: that is what its Idempotency-Key is for.
---
--- `name` may be function(app, input) that starts an execution otherwise, by a request for example, and returns its id.
---@param name string|fun(app: mw.testing.App, input: any): string
---@param input any
---@param opts? mw.testing.CrashOpts
---@return { points: integer } how many places there were
function App:crash_at_each_step(name, input, opts)
  opts = validate.options("app:crash_at_each_step", opts, known)
  self:settle()
  local copy, baseline, watch = run_once(self, name, input, opts)
  if opts.check then opts.check(baseline, copy) end
  copy:close()
  for at = 1, watch.count, math.max(1, opts.every or 1) do try_point(self, name, input, opts, at, baseline, watch.count) end
  return { points = watch.count }
end

--- Runs the body of a finished run again from its journal, in `states` (3) fresh Lua states, an hour later each: it must take the same way,
--- call no step and give the same output. Fails with the step where it took another.
---@param run mw.testing.Run
---@param opts? { states?: integer }
function App:replay(run, opts)
  opts = validate.options("app:replay", opts, { states = "integer" })
  if run.status ~= "completed" then app.fail("app:replay: %s", tostring(run)) end
  for state = 1, opts.states or 3 do
    local watch = follow(self)
    app.call(self, "reopen", { id = run.id })
    self.statuses[run.id] = nil
    self:advance "1h"
    self:restart()
    local again = self:wait_run(run.id)
    self.on_point = nil
    local problem = problem_of(again, run, watch, {})
    if problem then app.fail("app:replay, state %d: %s", state, problem) end
  end
end

return M
