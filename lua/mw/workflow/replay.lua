-- SPDX-License-Identifier: MIT

--- Replays a run's journal against Lua code: whether the code, run from the top, takes the way that the journal says. Nothing is executed: steps
-- give what they gave, waits are over as they were, and the first thing that the journal does not know ends it. Nothing is stored.
--
--   local report = replay.run(run, rows, "latest")     -- run: id workflow bundle seed status input output created_us; rows: its journal
--
--   report  diverges   true: the code goes another way. `message` says where, `expected` and `actual` what
--           ends       how it ended: "completed" (the code returned), "failed" (it raised: `error`), "goes on" (with `next`, which is new), or
--                      "journal" (where the journal ends, as a run that waits)
--           operations how many of the journal's steps, waits and children the code has in the same place
--           bundle     of the code
--   code    "pinned" (the run's own), "latest" (what serves now), or the hash of a bundle
--
-- Code that raises where the run had gone on diverges, and so does another output of a run that had completed. Code that goes on where the run
-- had failed does not: it may be its cure. A list form is compared entry by entry.

local core = require "mw.core.task"
local determinism = require "mw.workflow.determinism"
local errors = require "mw.errors"
local fold = require "mw.workflow.fold"
local imperative = require "mw.workflow.imperative"
local json = require "mw.core.json"
local loader = require "mw._loader"
local payload = require "mw.workflow.payload"
local R = require "mw.workflow.run"
local registry = require "mw._registry"
local status = require "mw.workflow.status"
local validate = require "mw.validate"

local M = {}

local LIMIT_S = 10

-- ---- the code ----

local function latest(name)
  local def = registry.workflows[name]
  if def then return def end
  local near = validate.nearest(name, registry.workflows)
  errors.throw("not_found", string.format("no plugin declares the workflow %q any more", name), { hint = near and string.format("did you mean %q?", near) })
end

--- The definition that `code` means for a run; raises not_found.
function M.definition(run, code)
  if code == "latest" then return latest(run.workflow) end
  local bundle = code == "pinned" and run.bundle or code
  if #bundle ~= 64 or bundle:find("[^%x]") then
    errors.throw("invalid", string.format("%q is no code: say latest, pinned, or the hash of a bundle", bundle:sub(1, 80)))
  end
  local workflows = errors.check(loader.load_bundle(bundle))
  if not workflows[run.workflow] then errors.throw("not_found", string.format("the bundle %s declares no workflow %q", bundle:sub(1, 12), run.workflow)) end
  return workflows[run.workflow]
end

-- ---- lists ----

local function diverged(report, message, expected, actual)
  report.diverges, report.message, report.expected, report.actual = true, message, expected, actual
  return report
end

local function replay_list(def, state, run, report)
  local steps = def.steps
  for i, op in ipairs(state.order) do
    local step = steps[i]
    if not step or step.name ~= op.name or op.kind ~= "step" then
      return diverged(report, string.format("entry %d of the list is %s, where the journal has %q", i, step and string.format("%q", step.name) or "missing", op.name),
        op.name, step and step.name)
    end
    report.operations = i
  end
  local last = state.order[#state.order]
  local new = steps[#state.order + 1]
  if last and not last.done then
    report.ends, report.error = last.failed and "failed" or "journal", last.failed and json.decode(last.error) or nil
  elseif new then
    report.ends, report.next = "goes on", string.format("step %q", new.name)
    if run.status == status.COMPLETED then diverged(report, string.format("the list has a step %q where the run had ended", new.name), nil, new.name) end
  else
    report.ends = "completed"
  end
  return report
end

-- ---- bodies ----

local engine = { is_stopped = function() return false end, note_due = function() end, cancel_children = function() return true end }

local function new_run(def, run, state)
  return {
    id = run.id, fence = -1, number = state.number, seed = run.seed, start_us = R.start_of(run.seed, run.created_us), at = 0, workflow = run.workflow,
    app = "default", input_text = run.input, results = {}, index = 1, attempt = 1, failures = 0, phase = "between", engine = engine, def = def,
    driver = imperative, what = def.what, answer = false, token = false, step = false, t0 = 0, context_meta = false, control = false, deadline_us = false,
    handle = false, w_more = false, settled = true, ended_here = false, w_number = 0, state = state,
  }
end

local function same_json(a, b)
  if a == b then return true end
  local function canonical(text) return text and json.encode(json.decode(text, { null = json.null }), { sort = true }) end
  return canonical(a) == canonical(b)
end

local function judge_return(report, run, value)
  report.ends = "completed"
  local text, err = payload.encode(value, "output")
  if err then return diverged(report, "the output cannot be stored: " .. err.message) end
  if run.status == status.COMPLETED and not same_json(text, run.output) then
    return diverged(report, "it takes the same way, and its output is another one", run.output, text)
  end
  return report
end

local function judge_error(report, run, replayed, err)
  err = errors.from(err)
  report.ends, report.error = "failed", errors.to_json(err)
  local left = replayed.order[replayed.cursor + 1]
  if left then return diverged(report, string.format("it raises before it comes to %q: %s", left.name, err.message), left.name) end
  if run.status == status.FAILED or run.status == status.CANCELLED then return report end
  return diverged(report, string.format("it raises where the run %s: %s", run.status == status.COMPLETED and "had ended" or "goes on", err.message))
end

local function judge(report, run, replayed, ok, value)
  report.operations = replayed.cursor - (replayed.came_to and 1 or 0)
  local verdict = replayed.verdict
  if verdict then
    local said = json.decode(verdict.error) or {}
    report.operations = math.max(0, replayed.cursor)
    return diverged(report, verdict.reason.message, said.expected, said.actual)
  end
  if not replayed.over then
    if ok then return judge_return(report, run, value) end
    return judge_error(report, run, replayed, value)
  end
  report.ends, report.next = replayed.came_to and "goes on" or "journal", replayed.came_to
  if run.status == status.COMPLETED then return diverged(report, string.format("it goes on with %s where the run had ended", report.next or "a wait"), nil, report.next) end
  return report
end

local function on_death(answer, err)
  determinism.leave()
  answer.err, answer.done = errors.from(err), true
  core.wake(answer.token)
end

local function body_task(answer, def, run, state)
  core.on_fail(on_death, answer)
  core.set_timeout(LIMIT_S)
  local replayed = new_run(def, run, state)
  local ok, value = imperative.replay(replayed)
  answer.judge = function(report) return judge(report, run, replayed, ok, value) end
  answer.done = true
  core.wake(answer.token)
end

-- In a task of its own: an endless body ends that, and nothing else.
local function replay_body(def, state, run, report)
  local answer = { done = false, token = core.token() }
  core.spawn(body_task, "workflow replay", nil, answer, def, run, state)
  while not answer.done do
    local _, err = core.park("replay")
    if err and not answer.done then error(err, 0) end
  end
  if answer.err then return diverged(report, "the code does not come to an end: " .. answer.err.message) end
  return answer.judge(report)
end

function M.run(run, rows, code)
  local def = M.definition(run, code)
  local state = errors.check(fold.rows(rows))
  local report = { diverges = false, ends = "journal", operations = 0, bundle = def.bundle }
  if def.body then return replay_body(def, state, run, report) end
  return replay_list(def, state, run, report)
end

return M
