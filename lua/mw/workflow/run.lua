-- SPDX-License-Identifier: MIT

--- One execution in the hands of this worker: its commits, its attempts, and how it is handed back. list.lua and imperative.lua
-- drive it; engine.lua starts it and gets it back.
--
-- A run lives in one task. When that task dies (a step's timeout, the watchdog, a drain) the engine is told by `on_fail` and either
-- goes on in a fresh task or hands the run back to the store; `run.phase` says what was going on:
--
--   "step"    a step's function runs: run.step, run.attempt, run.t0
--   "body"    code of the imperative form outside of steps
--   "commit"  an append is under way: run.w_data … run.w_error are its arguments
--   "wait"    between two attempts, until run.due_us
--
--   "group"   its branches run (parallel.lua), or it waits for one of them
--   "create"  the execution itself is being stored; run.id is not known yet
--
-- Fields: id fence number seed start_us workflow what app input_text results def engine;
-- of the current step: step (policy with name, quoted), attempt, failures, first (when its first attempt began). A branch of a parallel group
-- is a strand.lua, which has its own of these and looks like a run to all that makes attempts.
-- `control`: what an operator wants of it (PAUSE, CANCEL, UNDO below), seen at the next step boundary.
-- `settled`: the execution has a status that needs no one's hands, or is another's; a run that ends without it is put up again.

local backoff = require "mw.workflow.backoff"
local core = require "mw.core.task"
local errors = require "mw.errors"
local json = require "mw.core.json"
local journal = require "mw.workflow.journal"
local payload = require "mw.workflow.payload"
local redact = require "mw.workflow.redact"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

--- An attempt that the server's end cut off counts for itself; after so many the run is `failed` with code "poison".
M.MAX_INTERRUPTIONS = 10
--- Waits up to this, microseconds, stay in memory with their owner; longer ones are stored.
M.SHORT_WAIT_US = 1e6
local COMMIT_RETRY_S = 1

--- What the column `control` asks of a run's owner, and how the API says it.
M.PAUSE, M.CANCEL, M.UNDO = 1, 2, 3
M.control_names = { "pause", "cancel", "undo" }

local PUT_BACK_US = 1e6
local now_us, append, lease_left = runtime.now_us, store.append, store.lease_left
local local_set, set_timeout, is_current = core.local_set, core.set_timeout, core.is_current
local floor, max, min = math.floor, math.max, math.min

local sequence, sequence_base = 0, nil

--- What virtual time and random numbers of a run begin with: "<microseconds>.<random>". Also returns the microseconds.
function M.new_seed()
  if not sequence_base then sequence_base = string.format("%012x", floor(runtime.random() * 2 ^ 48)) end
  sequence = sequence + 1
  local now = now_us()
  return string.format("%d.%s%x", now, sequence_base, sequence), now
end

--- The run's virtual start, microseconds; all its journal's times count from there.
function M.start_of(seed, fallback)
  return tonumber(seed:match("^(%d+)%.")) or fallback
end

--- Microseconds since the virtual start; never backwards within a run.
function M.elapsed(run)
  local at = now_us() - run.start_us
  if at < run.at then return run.at end
  run.at = at
  return at
end

local elapsed = M.elapsed

-- ---- what a step's function gets ----

local waits = { "sleep", "sleep_until", "wait_for", "call", "all", "map", "step", "trigger", "transaction", "http", "now", "random", "uuid" }
local refused = {}
for _, name in ipairs(waits) do
  refused[name] = function()
    errors.throw("invalid", string.format(
      "ctx:%s belongs to the body of a workflow written as a function, not into a step: a step runs to its end (mw.sleep, mw.now, … work here)", name))
  end
end

-- A context's run stands in its metatable, because plugins can read every field of the context itself.
local raw_metatable = debug.getmetatable

--- The metatable of a run's contexts. `index` is their __index, and proves that it is ours: plugins cannot reach that function.
function M.context_meta(run, index) return { __index = index, __metatable = "mw.context", run = run } end

--- The run of a context that was made with `index`, or nil for anything else.
function M.run_of(ctx, index)
  local meta = type(ctx) == "table" and raw_metatable(ctx)
  return meta and rawget(meta, "__index") == index and meta.run or nil
end

---@class mw.StepContext
---@field id string of the execution
---@field workflow string
---@field step string
---@field attempt integer
---@field input any
---@field results table<string, any> of the steps before, by name
---@field step_key string the same for every attempt of this step, and different for every other
---@field deadline? number when this attempt times out, seconds since 1970
---@field set fun(self: mw.StepContext, state: table) as ctx:set of the body
---@field progress fun(self: mw.StepContext, done: number, total?: number, text?: string) as ctx:progress of the body

local function get_of_context(ctx, key)
  if key == "set" or key == "progress" then return M.live[key] end
  if key == "input" then
    local value = payload.decode(raw_metatable(ctx).run.input_text)
    ctx.input = value
    return value
  elseif key == "step_key" then
    return raw_metatable(ctx).run.id .. "/" .. ctx.step
  elseif key == "deadline" then
    local left = core.left()
    return left and runtime.now_us() / 1e6 + left
  end
  return refused[key]
end

--- The run of a step's context, or nil.
function M.run_of_step(ctx) return M.run_of(ctx, get_of_context) end

--- What shows how far a run is, in a step: live.lua puts it here.
M.live = {}

local function new_context(run, step)
  local meta = run.context_meta
  if not meta then
    meta = M.context_meta(run, get_of_context)
    run.context_meta = meta
  end
  return setmetatable({
    id = run.id, workflow = run.workflow, step = step.name, attempt = run.attempt, results = run.results, input = nil,
  }, meta)
end

-- ---- commits ----

local waitable = { unavailable = true, busy = true, timeout = true, closed = true, io = true, serialization = true }

-- The store is away or slow: the effect has happened, so its record is worth waiting for as long as the server runs.
local function commit_again(run, err)
  local warned = false
  while true do
    if err.code == "stale" then
      run.settled = true
      runtime.log("warn", "workflow", string.format("execution %s went to another owner; this one stops", run.id))
      return nil, err
    elseif not waitable[err.code] then
      return nil, err
    end
    if not warned then
      warned = true
      runtime.log("warn", "workflow", string.format("execution %s waits for the database: %s", run.id, err.message))
    end
    local slept, why = core.sleep(COMMIT_RETRY_S)
    if slept == nil then error(why, 0) end
    local ok
    ok, err = append(run.id, run.fence, run.w_number, run.w_data, run.w_status, run.w_due, run.w_output, run.w_error, nil, run.w_more)
    if ok then return true end
  end
end

--- What goes with a commit beyond a plain one. The end of a run that has a parent or a group does: on PostgreSQL such a write first locks all that
--- its triggers touch.
function M.more_of(run, to, more)
  if run.passes_on and to and status.is_final(to) then return more or {} end
  return more
end

--- Appends one journal row (`data` nil: none) and, when `to` is given, the new status. Returns true once it is durable, or nil, err:
--- "stale" when another owner has the run, or why the row cannot be stored. `more` is as store.append has it.
function M.commit(run, data, to, due_us, output, error_text, more)
  local number = data and run.number + 1 or 0
  local phase = run.phase
  run.phase = "commit"
  more = M.more_of(run, to, more)
  run.w_number, run.w_data, run.w_status, run.w_due, run.w_output, run.w_error = number, data, to, due_us, output, error_text
  run.w_more = more
  local ok, err = append(run.id, run.fence, number, data, to, due_us, output, error_text, nil, more)
  if not ok then
    if err.code == "cancelled" then error(err, 0) end
    ok, err = commit_again(run, err)
    if not ok then
      run.phase = phase
      return nil, err
    end
  end
  run.phase = phase
  if data then run.number = number end
  if to then run.settled = true end
  return true
end

local commit = M.commit

--- True when nothing more may begin here: a newer generation serves, the server drains, or the node's lease may run out (fencing
--- protects writes, not what a step does outside).
function M.must_yield(run)
  local engine = run.engine
  return run.control or not is_current() or engine.is_stopped() or (engine.is_paused(run.workflow) and not run.overrules) or lease_left() <= 0
