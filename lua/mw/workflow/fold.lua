-- SPDX-License-Identifier: MIT

--- What a journal says of its run: the one reader of journals (resuming, replay, API, testing).
--
--   local state, err = fold.rows(rows)      -- rows: {number, data} in order
--
--   state: number at order = operations in order of their first mention, steps = operations by key, scopes = operations by scope, in order,
--          open = the step whose attempt began last and did not end, interruptions = of the body since it last came further, diverged = {expected, actual},
--          undo = {why, error, at} once compensation began, completed = how many operations have ended, resets = how often an operator
--          began again, again = by key, how often a result was forgotten by that (nil: never), bundle = the code it was moved to
--   operation: kind name scope started ended done failed result error order
--     step   attempts failures interruptions open due tries; accepted deadline tried: a service has taken it over, and calls back
--     sleep  due          wait  signal deadline form signal_id          child, trigger  id workflow on_cancel status
--     group  branches     skip
--   Times are microseconds since the run's virtual start; results, errors and forms are JSON text.
--
-- The scope of an operation is "" in the body itself, and "GROUP:BRANCH" in a branch of a parallel group; its key then begins with
-- "GROUP:BRANCH/".

local decode = require("mw.workflow.journal").decode

local M = {}

--- A run of which nothing is known.
function M.new() return { number = 0, at = 0, steps = {}, order = {}, scopes = { [""] = {} }, interruptions = 0, completed = 0, resets = 0 } end

local function text_of(box) return box and tostring(box) end

--- The scope of a key.
function M.scope_of(key) return key:match("^(.*)/[^/]*$") or "" end

