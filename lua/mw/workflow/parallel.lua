-- SPDX-License-Identifier: MIT

--- Branches of a body that run beside each other: ctx:all and ctx:map.
--
-- Each branch is a strand in a task of its own, and each of its attempts again in one, so that a step which runs out of time ends nothing
-- but itself. The run's own task does all the commits meanwhile: what several branches want stored at the same time is one row. A branch
-- that fails stops no other: when all have ended, the error of the first (in order of names) is raised, so that it is the same one each
-- time the body runs.
--
-- When every branch waits for something far off, the run is given back with the earliest time and all the names of signals.

local core = require "mw.core.task"
local determinism = require "mw.workflow.determinism"
local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local S = require "mw.workflow.strand"
local writer = require "mw.workflow.writer"

local M = {}

local LOOK_EVERY_US = 5e6 -- for signals, while another branch is at work; usually somebody says so

local now_us, min = runtime.now_us, math.min

-- ---- attempts of a branch ----

local function end_attempt(box)
  box.done = true
  box.strand.attempt_handle = nil
  S.resume(box.strand)
end

local function attempt_died(box, err)
  determinism.leave()
  local strand = box.strand
  if strand.over then return end
  err = R.describe_death(strand, err)
  box.value, box.cancelled = err, err.code == "cancelled"
  end_attempt(box)
end

local function run_attempt(box)
  core.on_fail(attempt_died, box)
  box.ok, box.value, box.text = R.attempt(box.strand, box.step)
  end_attempt(box)
end

--- As R.attempt, for any strand.
function M.attempt(strand, step)
  if strand.root == strand then return R.attempt(strand, step) end
  local box = { strand = strand, step = step }
  strand.attempt_handle = core.spawn(run_attempt, strand.what, nil, box)
  while not box.done do S.park(strand, "attempt") end
  if box.cancelled then -- by an operator, or by the server's end
    writer.add(strand.root, journal.interruption(step.quoted, strand.attempt, R.elapsed(strand)))
    S.park(strand, "stopped")
  end
  return box.ok, box.value, box.text
end

--- Ends the attempts that are under way: an operator cancels the run.
function M.cancel_attempts(run)
  for _, strand in ipairs(run.strands or {}) do
    if strand.attempt_handle then strand.attempt_handle:cancel("cancelled", "the execution is cancelled") end
  end
end

--- The run's task goes no further with its branches: theirs end.
function M.abandon(run)
  local strands = run.strands
  if not strands or #strands == 0 then return end
  run.strands = {}
  for _, strand in ipairs(strands) do
    if strand.attempt_handle then strand.attempt_handle:cancel("cancelled", "the execution goes on elsewhere") end
    S.abandon(strand)
  end
end

--- Events for attempts that end with the server.
function M.interruptions(run)
  for _, strand in ipairs(run.strands or {}) do
    if strand.attempt_handle then
      writer.add(run, journal.interruption(strand.step.quoted, strand.attempt, R.elapsed(strand)))
    end
  end
end

-- ---- branches ----

local start

