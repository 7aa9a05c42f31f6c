-- SPDX-License-Identifier: MIT

--- Cancelling runs, and with them their children.
--
--   cancel.request(who, id, { reason = "duplicate", undo = true })     -- what change.run returns
--   cancel.children(id)          -- of a run that ended as cancelled: for its owner, in a task
--
-- A run that nobody owns ends in that commit. What takes work is left to an owner: one that runs is told, and ends at its next step boundary or
-- at the next thing its step waits for; one that shall undo its finished steps (`undo`) is put up for claiming, with the error it will have.
-- Doing it twice is the same as once; asking again with another `undo` counts until undoing has begun.
--
-- Children go with it in the same commit: those that were called, unless on_cancel = "leave", and triggered ones with on_cancel = "cancel".
-- When there are more than a hundred runs in all, the rest is cancelled by the owner of their parent.

local change = require "mw.runs.change"
local errors = require "mw.errors"
local json = require "mw.core.json"
local past = require "mw.runs.past"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

local BUDGET = 100 -- runs that one transaction ends
local MAX_REASON = 1000
local ACTION = "execution.cancelled"

local function text_of(actor, reason)
  local message = "cancelled by " .. actor .. (reason and ": " .. reason or "")
  return json.encode({ code = "cancelled", message = message }, { sort = true })
end

local function wants(opts) return opts.undo and R.UNDO or R.CANCEL end

local function ask_owner(tx, run, opts)
  if run.control == wants(opts) then return false end
  change.update(tx, run, { control = wants(opts), error = text_of(opts.actor, opts.reason) })
  opts.tell[#opts.tell + 1] = run.id
  return true
end

-- It stands still until an operator does something.
local function stands(run)
  return run.status == status.PAUSED or run.status == status.STUCK or run.status == status.BLOCKED and not change.is_in_line(run)
end

local function put_up(tx, run, opts)
  if run.control == wants(opts) and not stands(run) then return false end
  local columns = change.ready(run)
  columns.control, columns.error = wants(opts), text_of(opts.actor, opts.reason)
  change.update(tx, run, columns)
  return true
end

local function end_now(tx, run, opts)
  change.update(tx, run, {
    status = status.CANCELLED, control = 0, output = change.NULL, error = text_of(opts.actor, opts.reason), finished_us = math.floor(runtime.now_us()),
  })
  opts.ended = opts.ended + 1
  return true
end

local end_run

local function follows(child, policies)
  local policy = policies[child.id] or (child.parent_key and "cancel" or "leave")
  return policy == "cancel"
end

-- The children to cancel with it; nil when that is too much for this transaction.
local function children_of(tx, run, opts)
  local rows = change.lock_children(tx, run.id, opts.budget + 1)
  if not rows[1] then return rows end
  local policies, list = past.children(tx, run.id), {}
  for _, child in ipairs(rows) do
    if follows(child, policies) then list[#list + 1] = child end
  end
  if #rows > opts.budget then return nil end
  return list
end

local function needs_owner(tx, run, opts)
  if not run.started_us then return false end -- it has done nothing
  return opts.undo or not stands(run) and past.is_compensating(tx, run.id)
end

-- Returns whether anything was changed.
function end_run(tx, run, opts)
  local children = children_of(tx, run, opts)
  local is_changed
  if run.owner then is_changed = ask_owner(tx, run, opts)
  elseif not children or needs_owner(tx, run, opts) then is_changed = put_up(tx, run, opts)
  else is_changed = end_now(tx, run, opts) end
  opts.budget = opts.budget - #(children or {})
  for _, child in ipairs(children or {}) do
    if end_run(tx, child, opts) then is_changed = true end
  end
  return is_changed
end

--- Cancels a locked run (mw.runs.change) and its children. opts: actor, reason, undo; `tell` gets the ids of those whose owners must be
--- told after the commit. Returns how many ended, or nil when nothing changed.
function M.run(tx, run, opts)
  opts.budget, opts.ended = BUDGET, 0
  if not end_run(tx, run, opts) then return nil end
  return opts.ended
end

function M.request(who, id, opts)
  opts = opts or {}
  if opts.reason and #opts.reason > MAX_REASON then errors.throw("invalid", string.format("the reason must have at most %d bytes", MAX_REASON)) end
  return change.run(who, ACTION, id, function(tx, run, note)
    if run.status == status.CANCELLED then return nil end
    if status.is_final(run.status) then change.refuse(run, ", so it cannot be cancelled") end
    local ended = M.run(tx, run, { actor = who.actor, reason = opts.reason, undo = opts.undo, tell = note.tell })
    note.after = { reason = opts.reason, undo = opts.undo, ended = ended }
    return ended
  end)
end

-- ---- for the owner of a run ----

local function query(sql, params) return (errors.check(store.query("engine", sql, params))) end

-- The unfinished children after `last`, a page.
local function page(id, last)
  return query("SELECT id, parent_key FROM {{schema}}.executions WHERE parent = $1 AND status < 8 AND id > $2 ORDER BY id LIMIT " .. BUDGET,
    { { id = id }, { id = last } })
end

--- Cancels the unfinished children of a run as their policies say. Harmless when it is done again.
function M.children(id)
  local policies, last = nil, "00000000-0000-0000-0000-000000000000"
  repeat
    local rows = page(id, last)
    if rows[1] and not policies then policies = past.children({ query = function(_, ...) return store.query("engine", ...) end }, id) end
    for _, child in ipairs(rows) do
      last = child.id
      if follows(child, policies) then
        local _, err = errors.try(M.request, { actor = "execution " .. id }, child.id, { reason = "its parent was cancelled" })
        if err and err.code ~= "conflict" and err.code ~= "not_found" then errors.raise(err) end
      end
    end
  until #rows < BUDGET
end

return M
