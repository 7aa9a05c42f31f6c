-- SPDX-License-Identifier: MIT

--- Tasks: mw.sleep, mw.spawn, mw.all.
--
--   mw.sleep("250ms")                        -- suspends this task only
--   local job = mw.spawn(function(…) … end, …)  -- runs beside; job:cancel(); its error is logged
--   local r = mw.all { a = function() … end, b = function() … end }   -- r.a, r.b; the first error cancels the rest
--
-- A spawned task ends with its generation: a reload cancels what still runs at the drain bound. A worker runs 10,000 tasks at a time;
-- starting more raises `limit`, so that a task which starts others without end cannot take the worker away from everyone.

local core = require "mw.core.task"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local validate = require "mw.validate"

local M = {}

local MAX_TASKS = 10000
local MAX_FAILURES_LOGGED = 100 -- a second

local function check_room(what, wanted)
  if core.is_cancelled() then core.check(what) end -- raises: nobody can end tasks that go on in others
  local count = core.count()
  if count + wanted <= MAX_TASKS then return end
  errors.throw("limit", string.format("%s: this worker runs %d tasks already, and %d more would pass its limit of %d; work through a list in parts",
    what, count, wanted, MAX_TASKS), { retryable = true, status = 503 })
end

--- Suspends this task only.
---@param duration mw.Duration
function M.sleep(duration)
  local ok, err = core.sleep(validate.duration("mw.sleep", duration))
  if ok == nil then errors.raise(err) end
end

local second, logged = 0, 0

-- What fails in a loop must not fill the disk.
local function may_log()
  local now = math.floor(runtime.now_us() / 1e6)
  if now ~= second then second, logged = now, 0 end
  logged = logged + 1
  if logged == MAX_FAILURES_LOGGED + 1 then
    runtime.log("error", "task", "more than " .. MAX_FAILURES_LOGGED .. " tasks failed within a second; the rest of them is not logged")
  end
  return logged <= MAX_FAILURES_LOGGED
end

local function log_failure(what, plugin, err)
  err = errors.from(err)
  if err.code == "cancelled" or not may_log() then return end
  runtime.log("error", "task", what .. " failed: " .. tostring(err), errors.to_json(err), plugin)
end

local function run_logged(what, plugin, context, fn, ...)
  core.local_set(context)
  local ok, err = errors.pcall(fn, ...)
  if not ok then log_failure(what, plugin, err) end
end

-- What a spawned task inherits: the trace, not the request and not a workflow's context.
local function inherit()
  local context = core.local_get()
  return context and { trace_id = context.trace_id } or nil
end

---@class mw.Task
---@field cancel fun(self: mw.Task) ends it at its next wait
---@field done fun(self: mw.Task): boolean

--- Runs a function beside this one; its error is logged.
---@param fn fun(...)
---@param ... any arguments of fn
---@return mw.Task
function M.spawn(fn, ...)
  validate.arg("mw.spawn", 1, "fn", fn, "function")
  check_room("mw.spawn", 1)
  return core.spawn(run_logged, "mw.spawn", nil, "mw.spawn", nil, inherit(), fn, ...)
end

--- Runs functions together and waits for all; results in the same shape. The first error cancels the rest and is raised.
---@param fns table<any, fun(): any>
---@return table
function M.all(fns)
  validate.arg("mw.all", 1, "functions", fns, "table")
  local results, handles, left, failed = {}, {}, 0, nil
  local token, context = core.token(), core.local_get()
  for key, fn in pairs(fns) do
    if type(fn) ~= "function" then
      errors.throw("invalid", string.format("mw.all: entry %s must be a function, got %s", tostring(key), validate.describe(fn)))
    end
    left = left + 1
  end
  if left == 0 then return results end
  check_room("mw.all", left)

  -- Killed, or out of memory beyond what pcall sees.
  local function died(_, err)
    failed = failed or { err }
    core.wake(token)
  end

  local function run(key, fn)
    core.on_fail(died)
    core.local_set(context)
    local ok, value = errors.pcall(fn)
    left = left - 1
    if ok then results[key] = value elseif not failed then failed = { value } end
    if failed or left == 0 then core.wake(token) end
  end

  for key, fn in pairs(fns) do
    if failed then break end
    handles[#handles + 1] = core.spawn(run, "mw.all", nil, key, fn)
  end
  while left > 0 and not failed do
    local _, err = core.park("mw.all")
    if err then failed = { err } end
  end
  if failed then
    for _, handle in ipairs(handles) do handle:cancel("cancelled", "another function of mw.all failed") end
    error(failed[1], 0)
  end
  return results
end

return M