local function remove(strands, strand)
  for i = 1, #strands do
    if strands[i] == strand then
      strands[i] = strands[#strands]
      strands[#strands] = nil
      return
    end
  end
end

local function end_branch(strand, group)
  local run, owner = strand.root, group.owner
  remove(run.strands, strand)
  group.left = group.left - 1
  if strand.over then return end
  start(group)
  if group.left == 0 and owner ~= run then S.resume(owner) end
  S.poke(run)
end

local function branch_died(strand, err)
  determinism.leave()
  local run = strand.root
  err = errors.from(err)
  if strand.over or err.code == "cancelled" then return end
  run.failing = run.failing or err
  run.ending = run.ending or { why = "failed", undo = true, err = err }
  end_branch(strand, strand.group)
end

local function run_branch(strand, group, index)
  core.on_fail(branch_died, strand)
  local branch = group.branches[index]
  S.enter(strand)
  local ok, value = errors.pcall(branch.run, group.new_context(strand), branch.item, index)
  if not ok and not strand.over then R.leave_when_full(value) end
  S.leave(strand)
  if not strand.over then
    if ok then ok, value = errors.pcall(function()
      S.check_end(strand)
      return value
    end) end
    group.ok[index], group.values[index] = ok, value
    if strand.virtual > group.virtual then group.virtual = strand.virtual end
  end
  end_branch(strand, group)
end

-- Starts branches while the group has room.
function start(group)
  local owner = group.owner
  while group.started < #group.branches and group.started - (#group.branches - group.left) < group.concurrency do
    group.started = group.started + 1
    local strand = S.branch(owner, group.key, group.branches[group.started].name)
    strand.group, strand.state_of = group, "runs"
    local strands = owner.root.strands
    strands[#strands + 1] = strand
    core.spawn(run_branch, owner.what, nil, strand, group, group.started)
  end
end

-- ---- the run's task meanwhile ----

local function wake_flushed(run)
  for _, strand in ipairs(run.strands) do
    if strand.state_of == "flush" and run.flushed >= strand.flush_to then S.resume(strand) end
  end
end

-- Who is at work, who stopped, what the others wait for.
local function survey(run)
  local seen = { busy = 0, stopped = 0, due = math.huge, signals = nil }
  for _, strand in ipairs(run.strands) do
    local state = strand.state_of
    if state == "stopped" then
      seen.stopped = seen.stopped + 1
    elseif state == "waits" then
      seen.due = min(seen.due, strand.due_us)
      if strand.signal then
        seen.signals = seen.signals or {}
        seen.signals[#seen.signals + 1] = strand.signal
      end
    elseif state ~= "group" then
      seen.busy = seen.busy + 1
    end
  end
  return seen
end

-- Resumes the branches whose time has come. True when there were some.
local function wake_due(run)
  local now, some = now_us(), false
  for _, strand in ipairs(run.strands) do
    if strand.state_of == "waits" and strand.due_us <= now then
      strand.signalled, some = false, true
      S.resume(strand)
    end
  end
  return some
end

local function wake_signalled(run)
  local names = {}
  for _, signal in ipairs(S.ask(run, "signals")) do names[signal.name] = true end
  for _, strand in ipairs(run.strands) do
    if strand.state_of == "waits" and strand.signal and names[strand.signal] then
      strand.signalled = true
      S.resume(strand)
    end
  end
end

local function park(run, until_us)
  if run.poked then return end
  run.token = core.token()
  local left = until_us < math.huge and math.max(0, (until_us - now_us()) / 1e6) or nil
  local _, err = core.park("workflow", left)
  run.token = nil
  if err and err.code ~= "timeout" then error(err, 0) end
end

-- Nothing is at work: the run waits with its branches, or is given back.
local function idle(run, seen)
  if seen.stopped > 0 or S.must_stop(run) then S.conclude(run, seen.stopped == 0 and seen.due or nil, nil) end
  if seen.signals or seen.due - now_us() > R.SHORT_WAIT_US then S.conclude(run, seen.due, seen.signals) end
  park(run, seen.due)
end

local function busy(run, seen)
  local until_us = seen.due
  if seen.signals then
    if run.look or now_us() >= run.look_us then
      run.look, run.look_us = nil, now_us() + LOOK_EVERY_US
      return wake_signalled(run)
    end
    until_us = min(until_us, run.look_us)
  end
  park(run, until_us)
end

local function turn(run)
  run.poked = false
  if not writer.is_empty(run) then
    S.commit(run)
    return wake_flushed(run)
  end
  wake_flushed(run)
  if wake_due(run) then return end
  local seen = survey(run)
  if seen.busy == 0 then return idle(run, seen) end
  return busy(run, seen)
end

local function look_after(run, group)
  run.look_us = now_us() + LOOK_EVERY_US
  run.phase = "group"
  while group.left > 0 do
    turn(run)
    run.phase = "group" -- not what it stored, or waited for
  end
  run.phase = "between"
end

--- Runs branches ({name, run, item}) of the group `key`, at most `concurrency` at a time, and waits for all. Returns their values by index;
--- raises the error of the first that failed. `new_context(strand)` makes what their functions get.
function M.run(owner, key, branches, concurrency, new_context)
  local group = {
    owner = owner, key = key, branches = branches, concurrency = concurrency, new_context = new_context, started = 0, left = #branches,
    ok = {}, values = {}, virtual = owner.virtual,
  }
  local run = owner.root
  owner.phase = "group"
  start(group)
  if owner == run then
    look_after(run, group)
  else
    while group.left > 0 do S.park(owner, "group") end
  end
  if run.failing then S.boundary(owner) end -- a branch was killed: it has no outcome
  S.pass(owner, group.virtual)
  for i = 1, #branches do
    if not group.ok[i] then error(group.values[i], 0) end
  end
  return group.values
end

return M
