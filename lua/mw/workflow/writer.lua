-- SPDX-License-Identifier: MIT

--- What the imperative form has to record and has not stored yet. Events wait for the next commit of their run, which is one row and one
-- transaction for all of them: the result of a step goes with the attempt of the next, and what the branches of a parallel group have
-- to say at the same time is stored together.
--
--   writer.add(run, event)                      goes with the next commit; event: a row of journal.lua
--   writer.add(run, event, signal_id)           … which takes that signal
--   writer.commit(run, status, due, …)          stores what waits, and the status
--   writer.leftover(run) -> row, more           takes what waits, for who stores it by itself
--
-- Only the run's own task commits; branches ask for it (strand.flush). A body that computes for more than 50 ms does not keep a result
-- waiting: it is written by itself then (core/state/late.h).

local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local payload = require "mw.workflow.payload"
local R = require "mw.workflow.run"
local store = require "mw.core.store"

local M = {}

--- Prepares a run for what follows.
function M.open(run)
  run.events, run.takes, run.added, run.flushed, run.late, run.dirty = {}, {}, 0, 0, nil, nil
end

-- What was to be written by itself is ours again, or durable.
local function settle_late(run)
  local late = run.late
  if not late then return end
  run.late = nil
  if store.take_late(late) then return end
  local row = journal.join(run.events)
  if R.commit(run, row) then
    run.events, run.flushed = {}, run.added
  end
end

function M.add(run, event, signal_id)
  if run.late then settle_late(run) end
  run.events[#run.events + 1], run.added = event, run.added + 1
  if signal_id then run.takes[#run.takes + 1] = signal_id end
end

--- The body goes on: from now on what waits may be written by itself.
function M.leave(run)
  if run.late or #run.events == 0 or #run.takes > 0 then return end
  run.late = store.append_late(run.id, run.fence, run.number + 1, journal.join(run.events))
end

function M.is_empty(run) return #run.events == 0 and not run.dirty end

-- Takes as many events as make a row, which holds as much as one result may be; whether they are all.
local function take(run)
  local events, bytes, most = run.events, 0, payload.limit()
  for i = 1, #events do
    bytes = bytes + #events[i]
    if bytes > most and i > 1 then
      local part, rest = {}, {}
      for k = 1, #events do
        local list = k < i and part or rest
        list[#list + 1] = events[k]
      end
      run.events = rest
      return part, false
    end
  end
  run.events = {}
  return events, true
end

local function more_of(run, is_last, waits)
  local takes, dirty = run.takes, run.dirty
  if not is_last or not (#takes > 0 or dirty or waits) then return nil end
  run.takes, run.dirty = {}, nil
  return { take = #takes > 0 and takes or nil, state = dirty, waits = waits }
end

--- Stores what waits with a new status (nil: none). Returns true, or nil, err as R.commit.
function M.commit(run, to, due_us, output, error_text, waits)
  if run.replays then return nil, errors.new("stale", "a replay stores nothing") end
  if run.late then settle_late(run) end
  while true do
    local events, is_last = take(run)
    local more = more_of(run, is_last, waits)
    if is_last and #events == 0 and not to and not more then return true end
    local count = #events
    local ok, err
    if is_last then
      ok, err = R.commit(run, count > 0 and journal.join(events) or nil, to, due_us, output, error_text, more)
    else
      ok, err = R.commit(run, journal.join(events))
    end
    if not ok then return nil, err end
    run.flushed = run.flushed + count
    if is_last then return true end
  end
end

--- Takes all that waits, outside of a task where nothing can be asked: row or nil, more or nil.
function M.leftover(run)
  local events = run.events
  if not events or #events == 0 then return nil end
  run.late = nil -- written twice it is written once: the same number, under the same fence
  run.events = {}
  return journal.join(events), more_of(run, true)
end

return M
