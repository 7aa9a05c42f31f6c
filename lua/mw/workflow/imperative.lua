-- SPDX-License-Identifier: MIT

--- Drives a workflow written as a function. Its body runs from the top after every resume; steps that the journal knows return (or
-- raise) what they did then, without running again.
--
--   mw.workflow("onboarding", function(ctx, input)
--     local user = ctx:step("create", function(s) … s.attempt … end, { retries = 5, timeout = "10s" })
--     for _, list in ipairs(input.lists) do
--       ctx:step("subscribe", function() … end)          -- "subscribe", "subscribe#2", …
--     end
--     return { id = user.id, at = ctx:now() }
--   end)
--
-- ctx: id, workflow, input; step(name, fn, opts); now() seconds of virtual time (the last thing the journal knows); random() as
-- math.random; uuid(). A step that failed for good raises its error, which the body may catch.
--
-- `ctx:step` returns before its result is durable: the commit happens with the next step's attempt, or the end. Nothing of it is visible
-- until then, and the next step's function is called after it. A body that computes for more than 50 ms after a step does not keep the
-- result waiting: it is written by itself then (core/state/late.h).
--
-- A body that asks for another step than the journal has at that place goes no further: the run is `stuck`, with what was expected and
-- what came.

local determinism = require "mw.workflow.determinism"
local define = require "mw.workflow.define"
local core = require "mw.core.task"
local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local payload = require "mw.workflow.payload"
local R = require "mw.workflow.run"
local seeded = require "mw.workflow.seeded"
local status = require "mw.workflow.status"
local store = require "mw.core.store"
local validate = require "mw.validate"

local M = {}

local BODY = { body = true } -- the task's context while body code runs: public effects refuse then
local MAX_STEPS = 10000

local function leave(run)
  determinism.leave()
  core.local_set(nil)
  run.phase = "between"
end

local function enter(run)
  run.phase = "body"
  core.local_set(BODY)
  determinism.enter()
end

-- ---- pending results ----

-- The journal row of the result that is not committed yet, with the attempt that begins now. Nil when there is none, or when it has
-- been written by itself meanwhile (then it is durable on return).
local function take_pending(run, next_step)
  local p = run.pending
  if not p then return nil end
  run.pending = nil
  if p.late and not store.take_late(p.late) and R.commit(run, p.row) then return nil end
  return journal.result(p.quoted, p.attempt, p.started, p.ended, p.text, next_step, next_step and 1 or nil)
end

-- The body goes on: from now on the result may be written by itself.
local function leave_pending(run)
  local p = run.pending
  if not p or p.row then return end
  p.row = journal.result(p.quoted, p.attempt, p.started, p.ended, p.text)
  p.late = store.append_late(run.id, run.fence, run.number + 1, p.row)
end

-- Ends the body from inside: what it raises may be caught by the plugin, so run.over says it again at every later call.
local function stop(run, reason)
  run.over = reason
  error(reason, 0)
end

-- A new one each time: the plugin may catch it, and write into it.
local function released() return errors.new("cancelled", "the execution goes on elsewhere") end

-- A commit in the body's way; whatever cannot be stored ends the run.
local function must_commit(run, data, ...)
  local ok, err = R.commit(run, data, ...)
  if ok then return end
  if err.code ~= "stale" then R.fail(run, nil, err, run.step and run.step.name) end
  stop(run, released())
end

local function diverge(run, expected, actual)
  local err = errors.new("diverged", string.format(
    "the body went another way than its journal: expected step %q, came to %s; it must depend on nothing but its input, its steps' results and ctx",
    expected, actual == "" and "the end of the body" or string.format("step %q", actual)))
  local text = json.encode({ code = err.code, message = err.message, expected = expected, actual = actual ~= "" and actual or nil }, { sort = true })
  local pending = take_pending(run)
  if not pending or R.commit(run, pending) then
    R.commit(run, journal.divergence(expected, actual, R.elapsed(run)), status.STUCK, nil, nil, text)
  end
  return err
end

-- ---- steps ----

