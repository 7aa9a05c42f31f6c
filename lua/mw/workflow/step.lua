-- SPDX-License-Identifier: MIT

--- Steps of the imperative form: attempts until one returns or the last has failed, with durable waits between them.
--
--   local made = step.new(strand, "ctx:step(\"charge\")", key, fn, opts)
--   local ok, value = step.run(strand, made, known)       -- known: what the journal has of it (nil: nothing)
--
-- A result returns before it is durable: its commit happens with the next operation. Nothing of it is visible until then, and the next
-- step's function is called after it.

local errors = require "mw.errors"
local http = require "mw.workflow.http"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local parallel = require "mw.workflow.parallel"
local payload = require "mw.workflow.payload"
local policy = require "mw.workflow.policy"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local S = require "mw.workflow.strand"
local validate = require "mw.validate"
local waits = require "mw.workflow.waits"
local writer = require "mw.workflow.writer"

local M = {}

local min, now_us = math.min, runtime.now_us
local RAW = { raw = { output = true, error = true } }

--- A step with its policy: the workflow's, changed by what `opts` says. `what` is what errors call it.
function M.new(strand, what, key, fn, opts)
  local p = strand.def.opts
  if opts ~= nil then p = policy.of(what, validate.options(what, opts, policy.step_options), p) end
  return {
    name = key, quoted = json.encode(key), run = fn, retries = p.retries, timeout = p.timeout, backoff = p.backoff,
    max_elapsed = p.max_elapsed, non_retryable = p.non_retryable, undo = opts and opts.undo, undo_on = opts and opts.undo_on,
  }
end

--- The error of an operation that failed for good, as the journal has it.
function M.error_of(text)
  local value = text and payload.decode(text)
  if type(value) ~= "table" then value = {} end
  local code = type(value.code) == "string" and value.code or "error"
  if code == "cancelled" then code = "child_cancelled" end -- that word ends the task that raises it
  return errors.new(code, value.message or "the step failed", {
    retryable = value.retryable or false, where = value.where, status = value.status,
  })
end

local error_of = M.error_of

-- Takes the counters as the journal has them; waits for its due time.
local function take_up(strand, step, known)
  strand.step = step
  if not known then
    strand.attempt, strand.failures, strand.first = 1, 0, false
    return
  end
  strand.attempt, strand.failures, strand.first = known.attempts + 1, known.failures, known.started
  if not known.due then return end
  local due_us = strand.start_us + known.due
  -- It was claimed as due, or had waited in memory: more than a short wait is a clock that was set back, or another node's.
  if due_us > now_us() then S.wait(strand, min(due_us, now_us() + R.SHORT_WAIT_US)) end
end

-- Before the first attempt here: what came before is durable, and so is that it begins.
local function begin(strand, step, known)
  S.boundary(strand)
  local run = strand.root
  if strand ~= run or not writer.is_empty(run) then
    if not known or not known.due then
      writer.add(run, journal.attempt(step.quoted, known and known.attempts + 1 or 1, R.elapsed(strand)))
    end
    S.flush(strand)
    S.boundary(strand) -- somebody may have said so meanwhile; the attempt has not begun and counts for nothing
  end
  take_up(strand, step, known)
end

-- A service has taken the step over: waits for what it says. As an attempt's outcome; the signal's id as the fourth.
local function outcome(strand, step, deadline)
  local signal = waits.signal(strand, "$step:" .. step.name, deadline and strand.start_us + deadline or math.huge)
  if not signal then
    return false, errors.new("timeout", string.format("the service behind step %q took it over and did not call back in time", step.name))
  end
  local what = json.decode(signal.data, RAW)
  if what.status == "completed" then
    local text = what.output and tostring(what.output)
    if text == "null" then text = nil end
    return true, payload.decode(text), text, signal.id
  end
  local said = payload.decode(tostring(what.error)) or {}
  local err = error_of(tostring(what.error))
  err.final = said.retryable == false or nil
  return false, err, nil, signal.id
end

-- One attempt, to its outcome.
local function attempt(strand, step)
  local run = strand.root
  local ok, value, text = parallel.attempt(strand, step)
  if not ok or value ~= http.ACCEPTED then return ok, value, text end
  local at = R.elapsed(strand)
  local deadline = at + math.floor(step.callback_timeout * 1e6)
  writer.add(run, journal.accepted(step.name, strand.attempt, strand.t0, at, deadline))
  return outcome(strand, step, deadline)
end

--- Makes attempts until one returns or the last has failed. Returns true, value, text, signal or false, error.
local function attempts(strand, step, known)
  local run = strand.root
  while true do
    local ok, value, text, signal
    if known and known.accepted and not known.due then
      strand.attempt, strand.t0 = known.attempts, known.tried
      ok, value, text, signal = outcome(strand, step, known.deadline)
    else
      ok, value, text, signal = attempt(strand, step)
    end
    known = nil
    if ok then return true, value, text, signal end
    local row, due_us = R.failure_row(strand, step, value)
    writer.add(run, row, signal)
    if not due_us then return false, value end
    S.wait(strand, due_us)
    S.boundary(strand)
    strand.attempt = strand.attempt + 1
  end
end

-- What the step did before, if it has ended: true, ok, value.
local function recall(strand, known)
  if known and known.done then
    S.pass(strand, known.ended)
    return true, true, payload.decode(known.result)
  elseif known and known.failed then
    S.pass(strand, known.ended)
    return true, false, error_of(known.error)
  end
end

--- Runs a step, or gives what it did before. Returns true, value or false, error; the text of the result as the third.
function M.run(strand, step, known)
  local ended, ok, value = recall(strand, known)
  if ended then return ok, value, known.result end
  if known and known.accepted and not known.due then
    strand.step, strand.failures, strand.first = step, known.failures, known.started
  else
    begin(strand, step, known)
  end
  local text, signal
  ok, value, text, signal = attempts(strand, step, known)
  local at = R.elapsed(strand)
  if ok then
    writer.add(strand.root, journal.result(step.quoted, strand.attempt, strand.t0, at, text), signal)
    value = payload.copy(value, text)
  end
  S.pass(strand, ok and at or strand.ended)
  return ok, value, text
end

return M
