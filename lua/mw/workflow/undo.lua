-- SPDX-License-Identifier: MIT

--- Compensation: when a run fails for good, or is cancelled with undo, the `undo` functions of what had finished are called in reverse
--- order. It is durable itself: each is a step ("undo:KEY") with the retries, timeout and waits of the step it undoes, and a run that is
--- interrupted goes on undoing where it was.
--
-- The functions are closures of the body, so the body is run again first, against its journal and no further.
-- An `undo` that fails for good does not keep the others from being called; the run's error names it (`undo_failed`).

local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local payload = require "mw.workflow.payload"
local R = require "mw.workflow.run"
local S = require "mw.workflow.strand"
local status = require "mw.workflow.status"
local step = require "mw.workflow.step"
local writer = require "mw.workflow.writer"

local M = {}

--- An operation that finished, or (undo_on = "started") failed after it may have acted. `text`: its result.
function M.note(strand, key, policy, known, ok, text)
  if not policy.undo or not (ok or policy.undo_on == "started") then return end
  S.may_undo(strand, known, { key = key, policy = policy, text = text })
end

local function undo_step(entry)
  local policy, key = entry.policy, "undo:" .. entry.key
  return {
    name = key, quoted = json.encode(key), retries = policy.retries, timeout = policy.timeout, backoff = policy.backoff,
    max_elapsed = policy.max_elapsed, non_retryable = policy.non_retryable,
    run = function(ctx) return policy.undo(ctx, payload.decode(entry.text)) end,
  }
end

local function by_end(a, b) return a.order > b.order end

-- Calls them all. Returns a list of those that failed.
local function call_all(run)
  local failed = json.array {}
  table.sort(run.undos, by_end)
  for _, entry in ipairs(run.undos) do
    local undo = undo_step(entry)
    local ok, err = step.run(run, undo, run.state.steps[undo.name])
    if not ok then failed[#failed + 1] = { step = entry.key, code = err.code, message = err.message } end
  end
  return failed
end

local function error_text(text, failed)
  if #failed == 0 then return text end
  local value = payload.decode(text)
  value.undo_failed = failed
  return json.encode(value, { sort = true }) or text
end

local function end_as(run, why, text)
  if why == "cancelled" and not run.engine.cancel_children(run) then return R.put_back(run) end
  local ok, err = writer.commit(run, why == "cancelled" and status.CANCELLED or status.FAILED, nil, nil, text)
  if not ok and err.code ~= "stale" then return R.fail(run, nil, err) end
  if ok and why ~= "cancelled" then
    local said = payload.decode(text)
    R.log_end(run, said.message, said.step)
  end
end

local function compensate(run, why, text)
  local known = run.state.undo
  if not known then
    writer.add(run, journal.undo(why, R.elapsed(run), text))
    run.state.undo = { why = why, error = text }
  end
  run.frozen, run.ending, run.over, run.verdict = nil, nil, nil, nil
  run.compensating = true
  if run.control and run.control ~= R.PAUSE then run.control = false end
  run.deadline_us = nil
  local failed = call_all(run)
  end_as(run, why, error_text(text, failed))
end

--- Ends the run: `why` "failed" or "cancelled", with the error it will show. Undoes what can be undone first.
function M.finish(run, why, err, name, wants_undo)
  local text = R.error_text(err, name)
  if not wants_undo or (#run.undos == 0 and not run.state.undo) then return end_as(run, why, text) end
  local ok, reason = errors.pcall(compensate, run, why, text)
  if not ok and not run.over then error(reason, 0) end
end

--- Goes on undoing; the body has been run up to where its journal ends.
function M.go_on(run)
  local known = run.state.undo
  local ok, reason = errors.pcall(compensate, run, known.why, known.error)
  if not ok and not run.over then error(reason, 0) end
end

return M