-- The unique name of this use: "send", "send#2" …
local function next_key(run, name)
  local uses = (run.uses[name] or 0) + 1
  run.uses[name] = uses
  return uses == 1 and name or name .. "#" .. uses
end

local function step_of(run, key, name, fn, opts)
  local policy = run.def.opts
  if opts ~= nil then
    local what = string.format("ctx:step(%q)", name)
    policy = define.policy(what, validate.options(what, opts, define.step_options), policy)
  end
  return { name = key, quoted = json.encode(key), run = fn, retries = policy.retries, timeout = policy.timeout, backoff = policy.backoff }
end

-- Before the attempt: commits the pending result with it, or hands the run back when nothing may begin here any more.
local function begin(run, step, known)
  if R.must_yield(run) then
    local ok, err = R.release(run, take_pending(run))
    if not ok and err.code ~= "stale" then R.fail(run, nil, err, run.step and run.step.name) end
    stop(run, released())
  end
  if run.pending then must_commit(run, take_pending(run, step.quoted) or journal.attempt(step.quoted, 1, R.elapsed(run))) end
  if R.take_up(run, step, known) ~= "again" then stop(run, released()) end
end

-- Makes attempts until one returns or the last has failed. Returns true, value or false, error.
local function attempts(run, step)
  while true do
    local ok, value, text = R.attempt(run, step)
    if ok then
      run.pending = { quoted = step.quoted, attempt = run.attempt, started = run.t0, ended = R.elapsed(run), text = text }
      return true, payload.copy(value, text)
    end
    local row, due_us = R.failure_row(run, step, value)
    if not due_us then
      must_commit(run, row)
      return false, value
    end
    if R.wait_again(run, row, due_us) ~= "again" then stop(run, released()) end
  end
end

-- The error of a step that failed for good, as the journal has it.
local function error_of(text)
  local value = payload.decode(text) or {}
  return errors.new(value.code or "error", value.message or "the step failed", {
    retryable = value.retryable or false, where = value.where, status = value.status,
  })
end

local function run_step(run, name, fn, opts)
  local key = next_key(run, name)
  local known = run.order[run.cursor + 1]
  if known and known.name ~= key then stop(run, diverge(run, known.name, key)) end
  run.cursor = run.cursor + 1
  if run.cursor > MAX_STEPS then errors.throw("limit", string.format("a run has at most %d steps", MAX_STEPS)) end
  if known and known.done then
    run.virtual = known.ended
    run.results[key] = payload.decode(known.result)
    return true, run.results[key]
  elseif known and known.failed then
    run.virtual = known.ended
    return false, error_of(known.error)
  end
  local step = step_of(run, key, name, fn, opts)
  begin(run, step, known)
  local ok, value = attempts(run, step)
  run.virtual = run.pending and run.pending.ended or run.ended
  if ok then run.results[key] = value end
  return ok, value
end

-- ---- ctx ----

local get_of_body

local function run_of(ctx, what)
  local run = R.run_of(ctx, get_of_body)
  if not run then errors.throw("invalid", "write ctx:" .. what .. "(…) with a colon") end
  if run.over then error(run.over, 0) end
  if run.phase ~= "body" then
    errors.throw("invalid", string.format(
      "ctx:%s cannot run inside a step: a step is one unit of work, so return from it first and call ctx:%s in the body", what, what))
  end
  return run
end

---@class mw.Context
---@field id string
---@field workflow string
---@field input any
---@field results table<string, any> of the steps before, by name
local methods = {}

--- Runs a step, or gives what it did before. A step that failed for good raises its error.
---@param name string
---@param fn fun(ctx: mw.StepContext): any
---@param opts? mw.StepOptions
---@return any
function methods.step(ctx, name, fn, opts)
  local run = run_of(ctx, "step")
  define.check_name("ctx:step", name)
  validate.arg("ctx:step", 2, "fn", fn, "function")
  leave(run)
  local ok, done, value = errors.pcall(run_step, run, name, fn, opts)
  leave_pending(run)
  enter(run)
  if not ok then error(done, 0) end
  if not done then error(value, 0) end
  return value
end

