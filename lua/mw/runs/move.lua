-- SPDX-License-Identifier: MIT

--- Moving a run to other code, and trying that first.
--
--   move.replay(id, "latest")                  -- what replay.run says; nothing is changed
--   move.run(who, id, "latest")                -- what change.run does
--
-- A run is moved when its journal replays on the other code: what it has done so far, that code does in the same order. It is pinned to it from
-- then on, with a row in its journal. One that was stuck or blocked goes on at once; one that failed or was cancelled waits for a retry. One
-- that runs must be paused first. Code: "latest", or the hash of a bundle.

local change = require "mw.runs.change"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local journal = require "mw.workflow.journal"
local loader = require "mw._loader"
local past = require "mw.runs.past"
local replay = require "mw.workflow.replay"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

local COLUMNS = "id, workflow, bundle, seed, status, fence, input, output, created_us"

local function read(id)
  if not filter.is_id(id) then change.not_found(id) end
  local rows = errors.check(store.query("engine", "SELECT " .. COLUMNS .. " FROM {{schema}}.executions WHERE app = $1 AND id = $2", { "default", { id = id:lower() } }))
  local run = rows[1] or change.not_found(id)
  run.status, run.fence, run.created_us = tonumber(run.status), tonumber(run.fence), tonumber(run.created_us)
  return run, errors.check(store.journal(run.id))
end

function M.replay(id, code)
  local run, rows = read(id)
  local report = replay.run(run, rows, code)
  report.id, report.workflow = run.id, run.workflow
  return report
end

-- A run may be pinned to code that is in the store, and to none else.
local function store_code(bundle)
  local code = loader.bundle_code(bundle)
  if code then errors.check(store.put_code(code)) end
end

local function refuse(run)
  if run.owner then change.refuse(run, ", and its owner has it in hand", "pause it first, then move it") end
  if run.status == status.COMPLETED then change.refuse(run, ", so there is nothing to move", "run it again: that takes the code that serves now") end
end

local goes_on = { [status.STUCK] = true, [status.BLOCKED] = true }

local function pin(tx, run, who, bundle)
  local state = past.fold(tx, run.id)
  local columns = goes_on[run.status] and not change.is_in_line(run) and change.ready(run) or { status = run.status }
  columns.bundle = bundle
  change.update(tx, run, columns)
  past.add(tx, run, journal.moved(bundle, past.now(run, state), who.actor))
end

function M.run(who, id, code)
  local before, rows = read(id)
  local def = replay.definition(before, code)
  store_code(def.bundle)
  local report = before.status ~= status.RUNNING and before.bundle ~= def.bundle and replay.run(before, rows, code)
  return change.run(who, "execution.moved", id, function(tx, run, note)
    refuse(run)
    if run.bundle == def.bundle then return nil end
    if not report or run.fence ~= before.fence then errors.throw("serialization", "the execution went on meanwhile; try again") end
    if report.diverges then change.refuse(run, " and cannot be moved: " .. report.message, "`moonwatch runs replay` shows it; a new run takes the new code: rerun it") end
    pin(tx, run, who, def.bundle)
    note.after = { from = before.bundle, to = def.bundle }
    return true
  end)
end

return M
