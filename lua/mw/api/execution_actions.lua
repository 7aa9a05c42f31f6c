-- SPDX-License-Identifier: MIT

--- What an operator does with one execution: POST /api/v1/executions/{id}/cancel, …/pause, …/resume, …/retry. Each answers how the execution
--- is then; doing it twice is the same as once. Policy: lua/mw/runs.

local actions = require "mw.runs.actions"
local cancel = require "mw.runs.cancel"
local json = require "mw.core.json"

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

local function endpoint(name, handler, its_doc)
  return {
    method = "POST", pattern = "/api/v1/executions/:id/" .. name, access = "key", scope = "executions:write", handler = handler, doc = its_doc,
  }
end

M.endpoints = {
  endpoint("cancel", do_cancel, cancel_doc), endpoint("pause", pause, pause_doc), endpoint("resume", resume, resume_doc), endpoint("retry", retry, retry_doc),
}

return M
