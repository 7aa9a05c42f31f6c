-- SPDX-License-Identifier: MIT

--- Cron jobs over HTTP: GET /api/v1/cron and /api/v1/cron/{name}, POST …/run, …/pause and …/resume.

local audit = require "mw.audit"
local errors = require "mw.errors"
local journal = require "mw.cron.journal"
local json = require "mw.core.json"
local registry = require "mw._registry"
local runtime = require "mw._runtime"
local scheduler = require "mw.cron.scheduler"
local status = require "mw.workflow.status"
local time = require("mw.api.steps").time
local validate = require "mw.validate"
local workflow = require "mw.workflow"

local M = {}

local NULL = json.null
local UPCOMING, TICKS, MAX_TICKS = 10, 50, 500

local function or_null(value)
  if value == nil then return NULL end
  return value
end

-- ---- what a job looks like ----

local function upcoming(job, row, count)
  local list, at = json.array {}, math.floor(math.max(runtime.now_us(), row and row.last_us or 0) / 1e6)
  for i = 1, count do
    at = job.schedule:next(at)
    if not at then break end
    list[i] = { at = job.schedule:format(at), at_utc = time(at * 1e6) }
  end
  return list
end

-- A job that the current plugins declare, or that they did; `row` is what the database has of it.
local function shown(job, row, count)
  local from = job or row
  local next_runs = job and upcoming(job, row, count) or json.array {}
  return {
    name = from.name, expression = from.expression, timezone = from.zone, workflow = from.workflow, declared = job ~= nil,
    where = or_null(job and job.where), plugin = or_null(job and job.plugin), overlap = or_null(job and job.overlap),
    misfire = or_null(job and job.misfire), jitter_seconds = or_null(job and job.jitter), paused_by = or_null(row and row.paused_by),
    paused_at = time(row and row.paused_us), dealt_with_until = time(row and row.last_us), next = next_runs,
  }
end

local function rows_by_name()
  local by_name = {}
  for _, row in ipairs(journal.jobs()) do by_name[row.name] = row end
  return by_name
end

local function find(name)
  local job, row = registry.crons[name], rows_by_name()[name]
  if job or row then return job, row end
  local near = validate.nearest(name, registry.crons)
  errors.throw("not_found", string.format("there is no cron job %q", name:sub(1, 100)),
    { hint = near and string.format("did you mean %q?", near) or "`moonwatch cron list` shows them" })
end

local function declared(name)
  local job, row = find(name)
  if not job then
    errors.throw("conflict", string.format("no plugin declares the cron job %q any more", name), { hint = "it was in the code once, and its history is kept" })
  end
  return job, row
end

