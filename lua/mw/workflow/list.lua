-- SPDX-License-Identifier: MIT

--- Drives a workflow in list form: entry after entry, one commit a step. "Result of N" and "attempt of N+1" share a commit, so nothing
-- is called before what came before it is durable.

local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local payload = require "mw.workflow.payload"
local R = require "mw.workflow.run"
local status = require "mw.workflow.status"

local M = {}

local attempt, commit, elapsed, must_yield = R.attempt, R.commit, R.elapsed, R.must_yield
local result_row, copy = journal.result, payload.copy

-- The row could not be stored for what it holds (too large, not UTF-8): the step failed, for good.
local function refuse(run, step, err)
  if err.code == "stale" then return end
  err.final = true
  local row = R.failure_row(run, step, err)
  R.fail(run, row, err, step.name)
end

local function finish(run, step, text)
  local row = result_row(step.quoted, run.attempt, run.t0, elapsed(run), text)
  local ok, err = commit(run, row, status.COMPLETED, nil, text)
  if not ok then refuse(run, step, err) end
end

-- Commits a result that is not the last. Returns the next step, or nil when the run is over here.
local function advance(run, step, value, text)
  local steps = run.def.steps
  local next_step = steps[run.index + 1]
  run.results[step.name] = copy(value, text)
  local ok, err
  if must_yield(run) then
    ok, err = R.release(run, result_row(step.quoted, run.attempt, run.t0, elapsed(run), text))
    next_step = nil
  else
    ok, err = commit(run, result_row(step.quoted, run.attempt, run.t0, elapsed(run), text, next_step.quoted, 1))
  end
  if not ok then return refuse(run, step, err) end
  run.index, run.attempt, run.failures = run.index + 1, 1, 0
  return next_step
end

-- Returns the step to try again, or nil when the run is over here.
local function failed(run, step, err)
  local row, due_us = R.failure_row(run, step, err)
  if not due_us then
    R.fail(run, row, err, step.name)
    return nil
  end
  return R.wait_again(run, row, due_us) == "again" and step or nil
end

--- Runs from run.index on, whose attempt has begun, until the run is over or not ours any more.
function M.drive(run)
  local steps = run.def.steps
  local count = #steps
  local step = steps[run.index]
  while step do
    local ok, value, text = attempt(run, step)
    if not ok then
      step = failed(run, step, value)
    elseif run.index == count then
      return finish(run, step, text)
    else
      step = advance(run, step, value, text)
    end
  end
end

--- Goes on where the journal ends.
function M.resume(run, state, was_interrupted)
  local steps = run.def.steps
  local index, output = 1, nil
  while steps[index] do
    local known = state.steps[steps[index].name]
    if not (known and known.done) then break end
    run.results[known.name] = payload.decode(known.result)
    output = known.result
    index = index + 1
  end
  local step = steps[index]
  run.index = index
  if not step then return commit(run, nil, status.COMPLETED, nil, output) end
  if was_interrupted and R.interrupted(run, state, step.name, step.quoted) ~= "again" then return end
  if R.take_up(run, step, state.steps[step.name]) ~= "again" then return end
  return M.drive(run)
end

--- The task died in a step. Records the failure; returns "again" when the run should be driven on from the journal.
function M.died(run, err)
  local step = run.step
  if run.control and err.code == "cancelled" then
    R.release(run, run.phase == "step" and journal.interruption(step.quoted, run.attempt, elapsed(run)) or nil)
    return "over"
  end
  local row, due_us = R.failure_row(run, step, err)
  if not due_us then
    R.fail(run, row, err, step.name)
    return "over"
  end
  return R.wait_again(run, row, due_us)
end

--- Fire and forget, outside of a task: what `died` would have stored. The arguments of a commit.
function M.death_row(run, err)
  local row, due_us = R.failure_row(run, run.step, errors.from(err))
  if due_us then return row, status.SLEEPING, due_us end
  return row, status.FAILED, nil, nil, R.error_text(err, run.step.name)
end

return M
