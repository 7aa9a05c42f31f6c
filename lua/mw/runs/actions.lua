-- SPDX-License-Identifier: MIT

--- Pausing, resuming and retrying one run. Each returns what change.run does; doing it twice is the same as once.
--
--   actions.pause(who, id)             a step under way ends, and its result is stored, before the pause takes effect
--   actions.resume(who, id)            it goes on where it was: a wait goes on waiting, an attempt that has become due begins
--   actions.retry(who, id)             one that waits for its next attempt begins it now; one that ended, is stuck or blocked goes on from
--                                      the step that failed, whose attempts begin anew
--   actions.retry(who, id, "ship")     what the journal says of that step, and of all that came after it, is forgotten; "": of everything
--
-- A pause outlives restarts. Signals that come meanwhile are kept. Whoever takes up a retried run reads in its journal where to begin.

local change = require "mw.runs.change"
local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local past = require "mw.runs.past"
local R = require "mw.workflow.run"
local status = require "mw.workflow.status"
local validate = require "mw.validate"

local M = {}

local function refuse_cancelled(run)
  if run.control >= R.CANCEL and not status.is_final(run.status) then change.refuse(run, " and is being cancelled") end
end

-- ---- pause ----

local function pause(tx, run)
  if run.status == status.PAUSED then return nil end
  if status.is_final(run.status) then change.refuse(run, ", so there is nothing to pause") end
  if run.status == status.STUCK then change.refuse(run, ": it does not run", "retry it, or move it to other code") end
  refuse_cancelled(run)
  if not run.owner then
    change.update(tx, run, { status = status.PAUSED, control = R.PAUSE })
    return true
  end
  if run.control == R.PAUSE then return nil end
  change.update(tx, run, { control = R.PAUSE })
  return "tell"
end

function M.pause(who, id)
  return change.run(who, "execution.paused", id, function(tx, run, note)
    local done = pause(tx, run)
    if done == "tell" then note.tell[1] = run.id end
    return done
  end)
end

-- ---- resume ----

local function resume(tx, run)
  if status.is_final(run.status) then change.refuse(run, ", so there is nothing to resume", "retry it, or run it again") end
  if run.status == status.PAUSED then
    change.update(tx, run, change.ready(run))
    return true
  end
  if not run.owner or run.control ~= R.PAUSE then return nil end
  change.update(tx, run, { control = 0 }) -- it had not come to it yet
  return "tell"
end

function M.resume(who, id)
  return change.run(who, "execution.resumed", id, function(tx, run, note)
    local done = resume(tx, run)
    if done == "tell" then note.tell[1] = run.id end
    return done
  end)
end

--- For the owner that has just paused a run: goes on with it when the pause was taken back while it was stored.
function M.check_pause(id)
  change.run({ actor = "engine" }, "execution.resumed", id, function(tx, run)
    if run.status ~= status.PAUSED or run.control ~= 0 then return nil end
    change.update(tx, run, change.ready(run))
    return true
  end)
end

-- ---- retry ----

local function names_of(state)
  local names = {}
  for _, step in ipairs(state.order) do names[step.name] = true end
  return names
end

local function check_step(run, state, step)
  if step == "" or state.steps[step] then return end
  local near = validate.nearest(step, names_of(state))
  errors.throw("invalid", string.format("the journal of execution %s has no step %q", run.id, step:sub(1, 100)),
    { hint = near and string.format("did you mean %q?", near) or "GET /api/v1/executions/{id} shows its steps; from: \"\" begins at the start" })
end

local function decoded(text)
  local value = text and json.decode(text)
  return type(value) == "table" and value or {}
end

-- The step to go on from when none is named: the one that the run failed with. nil: nothing is to be forgotten.
local function failed_step(run, state)
  if state.undo then return "" end -- what had finished is undone
  local err, order = decoded(run.error), state.order
  local named = err.step and state.steps[err.step]
  if named and not named.done then return named.name end
  for i = #order, 1, -1 do -- in a branch others may have come after it
    if order[i].failed and err.message ~= nil and decoded(order[i].error).message == err.message then return order[i].name end
  end
  local last = order[#order]
  return last and last.failed and last.name or nil
end

-- The group that a scope belongs to: "all" of "all:left".
local function group_of(scope) return scope:match("^(.*):[^:/]*$") end

-- With a step of a branch those that branches beside it failed with.
local function with_siblings(state, step)
  local op, names = state.steps[step], { step }
  local group = op and group_of(op.scope or "")
  for _, other in ipairs(group and state.order or {}) do
    local scope = state.scopes[other.scope]
    if other ~= op and other.failed and scope[#scope] == other and group_of(other.scope) == group then names[#names + 1] = other.name end
  end
  return names
end

local ended = { [status.FAILED] = true, [status.CANCELLED] = true, [status.STUCK] = true, [status.BLOCKED] = true }

local function begin_again(tx, run, who, step)
  local state, steps = past.fold(tx, run.id), { step }
  if step then
    check_step(run, state, step)
  else
    step = failed_step(run, state)
    if step then steps = with_siblings(state, step) end
  end
  change.update(tx, run, change.ready(run))
  if step then past.forget_outcomes(tx, run) end
  for _, name in ipairs(steps) do past.add(tx, run, journal.reset(name, past.now(run, state), who.actor)) end
  return step or true
end

local function make_due(tx, run)
  if change.is_in_line(run) or run.status == status.QUEUED then return nil end
  if run.status == status.WAITING then
    change.refuse(run, " for a signal, and not for an attempt", "send the signal, or retry it from a step: {\"from\":\"NAME\"}")
  end
  if run.status == status.PAUSED then change.refuse(run, ", so nothing of it runs", "resume it, or retry it from a step: {\"from\":\"NAME\"}") end
  if run.status == status.COMPLETED then change.refuse(run, ", so there is nothing to retry", "name a step: {\"from\":\"NAME\"}, or run it again") end
  run.due_us = 0 -- also one that shall begin later begins now
  change.update(tx, run, change.ready(run))
  return true
end

local function retry(tx, run, who, step)
  if run.owner then
    if not step then return nil end
    change.refuse(run, ", and its owner has it in hand", "pause it first, then retry it from the step")
  end
  refuse_cancelled(run)
  if step or ended[run.status] and not change.is_in_line(run) then return begin_again(tx, run, who, step) end
  return make_due(tx, run)
end

function M.retry(who, id, step)
  return change.run(who, "execution.retried", id, function(tx, run, note)
    local done = retry(tx, run, who, step)
    if type(done) == "string" then note.after = { from = done } end
    return done
  end)
end

return M
