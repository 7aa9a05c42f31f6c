-- SPDX-License-Identifier: MIT

--- Executions and workflows: GET and POST /api/v1/executions, GET /api/v1/executions/{id}, GET /api/v1/workflows.
--
-- Lists are newest first. `total` is exact up to 10,000; beyond that it is an estimate and `total_is` says so. `next` is the cursor of
-- the next page, null on the last.

local errors = require "mw.errors"
local json = require "mw.core.json"
local registry = require "mw._registry"
local sidecar = require "mw.api.sidecar"
local status = require "mw.workflow.status"
local steps = require "mw.api.steps"
local store = require "mw.core.store"
local workflow = require "mw.workflow"

local M = {}

local DEFAULT_LIMIT, MAX_LIMIT = 50, 500
local EXACT_TOTAL, COUNTED_TOTAL = 10000, 1000000
local UUID = "^" .. ("%x"):rep(8) .. "%-" .. (("%x"):rep(4) .. "%-"):rep(3) .. ("%x"):rep(12) .. "$"
local NULL = json.null
local NEVER_US = 2 ^ 62 -- a wait without end

local function or_null(value)
  if value == nil then return NULL end
  return value
end

local time, payload = steps.time, steps.payload

-- ---- lists ----

local function placeholder(params, value)
  params[#params + 1] = value
  return "$" .. #params
end

local function status_numbers(text)
  local numbers = {}
  for name in text:gmatch("[^,]+") do
    local number = status.number(name)
    if not number then
      errors.throw("invalid", string.format("status %q is unknown; known are %s", name, table.concat(status.names, ", ")))
    end
    numbers[#numbers + 1] = number
  end
  if #numbers == 0 then errors.throw("invalid", "status is empty; give one or more names, joined by commas") end
  return numbers
end

-- SQL conditions of the filters; fills `params`.
local function conditions(query, params)
  local list = { "app = " .. placeholder(params, "default") }
  if query.workflow then list[#list + 1] = "workflow = " .. placeholder(params, query.workflow) end
  if query.status then list[#list + 1] = "status IN (" .. table.concat(status_numbers(query.status), ", ") .. ")" end
  return list
end

local function select(sql, params)
  local rows, err = store.query("engine", sql, params)
  if not rows then errors.raise(err) end
  return rows
end

local function count(query, limit)
  local params = {}
  local where = table.concat(conditions(query, params), " AND ")
  local rows = select(string.format("SELECT count(*) AS n FROM (SELECT 1 FROM {{schema}}.executions WHERE %s LIMIT %d) AS counted", where, limit + 1), params)
  local n = tonumber(rows[1].n)
  return math.min(n, limit), n > limit
end

local function total(query)
  local n, is_more = count(query, EXACT_TOTAL)
  if not is_more then return n end
  return (count(query, COUNTED_TOTAL)), "estimate"
end

local function summary(row)
  return {
    id = row.id, workflow = row.workflow, status = status.name(tonumber(row.status)), external_id = or_null(row.external_id),
    error = payload(row.error), created_at = time(row.created_us), started_at = time(row.started_us), finished_at = time(row.finished_us),
  }
end

local SUMMARY = "id, workflow, status, external_id, error, created_us, started_us, finished_us"

local function list(_, res, args)
  local query, params = args.query, {}
  if query.cursor and not query.cursor:find(UUID) then errors.throw("invalid", "the cursor is not one that a list gave as `next`") end
  local limit, where = query.limit or DEFAULT_LIMIT, conditions(query, params)
  if query.cursor then where[#where + 1] = "id < " .. placeholder(params, { id = query.cursor }) end
  local rows = select(string.format("SELECT %s FROM {{schema}}.executions WHERE %s ORDER BY id DESC LIMIT %d", SUMMARY, table.concat(where, " AND "),
    limit + 1), params)
  local items = json.array {}
  for i = 1, math.min(#rows, limit) do items[i] = summary(rows[i]) end
  local n, total_is = total(query)
  res:json { items = items, next = #rows > limit and rows[limit].id or NULL, total = n, total_is = total_is }
end

-- ---- one execution ----

local function find(id)
  local rows = select("SELECT " .. SUMMARY .. ", bundle, seed, input, output, due_us FROM {{schema}}.executions WHERE app = $1 AND id = $2",
    { "default", { id = id } })
  return rows[1]
end

local function not_found(id)
  errors.throw("not_found", string.format("there is no execution %q", id:sub(1, 100)), { hint = "GET /api/v1/executions lists them" })
end

local has_due = { [status.QUEUED] = true, [status.SLEEPING] = true, [status.WAITING] = true }

local function get(req, res)
  local id = req.params.id:lower()
  local row = id:find(UUID) and find(id)
  if not row then not_found(req.params.id) end
  local answer = summary(row)
  answer.input, answer.output = payload(row.input), payload(row.output)
  answer.due_at = has_due[tonumber(row.status)] and tonumber(row.due_us) < NEVER_US and time(row.due_us) or NULL
  answer.bundle = row.bundle
  answer.steps = steps.of(row)
  res:json(answer)
end

-- ---- making one ----

local function create(req, res, args)
  local body = args.body
  local input = body.input ~= nil and tostring(body.input) or nil
  local id, created = workflow.create(body.workflow, input, { id = body.id, key = sidecar.idempotency_key(req) })
  if not id then errors.raise(created) end
  res:status(created and 201 or 200):header("location", "/api/v1/executions/" .. id):json { id = id, created = created }
end

-- ---- workflows ----

local function workflow_of(def)
  local list_of_steps = json.array {}
  for i, step in ipairs(def.steps or {}) do list_of_steps[i] = { name = step.name, retries = step.retries, timeout = step.timeout } end
  return { name = def.name, form = def.form, steps = list_of_steps, plugin = def.plugin, where = def.where, bundle = def.bundle }
end

local function workflows(_, res)
  local items = json.array {}
  for _, def in pairs(registry.workflows) do items[#items + 1] = workflow_of(def) end
  table.sort(items, function(a, b) return a.name < b.name end)
  res:json { items = items, next = NULL, total = #items }
end

-- ---- documents ----

local text, moment, anything = { type = "string" }, { type = { "string", "null" }, format = "date-time" }, {}

local execution_schema = {
  type = "object",
  properties = {
    id = { type = "string", format = "uuid" }, workflow = text, status = { type = "string", enum = status.names },
    external_id = { type = { "string", "null" } }, input = anything, output = anything, error = anything, created_at = moment,
    started_at = moment, finished_at = moment, due_at = moment, bundle = text, steps = { type = "array", items = steps.schema },
  },
}

local function list_schema(items)
  return {
    type = "object",
    properties = {
      items = { type = "array", items = items }, next = { type = { "string", "null" } }, total = { type = "integer" },
      total_is = { type = "string", enum = { "estimate" } },
    },
  }
end

local list_doc = {
  summary = "List executions, newest first", tag = "executions",
  query = {
    { name = "workflow", schema = { type = "string", minLength = 1 }, description = "Only of this workflow" },
    { name = "status", schema = { type = "string", minLength = 1 }, description = "Only with this status; several joined by commas" },
    { name = "limit", schema = { type = "integer", minimum = 1, maximum = MAX_LIMIT }, description = "Items a page; 50 when absent" },
    { name = "cursor", schema = text, description = "`next` of the page before" },
  },
  responses = { ["200"] = { "A page", list_schema(execution_schema) }, ["400"] = { "A filter is wrong", "problem" } },
}

local create_doc = {
  summary = "Start a workflow", tag = "executions", raw = { input = true }, headers = { sidecar.key_header },
  body = {
    type = "object", required = { "workflow" },
    properties = {
      workflow = { type = "string", minLength = 1 }, input = { description = "Any JSON" },
      id = { type = "string", minLength = 1, maxLength = 255, description = "Your own name for the run; the same id is the same run" },
    },
  },
  responses = {
    ["201"] = { "Stored", { type = "object", properties = { id = { type = "string", format = "uuid" }, created = { type = "boolean" } } } },
    ["200"] = { "It was there already" }, ["400"] = { "What is wrong", "problem" }, ["404"] = { "No such workflow", "problem" },
    ["422"] = { "The id or key was used for another request", "problem" }, ["429"] = { "Too much load; see Retry-After", "problem" },
    ["503"] = { "The database is away; see Retry-After", "problem" },
  },
}

local get_doc = {
  summary = "One execution with its steps", tag = "executions",
  responses = { ["200"] = { "The execution", execution_schema }, ["404"] = { "There is none", "problem" } },
}

local workflows_doc = {
  summary = "The workflows that plugins declare", tag = "workflows",
  responses = { ["200"] = { "All of them", list_schema { type = "object" } } },
}

M.endpoints = {
  { method = "GET", pattern = "/api/v1/executions", access = "key", scope = "executions:read", handler = list, doc = list_doc },
  { method = "POST", pattern = "/api/v1/executions", access = "key", scope = "trigger", handler = create, doc = create_doc },
  { method = "GET", pattern = "/api/v1/executions/:id", access = "key", scope = "executions:read", handler = get, doc = get_doc },
  { method = "GET", pattern = "/api/v1/workflows", access = "key", scope = "plugins:read", handler = workflows, doc = workflows_doc },
}

return M
