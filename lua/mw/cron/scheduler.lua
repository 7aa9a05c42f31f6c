-- SPDX-License-Identifier: MIT

--- Looks after the declared cron jobs on one worker of a process: deals with ticks as they come due. Several nodes (and two generations during a
--- reload) may do so at the same time: a tick is for whoever inserts its row, and its execution has the tick as its id, so that dealing with it
--- again after a crash starts nothing twice.
--
--   scheduler.start()     in a task; ends when another generation serves or the server drains
--   scheduler.wake()      something changed: look now
--   scheduler.stop()

local core = require "mw.core.task"
local errors = require "mw.errors"
local journal = require "mw.cron.journal"
local json = require "mw.core.json"
local registry = require "mw._registry"
local runtime = require "mw._runtime"
local workflow = require "mw.workflow"

local M = {}

-- A tick that is dealt with later than this was missed.
local GRACE_S = 60
local RETRY_S = 1
local LONGEST_WAIT_S = 30 -- also for pauses and lost ticks of other nodes
local MAX_QUEUED = 100
local MAX_AT_ONCE = 1000 -- ticks of one job that are looked at in a row

local stopped, parked, woken = false, nil, false
local jobs = {} -- by name: { job, last_s }

local function serves() return not stopped and core.is_current() end

function M.wake()
  woken = true
  local token = parked
  parked = nil
  if token then core.wake(token) end
end

function M.stop()
  stopped = true
  M.wake()
end

-- ---- one tick ----

-- Depends on nothing but job and tick, so that every node waits the same.
local function jitter_s(job, tick_s)
  if job.jitter == 0 then return 0 end
  local hash = 5381
  local text = job.name .. "/" .. tick_s
  for i = 1, #text do hash = (hash * 33 + text:byte(i)) % 4294967296 end
  return hash / 4294967296 * job.jitter
end

--- The external id of a tick's execution.
function M.id_of(job, tick_s) return "cron/" .. job.name .. "/" .. job.schedule:format(tick_s) end

-- Starts the tick's execution, or finds the one that was started before.
local function fire(job, tick_s)
  local input = json.encode { scheduled_at = job.schedule:format(tick_s) }
  local id, err = workflow.create(job.workflow, input, { id = M.id_of(job, tick_s) })
  if not id then errors.raise(err) end
  journal.settle(job.name, tick_s * 1e6, "fired", nil, id)
  return id
end

local function skip(job, tick_s, reason)
  journal.settle(job.name, tick_s * 1e6, "skipped", reason)
  runtime.log("info", "cron", string.format("the tick %s of %q is skipped: %s", job.schedule:format(tick_s), job.name, reason), nil, job.plugin)
end

-- A tick that is ours: runs it, lets it wait, or passes it over.
local function deal_with(job, tick_s)
  local other = job.overlap ~= "allow" and journal.unfinished(job.name, tick_s * 1e6)
  if not other then return fire(job, tick_s) end
  if job.overlap == "skip" then return skip(job, tick_s, "the execution before, " .. other .. ", still runs") end
  if journal.count_queued(job.name) >= MAX_QUEUED then return skip(job, tick_s, MAX_QUEUED .. " ticks wait already") end
  journal.settle(job.name, tick_s * 1e6, "queued", "waits for " .. other)
end

local function claim_and_skip(job, tick_s, reason)
  if journal.claim(job.name, tick_s * 1e6) then skip(job, tick_s, reason) end
end

local function claim_and_deal(job, tick_s)
  if journal.claim(job.name, tick_s * 1e6) then deal_with(job, tick_s) end
end

-- ---- what has come due ----

