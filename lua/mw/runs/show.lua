-- SPDX-License-Identifier: MIT

--- An execution as the API, the command line and the dashboard show it.
--
--   show.find(id)                 -- its row, or nil; the id in any case
--   show.summary(row)             -- what a list has of it
--   show.whole(row)               -- with input, output, state, waits and steps
--   show.wait(id, seconds)        -- its row when it is final, or when the time is over

local core = require "mw.core.task"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local json = require "mw.core.json"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local steps = require "mw.api.steps"
local store = require "mw.core.store"

local M = {}

local NULL = json.null
local NEVER_US = 2 ^ 62 -- a wait without end
local FIRST_LOOK_S, SLOWEST_LOOK_S = 0.005, 0.5

--- Columns of a summary.
M.COLUMNS = "id, workflow, status, external_id, group_key, priority, tags, parent, control, error, due_us, created_us, started_us, finished_us"

local WHOLE = M.COLUMNS .. ", bundle, seed, input, output, state, slot, parent_key"

local time, payload = steps.time, steps.payload

local function or_null(value)
  if value == nil then return NULL end
  return value
end

local function of_id(id) return id ~= nil and id ~= NULL and (type(id) == "table" and id.id or id) or NULL end

function M.find(id)
  if not filter.is_id(id) then return nil end
  return errors.check(store.query("engine", "SELECT " .. WHOLE .. " FROM {{schema}}.executions WHERE app = $1 AND id = $2", { "default", { id = id:lower() } }))[1]
end

local has_due = { [status.QUEUED] = true, [status.SLEEPING] = true, [status.WAITING] = true }

local function due_at(row)
  local due = tonumber(row.due_us)
  return has_due[tonumber(row.status)] and due and due < NEVER_US and time(row.due_us) or NULL
end

function M.summary(row)
  return {
    id = row.id, workflow = row.workflow, status = status.name(tonumber(row.status)), external_id = or_null(row.external_id),
    group = or_null(row.group_key), priority = tonumber(row.priority) or 0, tags = row.tags and payload(row.tags) or json.array {},
    parent = of_id(row.parent), control = R.control_names[tonumber(row.control) or 0] or NULL, error = payload(row.error), due_at = due_at(row),
    created_at = time(row.created_us), started_at = time(row.started_us), finished_at = time(row.finished_us),
  }
end

-- What `ctx:set` and `ctx:progress` published.
local function add_state(answer, row)
  local value = row.state and json.decode(row.state, { raw = { set = true } }) or {}
  answer.state, answer.progress = or_null(value.set), or_null(value.progress)
end

local function waits_of(list)
  local waits = json.array {}
  for _, step in ipairs(list) do
    if step.kind == "wait" and step.status == "waiting" then
      waits[#waits + 1] = { name = step.name, signal = step.signal, deadline_at = step.deadline_at, form = step.form }
    end
  end
  return waits
end

local function is_in_line(row)
  return tonumber(row.status) == status.BLOCKED and row.group_key ~= nil and row.group_key ~= NULL and tonumber(row.slot) == 0
end

function M.whole(row)
  local answer = M.summary(row)
  answer.input, answer.output, answer.bundle = payload(row.input), payload(row.output), row.bundle
  answer.in_line = is_in_line(row)
  add_state(answer, row)
  answer.steps = steps.of(row)
  answer.waits = waits_of(answer.steps)
  return answer
end

--- Looks at it ever more slowly, at most twice a second.
function M.wait(id, seconds)
  local until_us, pause = runtime.now_us() + seconds * 1e6, FIRST_LOOK_S
  while true do
    local row = M.find(id)
    local left = (until_us - runtime.now_us()) / 1e6
    if not row or status.is_final(tonumber(row.status)) or left <= 0 then return row end
    local ok, err = core.sleep(math.min(pause, left))
    if ok == nil then error(err, 0) end
    pause = math.min(pause * 2, SLOWEST_LOOK_S)
  end
end

return M