end

--- What an operator's wish makes of the run: status, error. Undoing is imperative.lua's.
function M.obey(run)
  if run.control == M.PAUSE then return status.PAUSED end
  return status.CANCELLED, M.error_text(M.cancellation(run))
end

--- The error that a cancelled run ends with: the operator's, if there is one.
function M.cancellation(run)
  local said = run.cancel_error and payload.decode(run.cancel_error)
  if type(said) ~= "table" then said = {} end
  return errors.new("cancelled", type(said.message) == "string" and said.message or "the execution was cancelled")
end

--- Gives the run back as it is, to be claimed again soon.
function M.put_back(run, data)
  local due_us = now_us() + PUT_BACK_US
  local ok, err = commit(run, data, status.SLEEPING, due_us)
  run.engine.note_due(due_us)
  return ok, err
end

--- Gives the run back, due at `due_us`; whoever claims it goes on. What an operator wants of it comes first.
function M.release(run, data, due_us)
  local now = now_us()
  if run.control then
    local to, text = M.obey(run)
    if to == status.CANCELLED and not run.engine.cancel_children(run) then return M.put_back(run, data) end
    return commit(run, data, to, due_us or now, nil, text)
  end
  due_us = due_us or now
  local ok, err = commit(run, data, due_us > now and status.SLEEPING or status.QUEUED, due_us)
  run.engine.note_due(due_us)
  return ok, err
