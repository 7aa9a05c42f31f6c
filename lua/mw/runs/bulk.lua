-- SPDX-License-Identifier: MIT

--- One action on many runs: those that a filter finds, or that are listed. Each is changed in a transaction of its own, so that one that its
-- status does not allow is passed by and the others are done.
--
--   bulk.preview("cancel", { status = "failed" })              -- { action, matched, sample }
--   bulk.run(who, "cancel", { filter = {…}, expect = 12, reason = "…" })
--   bulk.run(who, "retry", { ids = {…} })
--   -- { action, matched, done, unchanged, skipped, failed, problems = [{ id, detail }], created = [ids], next }
--
-- `expect` is what the preview said: when more are found by now, nothing is done. A call works for at most twenty seconds; `next` goes on
-- where it stopped, as `cursor`. What is created after the first call is not touched. `problems` are the first twenty.

local actions = require "mw.runs.actions"
local cancel = require "mw.runs.cancel"
local change = require "mw.runs.change"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local json = require "mw.core.json"
local move = require "mw.runs.move"
local rerun = require "mw.runs.rerun"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"
local totals = require "mw.runs.totals"

local M = {}

M.MAX_IDS = 1000
local PAGE, SAMPLE, PROBLEMS = 200, 10, 20
local BUDGET_S = 20
local FIRST = "00000000-0000-0000-0000-000000000000"

local does = {
  cancel = function(who, id, opts) return cancel.request(who, id, { reason = opts.reason, undo = opts.undo }) end,
  pause = function(who, id) return actions.pause(who, id) end,
  resume = function(who, id) return actions.resume(who, id) end,
  retry = function(who, id, opts) return actions.retry(who, id, opts.from) end,
  move = function(who, id, opts) return move.run(who, id, opts.to or errors.throw("invalid", "say to which code: to")) end,
  rerun = function(who, id)
    local made = rerun.run(who, id)
    return { changed = true, created = made.id }
  end,
}

--- Names of the actions, in order.
M.names = { "cancel", "move", "pause", "rerun", "resume", "retry" }

local function select(sql, params) return (errors.check(store.query("engine", sql, params, 30))) end

local function check_filter(given)
  if next(given) == nil then errors.throw("invalid", "the filter is empty, which would mean every execution; name a status or a workflow") end
end

function M.preview(action, given)
  check_filter(given)
  local where, params = filter.conditions(given)
  local sample = json.array {}
  for i, row in ipairs(select(string.format("SELECT id, workflow, status FROM {{schema}}.executions WHERE %s ORDER BY id LIMIT %d", where, SAMPLE), params)) do
    sample[i] = { id = row.id, workflow = row.workflow, status = status.name(tonumber(row.status)) }
  end
  return { action = action, matched = totals.count(given), sample = sample }
end

-- ---- one after the other ----

local function note(report, id, err)
  if #report.problems < PROBLEMS then report.problems[#report.problems + 1] = { id = id, detail = err.message } end
end

local away = { unavailable = true, busy = true, timeout = true, closed = true }

-- False when the database is away: going on would only fail.
local function do_one(who, report, id, opts)
  local outcome, err = errors.try(does[report.action], who, id, opts)
  if outcome then
    local kind = outcome.changed and "done" or "unchanged"
    report[kind] = report[kind] + 1
    if outcome.created then report.created[#report.created + 1] = outcome.created end
    return true
  end
  if away[err.code] then
    note(report, id, err)
    return false
  end
  local kind = (err.code == "conflict" or err.code == "not_found") and "skipped" or "failed"
  report[kind] = report[kind] + 1
  note(report, id, err)
  return true
end

local function new_report(action, matched)
  return { action = action, matched = matched, done = 0, unchanged = 0, skipped = 0, failed = 0, problems = json.array {}, created = json.array {} }
end

local function is_over(began) return runtime.mono() - began > BUDGET_S end

local function run_list(who, action, ids, opts)
  local report, began = new_report(action, #ids), runtime.mono()
  for i, id in ipairs(ids) do
    if is_over(began) or not do_one(who, report, id, opts) then
      report.next = tostring(i - 1)
      break
    end
  end
  return report
end

-- Where to go on, and what was the newest run when it began.
local function read_cursor(text)
  if not text then return FIRST, runtime.uuid() end
  local at, newest = text:match("^([%x%-]+)%.([%x%-]+)$")
  if not (filter.is_id(at) and filter.is_id(newest)) then errors.throw("invalid", "the cursor is not one that was given as `next`") end
  return at, newest
end

local function check_expected(opts)
  if opts.cursor then return nil end
  if not opts.expect then
    errors.throw("invalid", "a filter needs expect, the number of executions that it shall find", { hint = "dry_run: true says how many there are" })
  end
  local found = totals.count(opts.filter)
  if found > opts.expect then
    errors.throw("conflict", string.format("the filter finds %d executions by now, more than the %d expected; nothing was done", found, opts.expect),
      { hint = "look again with dry_run: true" })
  end
  return found
end

local function run_filter(who, action, opts)
  check_filter(opts.filter)
  local where, params = filter.conditions(opts.filter)
  local at, newest = read_cursor(opts.cursor)
  local report, began = new_report(action, check_expected(opts)), runtime.mono()
  local n = #params
  local sql = string.format("SELECT id FROM {{schema}}.executions WHERE %s AND id > $%d AND id <= $%d ORDER BY id LIMIT %d", where, n + 1, n + 2, PAGE)
  repeat
    params[n + 1], params[n + 2] = { id = at }, { id = newest }
    local rows = select(sql, params)
    for _, row in ipairs(rows) do
      if is_over(began) or not do_one(who, report, row.id, opts) then
        report.next = at .. "." .. newest
        return report
      end
      at = row.id
    end
  until #rows < PAGE
  return report
end

--- opts: filter and expect, or ids; cursor; and what the action takes: reason, undo, from, to.
function M.run(who, action, opts)
  if not opts.ids then return run_filter(who, action, opts) end
  if #opts.ids > M.MAX_IDS then errors.throw("limit", string.format("%d ids; at most %d in one request", #opts.ids, M.MAX_IDS)) end
  local first = opts.cursor and tonumber(opts.cursor) or 0
  local rest = {}
  for i = first + 1, #opts.ids do rest[#rest + 1] = opts.ids[i] end
  local report = run_list(who, action, rest, opts)
  if report.next then report.next = tostring(first + tonumber(report.next)) end
  return report
end

return M
