-- SPDX-License-Identifier: MIT

--- Executions: GET and POST /api/v1/executions, GET /api/v1/executions/totals, GET /api/v1/executions/{id} and …/journal.
--
-- Lists are newest first. `total` is exact; when it would take counting more than a million it is a million, and `total_is` says "estimate". `next`
-- is the cursor of the next page, null on the last. What one looks like: lua/mw/runs/show.lua; filters: lua/mw/runs/filter.lua; totals:
-- lua/mw/runs/totals.lua.

local audit = require "mw.audit"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local show = require "mw.runs.show"
local redact = require "mw.workflow.redact"
local retention = require "mw.runs.retention"
local sidecar = require "mw.api.sidecar"
local status = require "mw.workflow.status"
local steps = require "mw.api.steps"
local store = require "mw.core.store"
local totals = require "mw.runs.totals"
local workflow = require "mw.workflow"

local M = {}

local DEFAULT_LIMIT, MAX_LIMIT = 50, 500
local MAX_WAIT_S = 60
local NULL = json.null

-- ---- lists ----

local function select(sql, params) return (errors.check(store.query("engine", sql, params, 30))) end

local function list(_, res, args)
  local query = args.query
  if query.cursor and not filter.is_id(query.cursor) then errors.throw("invalid", "the cursor is not one that a list gave as `next`") end
  local limit, where, params = query.limit or DEFAULT_LIMIT, filter.conditions(query)
  if query.cursor then
    params[#params + 1] = { id = query.cursor:lower() }
    where = where .. " AND id < $" .. #params
  end
  local rows = select(string.format("SELECT %s FROM {{schema}}.executions WHERE %s ORDER BY id DESC LIMIT %d", show.COLUMNS, where, limit + 1), params)
  local items = json.array {}
  for i = 1, math.min(#rows, limit) do items[i] = show.summary(rows[i]) end
  local total, is_part = totals.count(query)
  res:json { items = items, next = #rows > limit and rows[limit].id or NULL, total = total, total_is = is_part and "estimate" or nil }
end

local function list_totals(_, res, args)
  local items, sum = json.array {}, 0
  for i, row in ipairs(totals.list(args.query)) do
    items[i] = { workflow = row.workflow, status = status.name(row.status), total = row.total }
    sum = sum + row.total
  end
  res:json { items = items, next = NULL, total = sum }
end

-- ---- one execution ----

local function not_found(id)
  errors.throw("not_found", string.format("there is no execution %q", id:sub(1, 100)), { hint = "GET /api/v1/executions lists them" })
end

local function get(req, res, args)
  local id, seconds = req.params.id, args.query.wait
  local row
  if seconds then row = show.wait(id, seconds) else row = show.find(id) end
  if not row then not_found(id) end
  res:json(show.whole(row))
end

local function journal_row(row)
  local events = json.array {}
  for i, event in ipairs(errors.check(journal.split(row.data))) do events[i] = json.box(redact.mask(event)) end
  return { number = tonumber(row.number), at = steps.time(row.at_us), events = events }
end

local function get_journal(req, res, args)
  local id, query = req.params.id, args.query
  if not show.find(id) then not_found(id) end
  local limit = query.limit or DEFAULT_LIMIT
  local rows = select(string.format("SELECT number, data, at_us FROM {{schema}}.journal WHERE execution = $1 AND number > $2 ORDER BY number LIMIT %d", limit + 1),
    { { id = id:lower() }, query.after or 0 })
  local items = json.array {}
  for i = 1, math.min(#rows, limit) do items[i] = journal_row(rows[i]) end
  res:json { items = items, next = #rows > limit and items[limit].number or NULL }
end

-- ---- making one ----

local function create(req, res, args)
  local body, seconds = args.body, args.query.wait
  local input = body.input ~= nil and tostring(body.input) or nil
  local opts = sidecar.trigger_options(body)
  opts.key = sidecar.idempotency_key(req)
  local id, created = workflow.create(body.workflow, input, opts)
  if not id then errors.raise(created) end
  res:header("location", "/api/v1/executions/" .. id)
  if not seconds then return res:status(created and 201 or 200):json { id = id, created = created } end
  local row = show.wait(id, seconds)
  if row and status.is_final(tonumber(row.status)) then return res:status(200):json(show.whole(row)) end
  res:status(202):json { id = id, created = created, status = row and status.name(tonumber(row.status)) or NULL }
end

local function sweep(_, res, _, _, who)
  local deleted = retention.sweep()
  audit.change({ actor = who.actor, action = "executions.swept", subject = "executions", after = { deleted = deleted } }, function() return true end)
  res:json { deleted = deleted }
end

-- ---- documents ----

local text, moment, anything = { type = "string" }, { type = { "string", "null" }, format = "date-time" }, {}

local name_or_null = { type = { "string", "null" } }

local execution_schema = {
  type = "object",
  properties = {
    id = { type = "string", format = "uuid" }, workflow = text, status = { type = "string", enum = status.names }, external_id = name_or_null,
    group = name_or_null, priority = { type = "integer" }, tags = { type = "array", items = text }, parent = name_or_null,
    control = { type = { "string", "null" }, enum = { "pause", "cancel", "undo" }, description = "What its owner was asked to do at the next step boundary" },
    error = anything, due_at = moment, created_at = moment, started_at = moment, finished_at = moment, input = anything, output = anything, bundle = text,
    in_line = { type = "boolean", description = "Blocked until another of its group ends" }, state = anything, progress = anything,
    waits = { type = "array", items = { type = "object" }, description = "Signals it waits for: name, signal, deadline_at, form" },
    steps = { type = "array", items = steps.schema },
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

local function parameter(name)
  local schema = filter.schema.properties[name]
  return { name = name, schema = { type = schema.type, minLength = schema.minLength, maxLength = schema.maxLength }, description = schema.description }
end

local function list_query()
  local query = {}
  for name in pairs(filter.schema.properties) do query[#query + 1] = parameter(name) end
  table.sort(query, function(a, b) return a.name < b.name end)
  query[#query + 1] = { name = "limit", schema = { type = "integer", minimum = 1, maximum = MAX_LIMIT }, description = "Items a page; 50 when absent" }
  query[#query + 1] = { name = "cursor", schema = text, description = "`next` of the page before" }
  return query
end

local wait_query = {
  name = "wait", schema = { type = "number", minimum = 0, maximum = MAX_WAIT_S }, description = "Answer when it has ended, or after so many seconds",
}

local list_doc = {
  summary = "List executions, newest first", tag = "executions", query = list_query(),
  responses = { ["200"] = { "A page", list_schema(execution_schema) }, ["400"] = { "A filter is wrong", "problem" } },
}

local totals_doc = {
  summary = "How many executions there are of each workflow and status", tag = "executions", query = { parameter "workflow", parameter "status" },
  description = "Exact, and as fast with millions as with a few: counters are kept in the commit of each change. `total` of the answer is their sum.",
  responses = {
    ["200"] = { "What there is any of", list_schema {
      type = "object", properties = { workflow = text, status = { type = "string", enum = status.names }, total = { type = "integer", minimum = 1 } },
    } },
    ["400"] = { "A filter is wrong", "problem" },
  },
}

local create_properties = {
  workflow = { type = "string", minLength = 1 }, input = { description = "Any JSON" },
  id = { type = "string", minLength = 1, maxLength = 255, description = "Your own name for the run; the same id is the same run" },
}
for name, schema in pairs(sidecar.option_schema) do create_properties[name] = schema end

local create_doc = {
  summary = "Start a workflow", tag = "executions", raw = { input = true }, headers = { sidecar.key_header }, query = { wait_query },
  body = { type = "object", required = { "workflow" }, properties = create_properties },
  responses = {
    ["201"] = { "Stored", { type = "object", properties = { id = { type = "string", format = "uuid" }, created = { type = "boolean" } } } },
    ["200"] = { "It was there already; with wait: how it ended" }, ["202"] = { "With wait: stored, and not at its end yet" },
    ["400"] = { "What is wrong", "problem" }, ["404"] = { "No such workflow", "problem" },
    ["422"] = { "The id or key was used for another request", "problem" }, ["429"] = { "Too much load; see Retry-After", "problem" },
    ["503"] = { "The database is away; see Retry-After", "problem" },
  },
}

local get_doc = {
  summary = "One execution with its steps", tag = "executions", query = { wait_query },
  responses = { ["200"] = { "The execution", execution_schema }, ["404"] = { "There is none", "problem" } },
}

local journal_doc = {
  summary = "The journal of an execution", tag = "executions",
  description = "One row a commit; what its events mean stands in lua/mw/workflow/journal.lua.",
  query = {
    { name = "after", schema = { type = "integer", minimum = 0 }, description = "Rows with higher numbers" },
    { name = "limit", schema = { type = "integer", minimum = 1, maximum = MAX_LIMIT }, description = "Rows a page; 50 when absent" },
  },
  responses = { ["200"] = { "A page; next is the number to go on after", list_schema { type = "object" } }, ["404"] = { "There is none", "problem" } },
}

local sweep_doc = {
  summary = "Delete now what is older than it is kept", tag = "executions", body = { type = "object", properties = {} }, is_body_optional = true,
  description = "The server does so by itself every ten minutes.",
  responses = { ["200"] = { "How many", { type = "object", properties = { deleted = { type = "integer" } } } } },
}

M.endpoints = {
  { method = "POST", pattern = "/api/v1/executions/sweep", access = "key", scope = "executions:write", handler = sweep, doc = sweep_doc },
  { method = "GET", pattern = "/api/v1/executions", access = "key", scope = "executions:read", handler = list, doc = list_doc },
  { method = "GET", pattern = "/api/v1/executions/totals", access = "key", scope = "executions:read", handler = list_totals, doc = totals_doc },
  { method = "POST", pattern = "/api/v1/executions", access = "key", scope = "trigger", handler = create, doc = create_doc },
  { method = "GET", pattern = "/api/v1/executions/:id", access = "key", scope = "executions:read", handler = get, doc = get_doc },
  {
    method = "GET", pattern = "/api/v1/executions/:id/journal", access = "key", scope = "executions:read", handler = get_journal, doc = journal_doc,
  },
}

return M