end

-- An error's words are shown, not worked with; a plugin may have put a whole page into them.
local MAX_MESSAGE_BYTES = 16 * 1024

--- What a failure looks like in the journal and the API.
function M.error_text(err, step)
  local value = errors.to_json(err)
  if type(value.message) == "string" and #value.message > MAX_MESSAGE_BYTES then
    value.message = value.message:sub(1, MAX_MESSAGE_BYTES):gsub("[\194-\244]?[\128-\191]*$", "") .. " …"
  end
  value.step = step
  return json.encode(value, { sort = true }) or json.encode { code = "error", message = "an error that cannot be shown", step = step }
end

--- Says in the log that the run failed.
function M.log_end(run, message, step)
  runtime.log("warn", "workflow", string.format("execution %s of %q failed%s: %s", run.id, run.workflow,
    step and string.format(" in step %q", step) or "", message), { execution = run.id }, run.def and run.def.plugin)
end

--- Ends the run as failed.
function M.fail(run, data, err, step)
  local ok, why = commit(run, data, status.FAILED, nil, nil, M.error_text(err, step))
  if not ok and why.code ~= "stale" then
    -- It must end all the same, or its last step would run for ever.
    ok, why = commit(run, nil, status.FAILED, nil, nil, M.error_text(errors.new("error",
      string.format("it failed, and what it failed with cannot be stored: %s", why.message)), step))
  end
  if ok then M.log_end(run, errors.from(err).message, step) end
  return ok, why
end

-- ---- attempts ----

--- Out of memory, what the task holds must go first: it ends, and on_fail goes on in a fresh one.
function M.leave_when_full(err)
  if type(err) == "string" and err:find("not enough memory", 1, true) then error(err, 0) end
end

--- Seconds that an attempt may take when the step, or the run, has an end of its own.
function M.time_for(run, step)
  local left = step.timeout
  if step.max_elapsed then left = min(left, step.max_elapsed - (run.t0 - (run.first or run.t0)) / 1e6) end
  if run.deadline_us then left = min(left, (run.deadline_us - run.start_us - run.t0) / 1e6) end
  return max(0.001, left)
end

--- Calls the step's function once. Returns true, result, its JSON text, or false, error. A step that is killed or runs out of time
--- takes the task with it (errors.pcall lets that through): on_fail goes on.
function M.attempt(run, step)
  local ctx = new_context(run, step)
  run.step, run.phase, run.t0 = step, "step", elapsed(run)
  if run.attempt == 1 then run.first = run.t0 end
  local_set(ctx)
  set_timeout((step.max_elapsed or run.deadline_us) and M.time_for(run, step) or step.timeout)
  local ok, value = errors.pcall(step.run, ctx)
  if not ok then M.leave_when_full(value) end
  set_timeout(nil)
  -- Still the step's phase while its result is encoded: one that is too much for that fails the step, or it would run again and again.
  local text, err
  if ok and value ~= nil then text, err = payload.encode(value, "result") end
  if text and run.def.redact then text = redact.seal(run.def.redact, "results", step.name:match("[^/]*$"), text) end
  run.phase = "between"
  if not ok then return false, errors.from(value) end
  if err then
    err.final = true
    return false, err
  end
  return true, value, text
end

local function log_failure(run, step, err, due)
  runtime.log("info", "workflow", string.format("step %q of %q failed, attempt %d%s: %s", step.name, run.workflow, run.attempt,
    due and string.format(", next in %.1f s", due / 1e6) or ", the last", err.message), { execution = run.id, where = err.where },
    run.def.plugin)
end

