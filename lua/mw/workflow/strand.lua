-- SPDX-License-Identifier: MIT

--- A strand: one line of a workflow's body, the body itself or a branch of a parallel group. It knows which operations its journal has and
-- takes them in order, has its own virtual time and random numbers, and waits in its own way.
--
-- The run is the strand of the body itself (strand.root == strand). A branch is a table that looks like its run (metatable) with its own
-- scope prefix order cursor uses virtual generator phase step attempt failures first t0 ended due_us results; it lives in a task of
-- its own, while the run's task looks after the commits (parallel.lua).
--
-- Where nothing may begin any more (drain, reload, an operator, a deadline) the strand stops at its next operation: the body itself by
-- `conclude`, which stores what the run becomes; a branch by waiting until all the others have stopped or wait too.

local core = require "mw.core.task"
local determinism = require "mw.workflow.determinism"
local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local seeded = require "mw.workflow.seeded"
local status = require "mw.workflow.status"
local store = require "mw.core.store"
local writer = require "mw.workflow.writer"

local M = {}

local BODY = { body = true } -- the task's context while body code runs: public effects refuse then
local MAX_OPERATIONS = 10000
local MAX_KEY = 240
local STORE_AWAY_S = 1

local now_us = runtime.now_us

-- ---- body code ----

--- Body code stops here, and something that waits begins.
function M.leave(strand)
  determinism.leave()
  core.local_set(nil)
  strand.phase = "between"
end

--- Body code goes on.
function M.enter(strand)
  strand.phase = "body"
  core.local_set(BODY)
  determinism.enter()
end

-- ---- making them ----

local function set_up(strand, scope)
  strand.scope, strand.prefix = scope, scope == "" and "" or scope .. "/"
  strand.order, strand.cursor, strand.uses = strand.state.scopes[scope] or {}, 0, {}
  strand.generator, strand.step, strand.phase, strand.context_meta = false, false, "between", false
  return strand
end

--- Makes a run the strand of its body, from the top.
function M.begin(run)
  run.root, run.virtual, run.results, run.over, run.verdict = run, 0, {}, nil, nil
  run.undos, run.taken, run.completed, run.operations, run.strands, run.failing = {}, {}, run.state.completed, 0, {}, nil
  writer.open(run)
  return set_up(run, "")
end

--- A branch of the group `key`.
function M.branch(owner, key, name)
  local strand = setmetatable({ virtual = owner.virtual, at = owner.at, first = false, state_of = false }, { __index = owner.root })
  strand.results = {}
  for step, value in next, owner.results do strand.results[step] = value end
  return set_up(strand, key .. ":" .. name)
end

--- The generator of the strand's random numbers.
function M.generator(strand)
  if not strand.generator then strand.generator = seeded.new(strand.id .. strand.seed .. strand.scope) end
  return strand.generator
end

-- ---- ending ----

--- A new one each time: the plugin may catch it, and write into it.
local function released() return errors.new("cancelled", "the execution goes on elsewhere") end

--- Ends the body from inside: what it raises may be caught by the plugin, so run.over says it again at every later call.
local function stop(strand, reason)
  strand.root.over = reason
  error(reason, 0)
end

--- What cannot be stored ends the run.
local function give_up(run, err)
  if err.code ~= "stale" then R.fail(run, nil, err, run.step and run.step.name or nil) end
  stop(run, released())
end

local function status_for(due_us, waits)
  if waits then return status.WAITING end
  return due_us > now_us() and status.SLEEPING or status.QUEUED
end

--- Stores what waits, with a status or without; ends the body when that cannot be.
function M.commit(run, ...)
  local ok, err = writer.commit(run, ...)
  if not ok then give_up(run, err) end
end

--- Stores what becomes of the run now that nothing of it goes on here, and ends the body. Never returns. `due_us` nil: now;
--- `waits`: names of signals.
function M.conclude(run, due_us, waits)
  local verdict = run.verdict
  if verdict then
    M.commit(run, verdict.status, nil, nil, verdict.error)
  elseif run.control and run.control ~= R.PAUSE and not (run.ending or run.frozen or run.compensating) then
    run.ending = { why = "cancelled", err = R.cancellation(run), undo = run.control == R.UNDO }
  elseif run.control == R.PAUSE and not run.frozen then
    M.commit(run, status.PAUSED, due_us or now_us())
  elseif not (run.ending or run.frozen) then
    due_us = due_us or now_us()
    M.commit(run, status_for(due_us, waits), due_us, nil, nil, waits)
    run.engine.note_due(waits and 0 or due_us) -- a signal may have been there already
    if waits and due_us < math.huge then run.engine.note_due(due_us) end
  end
  stop(run, released())
end

--- Whether the run is past its deadline, and so ends.
function M.is_late(run)
  if not run.deadline_us or run.ending or run.frozen or now_us() < run.deadline_us then return false end
  run.ending = { why = "failed", undo = true, err = errors.new("deadline", string.format(
    "the execution took longer than the %g s that its workflow's deadline allows", run.def.deadline)) }
  return true
end

--- Whether the strand may begin nothing.
local function must_stop(strand)
  local run = strand.root
  return M.is_late(run) or run.frozen or run.ending or run.verdict or R.must_yield(run)
end

M.must_stop = must_stop

-- ---- parking a branch ----

--- Lets the run's own task look.
local function poke(run)
  run.poked = true
  local token = run.token
  if token then
    run.token = nil
    core.wake(token)
  end
end
M.poke = poke

