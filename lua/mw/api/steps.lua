-- SPDX-License-Identifier: MIT

--- The steps of an execution as the API shows them: its journal, folded, and the entries that are still to come.
--
--   steps.of(row)      -- row: id, workflow, bundle, seed, status, created_us, started_us -> list, raises when the journal is unreadable

local errors = require "mw.errors"
local fold = require "mw.workflow.fold"
local json = require "mw.core.json"
local R = require "mw.workflow.run"
local redact = require "mw.workflow.redact"
local registry = require "mw._registry"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

local NULL = json.null

--- RFC 3339, or null.
function M.time(us)
  if us == nil or us == NULL then return NULL end
  return runtime.format_time(tonumber(us))
end

--- Stored JSON as it stands, with dots for what is redacted, or null.
function M.payload(text)
  if text == nil or text == NULL then return NULL end
  return json.box(redact.mask(text))
end

local time, payload = M.time, M.payload

local function moment(start_us, at) return at and time(start_us + at) or NULL end

local function try_of(start_us, try)
  return {
    attempt = try.attempt, status = try.outcome, started_at = moment(start_us, try.started), finished_at = moment(start_us, try.ended),
    error = payload(try.error), next_attempt_at = moment(start_us, try.due),
  }
end

local function status_of(step, is_running)
  if step.done then return "completed" end
  if step.failed then return "failed" end
  if is_running and step.open then return "running" end
  if step.due or step.accepted then return "waiting" end
  return is_running and "running" or "pending"
end

-- What each kind of operation has beyond the others: status and further members.
local kinds = {}

function kinds.step(answer, step, start_us, is_running)
  answer.status = status_of(step, is_running)
  if step.accepted and answer.status == "waiting" then answer.deadline_at = moment(start_us, step.deadline) end
end

function kinds.sleep(answer, step, start_us)
  answer.status = start_us + step.due > runtime.now_us() and "waiting" or "completed"
  answer.until_at = moment(start_us, step.due)
end

function kinds.wait(answer, step, start_us)
  answer.status = step.done and "completed" or "waiting"
  answer.signal, answer.form, answer.deadline_at = step.signal or NULL, payload(step.form), moment(start_us, step.deadline)
  if step.done then answer.timed_out = step.signal_id == nil end
end

function kinds.child(answer, step)
  answer.status = step.done and "completed" or step.failed and "failed" or "waiting"
  answer.execution, answer.workflow = step.id or NULL, step.workflow or NULL
end

function kinds.trigger(answer, step)
  answer.status, answer.execution, answer.workflow = "completed", step.id, step.workflow
end

function kinds.group(answer, step, _, _, is_over)
  answer.status, answer.branches = is_over and "completed" or "running", json.array(step.branches)
end

function kinds.skip(answer) answer.status = "skipped" end

local function step_of(start_us, step, is_running, is_over)
  local tries = json.array {}
  for i, try in ipairs(step.tries) do tries[i] = try_of(start_us, try) end
  local answer = {
    name = step.name, kind = step.kind, attempts = math.max(step.attempts, step.open or 0), result = step.done and payload(step.result) or NULL,
    error = not step.done and payload(step.error) or NULL, started_at = moment(start_us, step.started),
    finished_at = moment(start_us, (step.done or step.failed) and step.ended), tries = tries,
  }
  kinds[step.kind](answer, step, start_us, is_running, is_over)
  return answer
end

-- The entries of a list form, when the code it is pinned to is the one that is loaded.
local function entries_of(row)
  local def = registry.workflows[row.workflow]
  if not def or def.bundle ~= row.bundle or def.form ~= "list" then return {} end
  return def.steps
end

local shown_as = { run = "step", http = "step", transaction = "step", wait_for = "wait", call = "child", all = "group" }

local function to_come(name, kind, is_begun, row)
  return {
    name = name, kind = shown_as[kind] or kind or "step", status = is_begun and "running" or "pending", attempts = is_begun and 1 or 0, result = NULL, error = NULL,
    started_at = is_begun and time(row.started_us) or NULL, finished_at = NULL, tries = json.array {},
  }
end

local function read_state(id)
  local rows, err = store.journal(id)
  if not rows then errors.raise(err) end
  local state
  state, err = fold.rows(rows)
  if not state then errors.raise(err) end
  return state
end

-- Something of its own scope came after it, or the run is over.
local function is_over(state, step, is_final)
  local scope = state.scopes[step.scope]
  return is_final or scope ~= nil and scope[#scope] ~= step
end

function M.of(row)
  local state = read_state(row.id)
  local start_us, number = R.start_of(row.seed, tonumber(row.created_us)), tonumber(row.status)
  local is_running = number == status.RUNNING
  local list, is_busy = json.array {}, false
  for i, step in ipairs(state.order) do
    local may_run = is_running and step.kind == "step" and not step.done and not step.failed and (step.open or i == #state.order)
    is_busy = is_busy or may_run
    list[i] = step_of(start_us, step, may_run, is_over(state, step, status.is_final(number)))
  end
  for _, entry in ipairs(entries_of(row)) do
    if not state.steps[entry.name] then
      local is_begun = is_running and not is_busy
      is_busy = true
      list[#list + 1] = to_come(entry.name, entry.kind, is_begun, row)
    end
  end
  return list
end

local text, moment_schema = { type = "string" }, { type = { "string", "null" }, format = "date-time" }

--- For the API's document.
M.schema = {
  type = "object",
  properties = {
    name = text, kind = { type = "string", enum = { "step", "sleep", "wait", "child", "trigger", "group", "skip" } },
    status = { type = "string", enum = { "pending", "running", "waiting", "completed", "failed", "skipped" } },
    attempts = { type = "integer" }, result = {}, error = {}, started_at = moment_schema, finished_at = moment_schema,
    tries = { type = "array", items = { type = "object" } }, until_at = moment_schema, deadline_at = moment_schema, signal = text, form = {},
    timed_out = { type = "boolean" }, execution = { type = "string", format = "uuid" }, workflow = text, branches = { type = "array", items = text },
  },
}

return M