local function list(_, res)
  local names, rows, items = {}, rows_by_name(), json.array {}
  for name in pairs(registry.crons) do names[name] = true end
  for name in pairs(rows) do names[name] = true end
  for name in pairs(names) do items[#items + 1] = shown(registry.crons[name], rows[name], 1) end
  table.sort(items, function(a, b) return a.name < b.name end)
  res:json { items = items, next = NULL, total = #items }
end

-- ---- history ----

local function tick_of(job, row)
  local run = row.run_status and status.name(row.run_status)
  return {
    scheduled_at = job and job.schedule:format(math.floor(row.tick_us / 1e6)) or time(row.tick_us), scheduled_at_utc = time(row.tick_us),
    status = row.status, reason = or_null(row.reason), execution = or_null(row.execution), execution_status = or_null(run),
    started_at = time(row.started_us), finished_at = time(row.finished_us),
    seconds = row.started_us and row.finished_us and (row.finished_us - row.started_us) / 1e6 or NULL,
  }
end

local function get(req, res, args)
  local job, row = find(req.params.name)
  local answer, ticks = shown(job, row, UPCOMING), json.array {}
  for i, tick in ipairs(journal.ticks(req.params.name, args.query.limit or TICKS)) do ticks[i] = tick_of(job, tick) end
  answer.ticks = ticks
  res:json(answer)
end

-- ---- doing something ----

local function run_now(req, res, _, _, who)
  local job = declared(req.params.name)
  local at_us = math.floor(runtime.now_us())
  local id, err = workflow.create(job.workflow, json.encode { scheduled_at = job.schedule:format(at_us / 1e6) }, {})
  if not id then errors.raise(err) end
  local note = { actor = who.actor, action = "cron.run", subject = "cron " .. job.name, after = { execution = id } }
  audit.change(note, function() return true end)
  journal.add_manual(job.name, at_us, id, who.actor)
  res:status(201):header("location", "/api/v1/executions/" .. id):json { id = id }
end

local function set_paused(req, res, who, is_paused)
  local job, row = declared(req.params.name)
  if not row then journal.declare(job, journal.now_us()) end
  local note = { actor = who.actor, action = is_paused and "cron.paused" or "cron.resumed", subject = "cron " .. job.name }
  if is_paused ~= (row ~= nil and row.paused_by ~= nil) then
    local now_us = journal.now_us()
    audit.change(note, function(tx) return journal.set_paused(tx, job.name, is_paused and who.actor or nil, now_us) end)
    scheduler.wake()
  end
  res:json(shown(find(req.params.name), rows_by_name()[job.name], 1))
end

local function pause(req, res, _, _, who) set_paused(req, res, who, true) end
local function resume(req, res, _, _, who) set_paused(req, res, who, false) end

-- ---- documents ----

local text, moment, name_or_null = { type = "string" }, { type = { "string", "null" }, format = "date-time" }, { type = { "string", "null" } }

local next_schema = { type = "array", items = { type = "object", properties = { at = text, at_utc = moment } } }
local tick_schema = {
  type = "object",
  properties = {
    scheduled_at = text, scheduled_at_utc = moment, status = { type = "string", enum = { "claimed", "queued", "fired", "skipped", "manual" } },
    reason = name_or_null, execution = name_or_null, execution_status = name_or_null, started_at = moment, finished_at = moment,
    seconds = { type = { "number", "null" } },
  },
}

local function job_schema(more)
  local properties = {
    name = text, expression = text, timezone = text, workflow = text, declared = { type = "boolean" }, where = name_or_null, plugin = name_or_null,
    overlap = name_or_null, misfire = name_or_null, jitter_seconds = { type = { "number", "null" } }, paused_by = name_or_null, paused_at = moment,
    dealt_with_until = moment, next = next_schema,
  }
  for name, schema in pairs(more or {}) do properties[name] = schema end
  return { type = "object", properties = properties }
end

local not_there, gone = { "There is none", "problem" }, { "No plugin declares it any more", "problem" }

local list_doc = {
  summary = "List cron jobs, each with its next run", tag = "cron",
  responses = { ["200"] = { "All of them, also those that only the history knows", {
    type = "object", properties = { items = { type = "array", items = job_schema() }, next = name_or_null, total = { type = "integer" } },
  } } },
}

local get_doc = {
  summary = "A cron job: its next ten runs, in its zone and in UTC, and what became of its ticks", tag = "cron",
  query = { { name = "limit", schema = { type = "integer", minimum = 1, maximum = MAX_TICKS }, description = "How many ticks, 50 when absent" } },
  responses = { ["200"] = { "The job", job_schema { ticks = { type = "array", items = tick_schema } } }, ["404"] = not_there },
}

local run_doc = {
  summary = "Run a cron job now, besides its schedule", tag = "cron",
  responses = { ["201"] = { "Its execution", { type = "object", properties = { id = { type = "string", format = "uuid" } } } }, ["404"] = not_there, ["409"] = gone },
}

local pause_doc = {
  summary = "Pause a cron job: its ticks are skipped", tag = "cron",
  responses = { ["200"] = { "The job", job_schema() }, ["404"] = not_there, ["409"] = gone },
}

local resume_doc = {
  summary = "Let a paused cron job go on; nothing of the pause is made up for", tag = "cron",
  responses = { ["200"] = { "The job", job_schema() }, ["404"] = not_there, ["409"] = gone },
}

M.endpoints = {
  { method = "GET", pattern = "/api/v1/cron", access = "key", scope = "executions:read", handler = list, doc = list_doc },
  { method = "GET", pattern = "/api/v1/cron/:name", access = "key", scope = "executions:read", handler = get, doc = get_doc },
  { method = "POST", pattern = "/api/v1/cron/:name/run", access = "key", scope = "cron", handler = run_now, doc = run_doc },
  { method = "POST", pattern = "/api/v1/cron/:name/pause", access = "key", scope = "cron", handler = pause, doc = pause_doc },
  { method = "POST", pattern = "/api/v1/cron/:name/resume", access = "key", scope = "cron", handler = resume, doc = resume_doc },
}

return M