--- A branch waits as `state` until the run's task calls `resume`.
function M.park(strand, state)
  if strand.over then error(strand.over, 0) end
  strand.state_of = state
  poke(strand.root)
  while strand.state_of == state and not strand.over do
    strand.token = core.token()
    local _, err = core.park("workflow branch")
    strand.token = nil
    if err then error(err, 0) end
  end
  if strand.over then error(strand.over, 0) end
end

--- The branch ends at whatever it comes to next, also when its run goes on, undoing or from the top.
function M.abandon(strand)
  strand.over = released()
  M.resume(strand)
end

function M.resume(strand)
  strand.state_of = "runs"
  local token = strand.token
  if token then
    strand.token = nil
    core.wake(token)
  end
end

local function is_branch(strand) return strand.root ~= strand end

-- ---- what an operation does ----

--- Before anything new begins. Ends the body when nothing may.
function M.boundary(strand)
  if strand.over then error(strand.over, 0) end
  if not must_stop(strand) then return end
  if is_branch(strand) then M.park(strand, "stopped") end
  M.conclude(strand.root)
end

--- What was added is durable on return.
function M.flush(strand)
  local run = strand.root
  if not is_branch(strand) then return M.commit(run) end
  strand.flush_to = run.added
  if run.flushed < run.added or run.dirty then M.park(strand, "flush") end
end

--- Waits until `due_us` (math.huge: without end) or a signal of that name comes (nil: none). Returns whether it was a signal, which is not
--- taken yet. A long wait ends the body here; the run goes on when it is due.
function M.wait(strand, due_us, signal)
  local run = strand.root
  local deadline = run.deadline_us
  if deadline and not run.frozen and due_us > deadline then due_us = deadline end
  if is_branch(strand) then
    strand.due_us, strand.signal = due_us, signal
    M.park(strand, "waits")
    return strand.signalled
  end
  if must_stop(strand) then M.conclude(run, due_us, signal and { signal }) end
  local left = due_us - now_us()
  if signal or left > R.SHORT_WAIT_US then M.conclude(run, due_us, signal and { signal }) end
  M.commit(run)
  if left <= 0 then return end
  run.phase, run.due_us = "wait", due_us
  local ok, err = core.sleep(left / 1e6)
  if ok == nil then error(err, 0) end
  run.phase = "between"
end

--- Asks the store until it answers. Returns what it said, or raises what will not change.
function M.ask(strand, what, ...)
  while true do
    local value, err = store[what](strand.id, ...)
    if strand.over then error(strand.over, 0) end -- abandoned meanwhile: its run goes on without it
    if value ~= nil then return value end
    if not (err and err.retryable) then error(err or errors.new("error", "the store answered nothing"), 0) end
    local slept, why = core.sleep(STORE_AWAY_S)
    if slept == nil then error(why, 0) end
  end
end

-- ---- order ----

local what_it_is = {
  step = "step %q", sleep = "the sleep %q", wait = "the wait for %q", child = "the call of %q", trigger = "the start of %q", group = "the group %q",
  skip = "the skipped entry %q",
}

local function describe(kind, key) return string.format(what_it_is[kind] or "%q", key) end

--- The body went another way than its journal: it is stuck, with what was expected and what came. Never returns.
function M.diverge(strand, expected, kind, key)
  local run = strand.root
  local actual = key and describe(kind, key) or "the end of the body"
  if strand.scope ~= "" and not key then actual = string.format("the end of the branch %q", strand.scope) end
  local err = errors.new("diverged", string.format(
    "the body went another way than its journal: expected %s, came to %s; it must depend on nothing but its input, its steps' results and ctx",
    describe(expected.kind, expected.name), actual))
  local text = json.encode({ code = err.code, message = err.message, expected = expected.name, actual = key }, { sort = true })
  writer.add(run, journal.divergence(expected.name, key or "", R.elapsed(run)))
  run.verdict = { status = status.STUCK, error = text, reason = err }
  if is_branch(strand) then M.park(strand, "stopped") end
  M.conclude(run)
end

--- The next operation of the body: its key, and what the journal knows of it (nil: it is new).
function M.next(strand, kind, name)
  local uses = (strand.uses[name] or 0) + 1
  strand.uses[name] = uses
  local key = strand.prefix .. (uses == 1 and name or name .. "#" .. uses)
  if #key > MAX_KEY then errors.throw("limit", string.format("%q: the name and those of the groups around it have more than %d bytes", key, MAX_KEY)) end
  local known = strand.order[strand.cursor + 1]
  if known and (known.name ~= key or (known.kind ~= kind and known.kind ~= "skip")) then M.diverge(strand, known, kind, key) end
  strand.cursor = strand.cursor + 1
  local run = strand.root
  if run.replays and not known and not run.came_to then run.came_to = describe(kind, key) end
  run.operations = run.operations + 1
  if run.operations > MAX_OPERATIONS then
    errors.throw("limit", string.format("a run has at most %d steps, waits and children; start further runs with ctx:trigger", MAX_OPERATIONS))
  end
  return key, known
end

--- The body, or a branch, came to its end.
function M.check_end(strand)
  local left = strand.order[strand.cursor + 1]
  if left then M.diverge(strand, left) end
end

--- The operation ended at `at`: virtual time goes on from there.
function M.pass(strand, at)
  if at and at > strand.virtual then strand.virtual = at end
end

--- An operation ended that can be undone: `entry` is undo.lua's. They are undone in the reverse order of their ends.
function M.may_undo(strand, known, entry)
  local run = strand.root
  if known and known.completion then
    entry.order = known.completion
  else
    run.completed = run.completed + 1
    entry.order = run.completed
  end
  run.undos[#run.undos + 1] = entry
end

return M