--- Seconds since 1970, the same each time the body runs.
---@return number
function methods.now(ctx)
  local run = run_of(ctx, "now")
  return (run.start_us + run.virtual) / 1e6
end

local function generator(run)
  if not run.generator then run.generator = seeded.new(run.id .. run.seed) end
  return run.generator
end

--- As math.random, the same each time the body runs.
---@param m? integer
---@param n? integer
---@return number
function methods.random(ctx, m, n)
  local unit = generator(run_of(ctx, "random")):unit()
  if m == nil then return unit end
  if n == nil then m, n = 1, m end
  validate.arg("ctx:random", 1, "m", m, "integer")
  validate.arg("ctx:random", 2, "n", n, "integer")
  if n < m then errors.throw("invalid", string.format("ctx:random: the interval %d … %d is empty", m, n)) end
  return m + math.floor(unit * (n - m + 1))
end

--- A UUID, the same each time the body runs.
---@return string
function methods.uuid(ctx) return generator(run_of(ctx, "uuid")):uuid() end

local absent = {}
for _, name in ipairs { "sleep", "sleep_until", "wait_for", "call", "all", "map", "trigger", "transaction", "set", "progress", "flag" } do
  absent[name] = function()
    errors.throw("invalid", string.format(
      "ctx:%s is not part of this version; a body has ctx:step, ctx:now, ctx:random and ctx:uuid", name))
  end
end

function get_of_body(ctx, key)
  if key == "input" then
    local value = payload.decode(R.run_of(ctx, get_of_body).input_text)
    ctx.input = value
    return value
  end
  return methods[key] or absent[key]
end

-- ---- the run ----

local function finish(run, value)
  local last = run.order[run.cursor + 1]
  if last then return diverge(run, last.name, "") end
  local text, err = payload.encode(value, "output")
  if err then return R.fail(run, take_pending(run), err) end
  local step = run.step
  local ok, why = R.commit(run, take_pending(run), status.COMPLETED, nil, text)
  if not ok and why.code ~= "stale" then R.fail(run, nil, why, step and step.name) end
end

--- Runs the body from the top against run.state until the run is over or not ours any more.
function M.drive(run)
  run.order, run.cursor, run.uses, run.virtual, run.pending, run.generator, run.over = run.state.order, 0, {}, 0, nil, nil, nil
  run.results, run.step = {}, nil
  local ctx = setmetatable({ id = run.id, workflow = run.workflow, results = run.results }, R.context_meta(run, get_of_body))
  enter(run)
  local ok, value = errors.pcall(run.def.body, ctx, ctx.input)
  if not ok and not run.over then R.leave_when_full(value) end
  leave(run)
  if run.over then return end
  if ok then return finish(run, value) end
  R.fail(run, take_pending(run), errors.from(value))
end

--- Goes on where the journal ends.
function M.resume(run, state, was_interrupted)
  run.state = state
  if was_interrupted then
    local open = state.open
    if not open then
      local last = state.order[#state.order]
      if last and not last.done and not last.failed then open = last end
    end
    if R.interrupted(run, state, open and open.name, open and json.encode(open.name)) ~= "again" then return end
  end
  return M.drive(run)
end

--- The task died: in a step, or in the body. Returns "reload" when the run should be driven on from the journal.
function M.died(run, err)
  if run.phase == "body" then
    R.fail(run, take_pending(run), err)
    return "over"
  end
  local row, due_us = R.failure_row(run, run.step, err)
  if not due_us then return R.commit(run, row) and "reload" or "over" end
  return R.wait_again(run, row, due_us) == "again" and "reload" or "over"
end

--- The row of a result that waits for what comes next; nil when there is none.
M.leftover = take_pending

--- Fire and forget, outside of a task: what `died` would have stored. The arguments of a commit.
function M.death_row(run, err)
  if run.phase == "body" then return take_pending(run), status.FAILED, nil, nil, R.error_text(err) end
  local row, due_us = R.failure_row(run, run.step, errors.from(err))
  if due_us then return row, status.SLEEPING, due_us end
  return row, status.QUEUED, nil
end

return M