-- The operation of that key, made at its first mention.
local function operation(state, key, kind)
  local op = state.steps[key]
  if op then return op end
  op = { kind = kind, name = key, scope = M.scope_of(key), attempts = 0, failures = 0, interruptions = 0, tries = {} }
  state.steps[key], state.order[#state.order + 1] = op, op
  if key:sub(1, 5) == "undo:" and state.undo then return op end -- of no scope: undoing has its own order
  local scope = state.scopes[op.scope] or {}
  state.scopes[op.scope] = scope
  scope[#scope + 1] = op
  return op
end

local function end_operation(state, op, at)
  op.ended, state.at, state.interruptions = at, math.max(state.at, at), 0
  if op.completion then return end
  state.completed = state.completed + 1
  op.completion = state.completed
end

local function close(state, op)
  op.open = nil
  if state.open == op then state.open = nil end
end

local function begin(state, key, kind, at)
  local op = operation(state, key, kind)
  op.started, state.at, state.interruptions = op.started or at, math.max(state.at, at), 0
  return op
end

-- What an event does to the state.
local apply = {}

function apply.r(state, event, row)
  local step = operation(state, event[1], "step")
  close(state, step)
  step.attempts, step.done, step.due = event[2], true, nil
  step.started, step.result = step.started or event[3], text_of(row.v)
  step.tries[#step.tries + 1] = { attempt = event[2], started = event[3], ended = event[4], outcome = "completed" }
  end_operation(state, step, event[4])
end

function apply.f(state, event, row)
  local step = operation(state, event[1], "step")
  close(state, step)
  step.attempts, step.failures, step.accepted = event[2], step.failures + 1, nil
  step.started, step.error = step.started or event[3], text_of(row.x)
  step.failed = event[5] < 0 or nil
  step.due = event[5] >= 0 and event[5] or nil
  step.tries[#step.tries + 1] = {
    attempt = event[2], started = event[3], ended = event[4], outcome = "failed", error = step.error, due = step.due,
  }
  step.ended, state.at = event[4], math.max(state.at, event[4])
  if step.failed then end_operation(state, step, event[4]) end
end

function apply.a(state, event)
  local step = begin(state, event[1], "step", event[3])
  step.open, step.due, step.accepted, state.open = event[2], nil, nil, step
end

function apply.i(state, event)
  state.at = math.max(state.at, event[3])
  if event[1] == "" then
    state.interruptions = state.interruptions + 1
    return
  end
  local step = operation(state, event[1], "step")
  step.attempts, step.interruptions = event[2], step.interruptions + 1
  step.started, step.open, step.due = step.started or event[3], event[2] + 1, nil
  step.tries[#step.tries + 1] = { attempt = event[2], ended = event[3], outcome = "interrupted" }
  state.open = step
end

function apply.d(state, event) state.diverged = { expected = event[1], actual = event[2] } end

function apply.q(state, event)
  local step = begin(state, event[1], "step", event[4])
  close(state, step)
  step.attempts, step.accepted, step.deadline, step.due = event[2], event[4], event[5] >= 0 and event[5] or nil, nil
  step.tried = event[3]
end

function apply.s(state, event)
  local op = begin(state, event[1], "sleep", event[3])
  op.due, op.done, op.ended = event[2], true, event[2]
end

function apply.w(state, event, row)
  local op = begin(state, event[1], "wait", event[4])
  op.signal, op.deadline, op.form = event[2], event[3] >= 0 and event[3] or nil, text_of(row.form)
end

function apply.g(state, event, row)
  local op = begin(state, event[1], "wait", event[3])
  op.done, op.signal_id, op.result = true, event[2] ~= "" and event[2] or nil, text_of(row.v)
  end_operation(state, op, event[3])
end

function apply.c(state, event)
  local op = begin(state, event[1], "child", event[5])
  op.id, op.workflow, op.on_cancel = event[2], event[3], event[4]
end

function apply.k(state, event, row)
  local op = begin(state, event[1], "child", event[3])
  op.status, op.result, op.error = event[2], text_of(row.v), text_of(row.x)
  op.done, op.failed = event[2] == "completed" or nil, event[2] ~= "completed" or nil
  end_operation(state, op, event[3])
end

function apply.t(state, event)
  local op = begin(state, event[1], "trigger", event[5])
  op.id, op.workflow, op.on_cancel, op.done = event[2], event[3], event[4], true
  end_operation(state, op, event[5])
end

function apply.p(state, event)
  local op = begin(state, event[1], "group", event[3])
  op.branches = event[2]
end

function apply.e(state, event)
  local op = begin(state, event[1], "skip", event[2])
  op.done = true
  end_operation(state, op, event[2])
end

function apply.n(state, event, row)
  state.undo, state.open, state.at = { why = event[1], at = event[2], error = text_of(row.x) }, nil, math.max(state.at, event[2])
end

function apply.m(state, event) state.bundle, state.diverged = event[1], nil end

-- Forgets the operations of a scope from the one at `index` on, and all that hangs on them.
local function forget_from(state, scope, index, gone)
  local list = state.scopes[scope]
  for i = #list, index, -1 do
    local op = table.remove(list)
    gone[op] = true
    for _, branch in ipairs(op.branches or {}) do
      local inner = op.name .. ":" .. branch
      if state.scopes[inner] then
        forget_from(state, inner, 1, gone)
        state.scopes[inner] = nil
      end
    end
  end
end

local function index_of(list, op)
  for i = 1, #list do if list[i] == op then return i end end
end

local function note_again(state, op)
  if op.kind ~= "step" or not op.done then return end
  state.again = state.again or {}
  state.again[op.name] = (state.again[op.name] or 0) + 1
end

local function drop(state, gone)
  local order = state.order
  state.order = {}
  for _, op in ipairs(order) do
    if gone[op] then note_again(state, op) end
    if gone[op] then state.steps[op.name] = nil else state.order[#state.order + 1] = op end
  end
end

-- An operator has the run begin again from a step: what came of it, and after it, is not known any more. After compensation all of it
-- is, since the steps before are undone.
function apply.R(state, event)
  local op, gone = state.steps[event[1]], {}
  state.resets, state.interruptions, state.open, state.diverged = state.resets + 1, 0, nil, nil
  if not op or state.undo then
    for _, known in ipairs(state.order) do note_again(state, known) end
    state.steps, state.order, state.scopes, state.undo = {}, {}, { [""] = {} }, nil
    return
  end
  forget_from(state, op.scope, index_of(state.scopes[op.scope], op), gone)
  local scope = op.scope
  while scope ~= "" do -- what came after the group it is in
    local group = state.steps[scope:match("^(.*):[^:/]*$")]
    scope = group.scope
    local after = index_of(state.scopes[scope], group) + 1
    if state.scopes[scope][after] then forget_from(state, scope, after, gone) end
  end
  drop(state, gone)
end

-- An event with several of them (a result, and the attempt that began with it) happened in this order.
local kinds = { "r", "f", "i", "a", "d", "q", "s", "w", "g", "c", "k", "t", "p", "e", "n", "m", "R" }

local function apply_all(state, event)
  for i = 1, #kinds do
    local kind = kinds[i]
    if event[kind] then apply[kind](state, event[kind], event) end
  end
end

--- Folds rows into a state; nil and an error for a row of a format that is not known.
function M.rows(rows)
  local state = M.new()
  for i = 1, #rows do
    local events, err = decode(rows[i].data)
    if not events then return nil, err end
    for _, event in ipairs(events) do apply_all(state, event) end
    state.number = rows[i].number
  end
  return state
end

return M
