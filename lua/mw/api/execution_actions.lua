-- SPDX-License-Identifier: MIT

--- What an operator does with one execution: POST /api/v1/executions/{id}/cancel, …/pause, …/resume, …/retry, which answer how the execution is
--- then, and are the same done twice as done once; …/rerun, …/replay, …/move. And with many: POST /api/v1/executions/bulk. Policy: lua/mw/runs.

local actions = require "mw.runs.actions"
local bulk = require "mw.runs.bulk"
local cancel = require "mw.runs.cancel"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local json = require "mw.core.json"
local move = require "mw.runs.move"
local rerun = require "mw.runs.rerun"
local sidecar = require "mw.api.sidecar"

local M = {}

local function answer(res, outcome)
  res:json {
    id = outcome.id, workflow = outcome.workflow, status = outcome.status, control = outcome.control or json.null, changed = outcome.changed,
  }
end

local function do_cancel(req, res, args, _, who)
  answer(res, cancel.request(who, req.params.id, { reason = args.body.reason, undo = args.body.undo }))
end

local function pause(req, res, _, _, who) answer(res, actions.pause(who, req.params.id)) end
local function resume(req, res, _, _, who) answer(res, actions.resume(who, req.params.id)) end
local function retry(req, res, args, _, who) answer(res, actions.retry(who, req.params.id, args.body.from)) end

local function do_move(req, res, args, _, who) answer(res, move.run(who, req.params.id, args.body.to)) end
local function do_replay(req, res, args) res:json(move.replay(req.params.id, args.body.to or "latest")) end

local function run_again(req, res, args, _, who)
  local input = args.body.input ~= nil and tostring(args.body.input) or nil
  local made = rerun.run(who, req.params.id, { input = input, key = sidecar.idempotency_key(req) })
  res:status(made.created and 201 or 200):header("location", "/api/v1/executions/" .. made.id):json(made)
end

local function act_on_many(_, res, args, _, who)
  local body = args.body
  if (body.ids == nil) == (body.filter == nil) then errors.throw("invalid", "say which executions: ids, or a filter") end
  if body.dry_run then
    if not body.filter then errors.throw("invalid", "dry_run shows what a filter finds; ids need none") end
    return res:json(bulk.preview(body.action, body.filter))
  end
  local report = bulk.run(who, body.action, body)
  report.next = report.next or json.null
  res:json(report)
end

-- ---- documents ----

local outcome_schema = {
  type = "object",
  properties = {
    id = { type = "string", format = "uuid" }, workflow = { type = "string" }, status = { type = "string" },
    control = { type = { "string", "null" }, enum = { "pause", "cancel", "undo" }, description = "What its owner was asked, and does at the next step boundary" },
    changed = { type = "boolean", description = "false: it was so already" },
  },
}

local function doc(summary, description, properties)
  return {
    summary = summary, description = description, tag = "executions", body = { type = "object", properties = properties }, is_body_optional = true,
    responses = {
      ["200"] = { "How the execution is then", outcome_schema }, ["400"] = { "What is wrong", "problem" },
      ["404"] = { "There is no such execution", "problem" }, ["409"] = { "Its status does not allow it", "problem" },
      ["503"] = { "The database is away; see Retry-After", "problem" },
    },
  }
end

local cancel_doc = doc("Cancel an execution, and its children",
  "What nobody works at ends at once; a step under way is interrupted where it waits. With undo, finished steps are undone before the end.", {
    reason = { type = "string", minLength = 1, maxLength = 1000 }, undo = { type = "boolean" },
  })
local pause_doc = doc("Pause an execution", "A step under way ends, and its result is stored, before the pause takes effect.", {})
local resume_doc = doc("Let a paused execution go on where it was", nil, {})
local retry_doc = doc("Retry an execution now, or from a step",
  "Waiting for its next attempt: begins it now. Failed, cancelled, stuck or blocked: goes on from the step that failed, whose attempts begin anew. With "
    .. "from, what is known of that step and of all after it is forgotten; \"\" is the very beginning.", {
    from = { type = "string", maxLength = 500 },
  })

local code_schema = { type = "string", minLength = 1, maxLength = 64 }

local move_doc = doc("Move an execution to other code",
  "To the code that serves now (latest) or a bundle, when the journal replays on it. Stuck and blocked ones go on; one that runs must be paused first.", {
    to = code_schema,
  })
