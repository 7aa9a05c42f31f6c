-- SPDX-License-Identifier: MIT

--- One change of one run by an operator. The run's row is locked (on SQLite the transaction has the writer), so what is decided about it holds
-- until it commits, together with its rows in `audit` and `changes`.
--
--   local outcome = change.run(who, "execution.paused", id, function(tx, run, note)
--     change.update(tx, run, { status = status.PAUSED, … })
--     return true                                   -- nil: it stays as it is, and nothing is noted
--   end)
--   -- { id, workflow, status, control, changed }
--
-- An owned run (`run.owner`) is its owner's: only `control` may be written, which the owner reads at its next step boundary; change.tell makes
-- it look at once, after the commit. A run that nobody owns may be set to anything; its fence grows, so that a claim before is worth nothing.
--
-- Raises not_found, conflict (what `decide` raises), and what the database says; a transaction that was in another's way is tried again.

local audit = require "mw.audit"
local engine = require "mw.workflow.engine"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

local TRIES = 4
local COLUMNS = "id, app, workflow, status, owner, fence, due_us, control, bundle, seed, error, created_us, started_us, group_key, slot, parent, parent_key"
local NUMBERS = { "status", "owner", "fence", "due_us", "control", "created_us", "started_us", "slot" }
local IDS = { parent = true }

--- Stands for NULL in an update.
M.NULL = {}

function M.not_found(id)
  errors.throw("not_found", string.format("there is no execution %q", tostring(id):sub(1, 100)), { hint = "GET /api/v1/executions lists them" })
end

--- Refuses what the run's status does not allow.
function M.refuse(run, what, hint)
  errors.throw("conflict", string.format("execution %s is %s%s", run.id, status.name(run.status), what), { hint = hint })
end

local function read(tx, sql, params)
  local rows = errors.check(tx:query(sql, params))
  for _, row in ipairs(rows) do
    for _, name in ipairs(NUMBERS) do row[name] = row[name] ~= nil and tonumber(row[name]) or nil end
  end
  return rows
end

local function lock() return store.engine() == "sqlite" and "" or " FOR NO KEY UPDATE" end

--- The row of a run, locked; nil when there is none.
function M.lock(tx, id)
  return read(tx, "SELECT " .. COLUMNS .. " FROM {{schema}}.executions WHERE app = $1 AND id = $2" .. lock(), { "default", { id = id } })[1]
end

--- The unfinished children of a run, locked, at most `limit`.
function M.lock_children(tx, id, limit)
  return read(tx, "SELECT " .. COLUMNS .. " FROM {{schema}}.executions WHERE parent = $1 AND status < 8 ORDER BY id LIMIT " .. limit .. lock(), { { id = id } })
end

--- Writes columns of a locked run, and `run` itself. `control` alone leaves the fence as it is.
function M.update(tx, run, columns)
  local params, sets = { { id = run.id } }, {}
  local names = {}
  if columns.status then columns.fence, columns.owner = run.fence + 1, M.NULL end
  for name in pairs(columns) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = columns[name]
    if value == M.NULL then
      sets[#sets + 1] = name .. " = NULL"
      run[name] = nil
    else
      params[#params + 1] = IDS[name] and { id = value } or value
      sets[#sets + 1] = name .. " = $" .. #params
      run[name] = value
    end
  end
  errors.check(tx:query("UPDATE {{schema}}.executions SET " .. table.concat(sets, ", ") .. " WHERE id = $1", params))
end

--- The columns that put a run up for claiming. One of a group that has no slot goes into the group's line instead; one that has not begun and
--- shall not yet goes on sleeping.
function M.ready(run)
  local now = math.floor(runtime.now_us())
  local columns = { control = 0, error = M.NULL, output = M.NULL, finished_us = M.NULL }
  if not run.started_us and run.due_us > now then
    columns.status = status.SLEEPING
    return columns
  end
  columns.status, columns.due_us = run.group_key and run.slot == 0 and status.BLOCKED or status.QUEUED, now
  return columns
end

--- True for a run of a group that waits for a slot, and not for its code.
function M.is_in_line(run) return run.status == status.BLOCKED and run.group_key ~= nil and run.slot == 0 end

--- Its owner, on this node or another, looks at the run's control now. After the commit.
function M.tell(id)
  runtime.tell_control(id)
  store.notify(id)
end

local function outcome_of(run, is_changed)
  local is_asked = run.status ~= status.PAUSED and not status.is_final(run.status)
  return {
    id = run.id, workflow = run.workflow, status = status.name(run.status), control = is_asked and R.control_names[run.control] or nil, changed = is_changed,
  }
end

local UNCHANGED = {}

local function attempt(who, action, id, decide)
  local outcome, told = nil, {}
  local note = { actor = who.actor, action = action, subject = "execution " .. id, tell = told }
  local function change(tx)
    local run = M.lock(tx, id)
    if not run then M.not_found(id) end
    note.before = { status = status.name(run.status) }
    if not decide(tx, run, note) then
      outcome = outcome_of(run, false)
      error(UNCHANGED, 0)
    end
    run = M.lock(tx, id) -- as the triggers left it
    outcome = outcome_of(run, true)
    note.after = note.after or {}
    note.after.status, note.after.control = outcome.status, outcome.control
    return true
  end
  local ok, err = errors.pcall(audit.change, note, change)
  if not ok and not (err == UNCHANGED and outcome) then return nil, errors.from(err) end
  if ok then
    for _, owned in ipairs(told) do M.tell(owned) end
    runtime.wake_engines(0)
  end
  return outcome
end

function M.run(who, action, id, decide)
  if not filter.is_id(id) then M.not_found(id) end
  id = id:lower()
  for try = 1, TRIES do
    local outcome, err = attempt(who, action, id, decide)
    if outcome then return outcome end
    if err.code ~= "serialization" or try == TRIES then errors.raise(err) end
  end
end

return M
