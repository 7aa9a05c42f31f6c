-- SPDX-License-Identifier: MIT

--- How long ended runs are kept: by a workflow's `keep`, else by workflow.keep_completed and workflow.keep_failed of the configuration. Runs that have
-- not ended are kept whatever their age.
--
--   retention.start()      -- in a task, on one worker: sweeps every ten minutes until `stop`
--   retention.sweep()      -- how many runs it deleted
--
-- A run goes with its journal and its signals, a hundred at a time with a pause after each, so that nobody waits for it. Runs are found by
-- (workflow, status, id): an id begins with the time of creation, and nothing ends before it is created, so no index is needed for their ends.
-- On PostgreSQL one node does it at a time. Groups that no run is in, and whose rate holds nobody back, go as well: the next run makes its group anew.

local core = require "mw.core.task"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local registry = require "mw._registry"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {
  first_s = 60, every_s = 600, -- mw.testing sweeps when it is told to
}

local BATCH, GROUPS_PAGE, PAUSE_S, TX_S = 100, 500, 0.05, 10
local FIRST = "00000000-0000-0000-0000-000000000000"
local LOCK = 7061727467 -- of pg_try_advisory_xact_lock; ours by its number
local names = { [status.COMPLETED] = "completed", [status.FAILED] = "failed", [status.CANCELLED] = "cancelled" }
local DEFAULTS = { completed = "workflow.keep_completed", failed = "workflow.keep_failed", cancelled = "workflow.keep_failed" }

local function keep_of(workflow, name)
  local def = registry.workflows[workflow]
  return def and def.keep and def.keep[name] or runtime.config(DEFAULTS[name])
end

-- ---- one batch ----

local function marks(count)
  local list = {}
  for i = 1, count do list[i] = "$" .. i end
  return table.concat(list, ", ")
end

local function delete(tx, sql, ids)
  errors.check(tx:query(sql:format(marks(#ids)), ids))
end

local PAGE = "SELECT id, finished_us FROM {{schema}}.executions WHERE workflow = $1 AND status = $2 AND id > $3 AND id < $4 ORDER BY id LIMIT " .. BATCH

local function is_free(tx)
  if store.engine() ~= "postgres" then return true end
  return tostring(errors.check(tx:query("SELECT pg_try_advisory_xact_lock($1) AS free", { LOCK }))[1].free) == "true"
end

-- Deletes what of a page has ended before; returns how many, and the id to go on after (nil: there is no more).
local function delete_page(tx, workflow, number, cutoff_us, after)
  if not is_free(tx) then return 0, nil end
  local rows = errors.check(tx:query(PAGE, { workflow, number, { id = after }, filter.id_at(cutoff_us) }))
  local ids = {}
  for _, row in ipairs(rows) do
    if tonumber(row.finished_us) < cutoff_us then ids[#ids + 1] = { id = row.id } end
  end
  if ids[1] then
    delete(tx, "DELETE FROM {{schema}}.journal WHERE execution IN (%s)", ids)
    delete(tx, "DELETE FROM {{schema}}.signals WHERE execution IN (%s)", ids)
    delete(tx, "DELETE FROM {{schema}}.executions WHERE id IN (%s) AND status >= 8", ids)
  end
  return #ids, #rows == BATCH and rows[#rows].id or nil
end

local function in_transaction(...)
  local tx = errors.check(store.begin("engine", TX_S))
  local ok, count, after = errors.pcall(delete_page, tx, ...)
  local finished, err = tx:finish(ok)
  if not ok then error(count, 0) end
  errors.check(finished, err)
  return count, after
end

-- ---- groups ----

local GROUPS = "SELECT app, workflow, group_key, running, next_us FROM {{schema}}.workflow_groups WHERE (app, workflow, group_key) > ($1, $2, $3)"
  .. " ORDER BY app, workflow, group_key LIMIT " .. GROUPS_PAGE
-- It may have been joined since it was read.
local DELETE_GROUP = "DELETE FROM {{schema}}.workflow_groups WHERE app = $1 AND workflow = $2 AND group_key = $3 AND running = 0 AND next_us < $4"

local function delete_groups(rows)
  local now_us = runtime.now_us()
  for _, row in ipairs(rows) do
    if tonumber(row.running) == 0 and tonumber(row.next_us) < now_us then
      errors.check(store.query("engine", DELETE_GROUP, { row.app, row.workflow, row.group_key, now_us }))
    end
  end
end

-- Whether it came to the end.
local function sweep_groups()
  local after = { "", "", "" }
  repeat
    local rows = errors.check(store.query("engine", GROUPS, after))
    delete_groups(rows)
    local last = rows[#rows]
    if last then after = { last.app, last.workflow, last.group_key } end
    if #rows == GROUPS_PAGE and not (core.sleep(PAUSE_S) and not stopped) then return false end
  until #rows < GROUPS_PAGE
  return true
end

-- ---- the sweep ----

local parked, stopped

local function sweep_status(workflow, number)
  local keep = keep_of(workflow, names[number])
  if not keep then return 0, true end
  local cutoff_us, after, total = runtime.now_us() - keep * 1e6, FIRST, 0
  repeat
    local count
    count, after = in_transaction(workflow, number, cutoff_us, after)
    total = total + count
    if (count > 0 or after) and not (core.sleep(PAUSE_S) and not stopped) then return total, false end
  until not after
  return total, true
end

local function next_workflow(after)
  local rows = errors.check(store.query("engine", "SELECT min(workflow) AS name FROM {{schema}}.executions WHERE workflow > $1", { after }))
  return rows[1] and rows[1].name
end

function M.sweep()
  local total, workflow = 0, next_workflow ""
  while workflow do
    for number in pairs(names) do
      local count, goes_on = sweep_status(workflow, number)
      total = total + count
      if not goes_on then return total end
    end
    workflow = next_workflow(workflow)
  end
  sweep_groups()
  return total
end

local function sweep_safely()
  local ok, count = errors.pcall(M.sweep)
  if not ok then
    if errors.from(count).code == "cancelled" then error(count, 0) end
    runtime.log("warn", "workflow", "ended executions could not be deleted; trying again later: " .. errors.from(count).message)
  elseif count > 0 then
    runtime.log("info", "workflow", string.format("%d ended executions were older than they are kept, and are deleted", count))
  end
end

local function pause(seconds)
  if stopped then return false end
  parked = core.token()
  local _, err = core.park("retention", seconds)
  parked = nil
  return not stopped and core.is_current() and not (err and err.code ~= "timeout")
end

function M.start()
  if not pause(M.first_s) then return end
  repeat sweep_safely() until not pause(M.every_s)
end

function M.stop()
  stopped = true
  if parked then core.wake(parked) end
end

return M