-- Ticks after `last_s` that are due at `now_s`, split into those that were missed and those that come in time. `count` counts the missed ones,
-- of which only the last misfire_max are kept.
local function due_ticks(state, now_s)
  local job, missed, timely, count = state.job, {}, {}, 0
  local tick = job.schedule:next(state.last_s)
  while tick and tick + jitter_s(job, tick) <= now_s and #timely < MAX_AT_ONCE do
    if now_s - tick - jitter_s(job, tick) > GRACE_S then
      count = count + 1
      missed[#missed + 1] = tick
      if #missed > job.misfire_max then table.remove(missed, 1) end
      if count % 100000 == 0 then core.sleep(0) end -- years of every second
    else
      timely[#timely + 1] = tick
    end
    state.last_s = tick
    tick = job.schedule:next(tick)
  end
  state.next_s = tick and tick + jitter_s(job, tick)
  return missed, timely, count
end

local function make_up(job, missed, count, has_timely)
  local last = missed[#missed]
  local words = count == 1 and "no server dealt with it in time" or string.format("no server dealt with it and %d before it in time", count - 1)
  if job.misfire == "all" then
    for _, tick in ipairs(missed) do claim_and_deal(job, tick) end
  elseif job.misfire == "once" and not has_timely then
    claim_and_deal(job, last)
  else
    claim_and_skip(job, last, words .. (job.misfire == "once" and "; the next tick has come" or ""))
  end
end

local function look_at(state, now_s)
  local job = state.job
  local last_us, paused_by = journal.read(job.name)
  if last_us and last_us / 1e6 > state.last_s then state.last_s = last_us / 1e6 end
  local before_s = state.last_s
  local missed, timely, count = due_ticks(state, now_s)
  if state.last_s == before_s then return end
  if paused_by then
    claim_and_skip(job, state.last_s, "paused by " .. paused_by)
  else
    if count > 0 then make_up(job, missed, count, #timely > 0) end
    for _, tick in ipairs(timely) do claim_and_deal(job, tick) end
  end
  journal.advance(job.name, state.last_s * 1e6)
end

-- Ticks that wait for the one before, and those whose node went away while it dealt with them.
local function look_at_open(now_us)
  local waiting = {}
  for _, row in ipairs(journal.open(now_us)) do
    local state = jobs[row.name]
    if state and not waiting[row.name] then
      if row.status == "claimed" or not journal.unfinished(row.name, row.tick_us) then deal_with(state.job, row.tick_us / 1e6) end
      waiting[row.name] = row.status == "queued"
    end
  end
  return next(waiting) ~= nil
end

-- ---- the loop ----

local function declare_all(now_us)
  for name, job in pairs(registry.crons) do
    if not jobs[name] then
      local known = journal.declare(job, now_us)
      jobs[name] = { job = job, last_s = known.last_us / 1e6, next_s = 0 }
    end
  end
end

-- Deals with what is due; returns the seconds until something is, by the clock that was read.
local function round()
  local now_us = journal.now_us()
  declare_all(now_us)
  local waits = look_at_open(now_us)
  local now_s, soonest = now_us / 1e6, math.huge
  for _, state in pairs(jobs) do
    if state.next_s and state.next_s <= now_s then look_at(state, now_s) end
    if state.next_s and state.next_s < soonest then soonest = state.next_s end
  end
  return math.max(0.001, math.min(soonest - now_s, waits and RETRY_S or LONGEST_WAIT_S))
end

local function wait(seconds)
  if woken or not serves() then return end
  parked = core.token()
  local _, err = core.park("cron", seconds)
  parked = nil
  if err and err.code == "cancelled" then stopped = true end
end

local function on_end(_, err)
  if not serves() then return end
  runtime.log("error", "cron", "the scheduler ended and is started again: " .. errors.from(err).message)
  core.spawn(M.start, "cron", nil)
end

--- Deals with ticks until this generation does not serve any more.
function M.start()
  if next(registry.crons) == nil then return end
  core.on_fail(on_end)
  while serves() do
    woken = false
    local ok, seconds = errors.pcall(round)
    if not ok then
      local err = errors.from(seconds)
      if err.code == "cancelled" then error(err, 0) end
      runtime.log("warn", "cron", "ticks cannot be dealt with; trying again: " .. err.message)
      jobs = {} -- to be read anew: some ticks may have been looked at and not dealt with
      seconds = RETRY_S
    end
    wait(seconds)
  end
end

return M