move_doc.body.required, move_doc.is_body_optional = { "to" }, nil

local replay_doc = doc("Replay an execution's journal against other code", "Executes nothing and stores nothing; says whether and where the code goes another way.", {
  to = { type = "string", minLength = 1, maxLength = 64, description = "latest (when absent), pinned, or a bundle's hash" },
})
replay_doc.responses["409"] = nil
replay_doc.responses["200"] = { "What came of it", {
  type = "object",
  properties = {
    id = { type = "string" }, workflow = { type = "string" }, bundle = { type = "string" }, diverges = { type = "boolean" }, message = { type = "string" },
    expected = { type = "string" }, actual = { type = "string" }, ends = { type = "string", enum = { "completed", "failed", "goes on", "journal" } },
    next = { type = "string" }, error = { type = "object" }, operations = { type = "integer" },
  },
} }

local rerun_doc = {
  summary = "Run an execution again, as a new one", tag = "executions", raw = { input = true }, headers = { sidecar.key_header }, is_body_optional = true,
  description = "On the code that serves now, with the same input or another; with the tag rerun_of:ID.",
  body = { type = "object", properties = { input = { description = "Any JSON; absent: the same" } } },
  responses = {
    ["201"] = { "Stored", {
      type = "object",
      properties = { id = { type = "string", format = "uuid" }, created = { type = "boolean" }, rerun_of = { type = "string", format = "uuid" } },
    } },
    ["200"] = { "The Idempotency-Key was used for it before" }, ["404"] = { "There is no such execution, or no such workflow any more", "problem" },
    ["422"] = { "The Idempotency-Key was used for another request", "problem" }, ["429"] = { "Too much load; see Retry-After", "problem" },
    ["503"] = { "The database is away; see Retry-After", "problem" },
  },
}

local count_schema, text_schema = { type = "integer", minimum = 0 }, { type = "string" }

local bulk_doc = {
  summary = "Act on many executions", tag = "executions",
  description = "First with dry_run, which says how many the filter finds; then with expect, that number: when more are found by then, nothing is done. A call "
    .. "works for at most 20 seconds; send it again with cursor, the `next` of its answer, to go on.",
  body = {
    type = "object", required = { "action" },
    properties = {
      action = { type = "string", enum = bulk.names }, filter = filter.schema,
      ids = { type = "array", items = { type = "string", minLength = 1, maxLength = 100 }, description = "At most 1000" }, expect = count_schema,
      dry_run = { type = "boolean" }, cursor = { type = "string", maxLength = 100 }, reason = { type = "string", minLength = 1, maxLength = 1000 },
      undo = { type = "boolean" }, from = { type = "string", maxLength = 500 }, to = code_schema,
    },
  },
  responses = {
    ["200"] = { "What was done, or with dry_run what would be", {
      type = "object",
      properties = {
        action = text_schema, matched = count_schema, done = count_schema, unchanged = count_schema,
        skipped = { type = "integer", description = "Their status does not allow it, or they are gone" }, failed = count_schema,
        problems = { type = "array", items = { type = "object", properties = { id = text_schema, detail = text_schema } } },
        created = { type = "array", items = text_schema }, sample = { type = "array", items = { type = "object" } }, next = { type = { "string", "null" } },
      },
    } },
    ["400"] = { "What is wrong", "problem" }, ["409"] = { "The filter finds more than expected; nothing was done", "problem" },
    ["503"] = { "The database is away; see Retry-After", "problem" },
  },
}

local function endpoint(name, handler, its_doc)
  return {
    method = "POST", pattern = "/api/v1/executions/:id/" .. name, access = "key", scope = "executions:write", handler = handler, doc = its_doc,
  }
end

M.endpoints = {
  endpoint("cancel", do_cancel, cancel_doc), endpoint("pause", pause, pause_doc), endpoint("resume", resume, resume_doc), endpoint("retry", retry, retry_doc),
  endpoint("rerun", run_again, rerun_doc), endpoint("move", do_move, move_doc), endpoint("replay", do_replay, replay_doc),
  {
    method = "POST", pattern = "/api/v1/executions/bulk", access = "key", scope = "executions:write", handler = act_on_many, doc = bulk_doc,
    opts = { timeout = 60 },
  },
}

return M
