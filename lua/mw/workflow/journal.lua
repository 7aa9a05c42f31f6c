-- SPDX-License-Identifier: MIT

--- The rows of an execution's journal: what was attempted and what came of it, one row a commit.
--
-- A row is a format number, a newline, and a JSON object. Times are microseconds since the run's virtual start (its seed has that).
--
--   r = [step, attempt, started, ended]          the attempt returned; `v` is its result (absent: nil)
--   f = [step, attempt, started, ended, due]     it failed; `x` is the error; `due` is when the next may start, -1: there is none
--   a = [step, attempt, at]                      this attempt began
--   i = [step, attempt, at]                      the attempt before was interrupted (step "": the body, outside of steps)
--   d = [expected, actual, at]                   the body went another way than the journal says
--
-- The first attempt of a run's first step is implied by the run's creation or its claim. A row of result and next attempt is one commit.
-- A reader knows its own format and the two before; a newer one is refused with a sentence.

local errors = require "mw.errors"
local json = require "mw.core.json"

local M = { FORMAT = 1, OLDEST = 1 }

local format = string.format
local PREFIX = M.FORMAT .. "\n"
-- string.format writes whole numbers much faster than `..` does.
local RESULT = PREFIX .. '{"r":[%s,%d,%d,%d]'
local VALUE = ',"v":%s'
local NEXT = ',"a":[%s,%d,%d]'
local LAST, LAST_NIL = RESULT .. VALUE .. "}", RESULT .. "}"
local MIDDLE, MIDDLE_NIL = RESULT .. VALUE .. NEXT .. "}", RESULT .. NEXT .. "}"
local RAW = { raw = { v = true, x = true } }

--- A result, and the attempt that begins with the same commit (`next_step` nil: none). Steps are quoted JSON strings.
function M.result(step, attempt, started, ended, text, next_step, next_attempt)
  if not next_step then
    if not text then return format(LAST_NIL, step, attempt, started, ended) end
    return format(LAST, step, attempt, started, ended, text)
  end
  if not text then return format(MIDDLE_NIL, step, attempt, started, ended, next_step, next_attempt, ended) end
  return format(MIDDLE, step, attempt, started, ended, text, next_step, next_attempt, ended)
end

--- A failed attempt; `due` is -1 when there will be no other. `error_text` is JSON.
function M.failure(step, attempt, started, ended, due, error_text)
  return PREFIX .. '{"f":[' .. step .. "," .. attempt .. "," .. started .. "," .. ended .. "," .. due .. '],"x":' .. error_text .. "}"
end

--- An attempt begins, in a commit of its own.
function M.attempt(step, attempt, at)
  return PREFIX .. '{"a":[' .. step .. "," .. attempt .. "," .. at .. "]}"
end

function M.interruption(step, attempt, at)
  return PREFIX .. '{"i":[' .. step .. "," .. attempt .. "," .. at .. "]}"
end

function M.divergence(expected, actual, at)
  return PREFIX .. json.encode { d = json.array { expected, actual, at } }
end

local function text_of(box) return box and tostring(box) end

-- The step of that name, made at its first mention.
local function step_of(state, name)
  local step = state.steps[name]
  if not step then
    step = { name = name, attempts = 0, failures = 0, interruptions = 0, tries = {} }
    state.steps[name] = step
    state.order[#state.order + 1] = step
  end
  return step
end

-- What an event does to the state.
local apply = {}

function apply.r(state, event, row)
  local step = step_of(state, event[1])
  step.attempts, step.done, step.open, step.due = event[2], true, nil, nil
  step.started, step.ended, step.result = step.started or event[3], event[4], text_of(row.v)
  step.tries[#step.tries + 1] = { attempt = event[2], started = event[3], ended = event[4], outcome = "completed" }
  state.open, state.at = nil, event[4]
end

function apply.f(state, event, row)
  local step = step_of(state, event[1])
  step.attempts, step.failures, step.open = event[2], step.failures + 1, nil
  step.started, step.ended, step.error = step.started or event[3], event[4], text_of(row.x)
  step.failed = event[5] < 0 or nil
  step.due = event[5] >= 0 and event[5] or nil
  step.tries[#step.tries + 1] = {
    attempt = event[2], started = event[3], ended = event[4], outcome = "failed", error = step.error, due = step.due,
  }
  state.open, state.at = nil, event[4]
end

function apply.a(state, event)
  local step = step_of(state, event[1])
  step.open, step.started = event[2], step.started or event[3]
  state.open, state.at = step, event[3]
end

function apply.i(state, event)
  if event[1] == "" then
    state.interruptions = state.interruptions + 1
  else
    local step = step_of(state, event[1])
    step.attempts, step.interruptions = event[2], step.interruptions + 1
    step.started, step.open, step.due = step.started or event[3], event[2] + 1, nil
    step.tries[#step.tries + 1] = { attempt = event[2], ended = event[3], outcome = "interrupted" }
    state.open = step
  end
  state.at = math.max(state.at, event[3])
end

function apply.d(state, event)
  state.diverged = { expected = event[1], actual = event[2] }
end

--- Decodes one row; raises nothing, returns nil and an error for a format it does not know.
function M.decode(data)
  local format, text = data:match("^(%d+)\n(.*)$")
  format = tonumber(format)
  if not format or format < M.OLDEST or format > M.FORMAT then
    return nil, errors.new("version", string.format(
      "a journal row of format %s; this version of Moonwatch reads %d to %d, so run the version that wrote it",
      tostring(format or data:sub(1, 12)), M.OLDEST, M.FORMAT))
  end
  return json.decode(text, RAW)
end

--- Folds rows ({number, data} in order) into what is known of a run:
--- { number, at, steps = by name, order = steps in order, open = the step whose attempt began and did not end,
---   interruptions = of the body, diverged }. A step has attempts failures interruptions started ended done failed result error due tries;
--- result and error are JSON text.
function M.fold(rows)
  local state = { number = 0, at = 0, steps = {}, order = {}, interruptions = 0 }
  for i = 1, #rows do
    local row, err = M.decode(rows[i].data)
    if not row then return nil, err end
    if row.r then apply.r(state, row.r, row) end
    if row.f then apply.f(state, row.f, row) end
    if row.i then apply.i(state, row.i) end
    if row.a then apply.a(state, row.a) end
    if row.d then apply.d(state, row.d) end
    state.number = rows[i].number
  end
  return state
end

return M