--- What ended the task of an attempt, as the error of its step.
function M.describe_death(run, err)
  err = errors.from(err)
  local step = run.step
  if run.phase ~= "step" or not step or err.code ~= "timeout" then return err end
  local took = (elapsed(run) - run.t0) / 1e6
  if step.timeout and took >= step.timeout * 0.99 then
    return errors.new("timeout", string.format("step %q took longer than its timeout of %g s", step.name, step.timeout), { where = err.where })
  elseif step.max_elapsed and took >= M.time_for(run, step) * 0.99 then
    return errors.new("timeout", string.format("step %q took longer than its max_elapsed of %g s", step.name, step.max_elapsed), { where = err.where })
  end
  return err
end

--- What a failed attempt means: the journal row, and when the next attempt is due (nil: there is none).
function M.failure_row(run, step, err)
  local ended = elapsed(run)
  run.failures, run.ended = run.failures + 1, ended
  local due
  if run.failures <= step.retries and not err.final and not (step.non_retryable and step.non_retryable[err.code]) then
    due = ended + floor(backoff.delay(step.backoff, run.failures, err) * 1e6)
    if step.max_elapsed and due >= (run.first or run.t0) + step.max_elapsed * 1e6 then due = nil end
  end
  log_failure(run, step, err, due and due - ended)
  local row = journal.failure(step.quoted, run.attempt, run.t0, ended, due or -1, M.error_text(err))
  return row, due and now_us() + due - ended -- not from the virtual start: the clock may have been set back
end

--- Records that the step failed and will be tried again; waits. Returns "again", or "over" when the run is not ours any more.
function M.wait_again(run, row, due_us)
  local released = due_us - now_us() > M.SHORT_WAIT_US or M.must_yield(run)
  local ok, err
  if released then ok, err = M.release(run, row, due_us) else ok, err = commit(run, row) end
  if not ok and err.code ~= "stale" then M.fail(run, nil, err, run.step.name) end
  if released or not ok then return "over" end
  return M.wait_until(run, due_us)
end

function M.wait_until(run, due_us)
  run.due_us = due_us
  local left = due_us - now_us()
  if left > M.SHORT_WAIT_US then
    M.release(run, nil, due_us)
    return "over"
  end
  run.phase = "wait"
  if left > 0 then
    local ok, err = core.sleep(left / 1e6)
    if ok == nil then error(err, 0) end
  end
  run.phase = "between"
  if M.must_yield(run) then
    M.release(run, nil, due_us)
    return "over"
  end
  run.attempt = run.attempt + 1
  return "again"
end

-- ---- resuming ----

--- Takes the counters of a step as the journal has them; waits for its due time. "again" when an attempt may begin.
function M.take_up(run, step, known)
  run.step = step
  if not known then
    run.attempt, run.failures, run.first = 1, 0, nil
    return "again"
  end
  run.attempt, run.failures, run.first = known.attempts + 1, known.failures, known.started
  if known.due and run.start_us + known.due > now_us() then
    run.attempt = known.attempts
    -- It was claimed as due, or had waited in memory: more than a short wait is a clock that was set back, or another node's.
    return M.wait_until(run, min(run.start_us + known.due, now_us() + M.SHORT_WAIT_US))
  end
  return "again"
end

--- The run was running when its owner went away: an attempt that had begun is interrupted. Returns "again", or "over" when that
--- happened too often.
function M.interrupted(run, state, name, quoted)
  local known = name and state.steps[name]
  if known and known.due and run.start_us + known.due > now_us() then return "again" end
  local count = known and known.interruptions or (not name and state.interruptions) or 0
  local attempt = known and known.attempts + 1 or 1
  local row = journal.interruption(quoted or '""', attempt, max(state.at, elapsed(run)))
  if count + 1 > M.MAX_INTERRUPTIONS then
    M.fail(run, row, errors.new("poison", string.format(
      "the server ended %d times while %s ran, so it is not tried again; look for crashes in the log, then retry the execution",
      count + 1, name and string.format("step %q", name) or "the body")), name)
    return "over"
  end
  if not commit(run, row) then return "over" end
  if name then
    if not known then
      known = { name = name, attempts = 0, failures = 0, interruptions = 0, tries = {} }
      state.steps[name] = known
      state.order[#state.order + 1] = known
    end
    known.attempts, known.interruptions, known.due = attempt, count + 1, nil
  else
    state.interruptions = count + 1
  end
  return "again"
end

return M
