-- SPDX-License-Identifier: MIT

--- `mw.cron(name, expression, function(ctx) … end | "workflow", opts)`: declares what is done at set times.
--
--   mw.cron("cleanup", "0 3 * * *", function(ctx)
--     mw.query("DELETE FROM carts WHERE updated_at < $1", { ctx.scheduled_at })
--   end, { timezone = "Europe/Berlin" })
--   mw.cron("report", "@daily", "nightly-report")        -- starts that workflow, with { scheduled_at = … } as its input
--
-- Expressions are those of core/ops/cron.h: five fields, or six with seconds, names, ranges, steps, lists, L and #, @hourly …, @every 90s; the
-- rule for times that a clock change skips or repeats stands there too.
--
-- A function runs as the step "run" of an execution of the workflow `cron:NAME`; ctx is a step's, and ctx.scheduled_at the tick in the job's zone
-- ("2026-03-29T03:00:00+02:00"), not the clock. Each tick is a row of its own in the database, so in a fleet one node runs it, and a
-- restart neither loses nor doubles it. Edited or removed schedules take effect with the reload.
--
-- Options:
--   timezone     of the expression: "UTC"
--   misfire      what to do with ticks that no server was there for, or that are more than a minute late: "once" (the default) runs the
--                last of them, "all" each of them (the last `misfire_max`), "skip" none
--   misfire_max  for "all": 100; 1 to 1000
--   overlap      when the tick before still runs: "skip" (the default), "queue" runs after it (at most 100 wait), "allow" beside it
--   jitter       a tick starts up to that much later, the same for a tick on every node: 0; at most an hour
--   retries, timeout, backoff   of the step, as in mw.workflow; not for a named workflow, which has its own

local cron = require "mw.core.cron"
local define = require "mw.workflow.define"
local policy = require "mw.workflow.policy"
local errors = require "mw.errors"
local registry = require "mw._registry"
local validate = require "mw.validate"

local M = {}

--- What the workflows of functions are called.
M.PREFIX = "cron:"

local MAX_JITTER_S, MAX_MISFIRES = 3600, 1000
local policies = { misfire = { skip = true, once = true, all = true }, overlap = { skip = true, queue = true, allow = true } }
local options = {
  timezone = "string", misfire = "string", misfire_max = "integer", overlap = "string", jitter = "duration", retries = "integer",
  timeout = "duration", backoff = "table|duration",
}
local step_options = { "retries", "timeout", "backoff" }

local function throw(...) errors.throw("invalid", string.format(...)) end

local function choice(what, kind, value, fallback)
  if value == nil then return fallback end
  if policies[kind][value] then return value end
  local names = {}
  for name in pairs(policies[kind]) do names[#names + 1] = string.format("%q", name) end
  table.sort(names)
  throw("%s: %s is %s, not %q", what, kind, table.concat(names, ", "), value)
end

local function jitter_of(what, value)
  if value == nil then return 0 end
  local seconds = validate.duration(what .. ": jitter", value, true)
  if seconds > MAX_JITTER_S then throw("%s: jitter is at most an hour", what) end
  return seconds
end

-- The one-step workflow of a function.
local function workflow_of(what, name, fn, opts)
  local step = { name = "run" }
  for _, option in ipairs(step_options) do step[option] = opts[option] end
  function step.run(ctx)
    ctx.scheduled_at = ctx.input.scheduled_at
    return fn(ctx)
  end
  return define.compile_internal(what, M.PREFIX .. name, { step })
end

local function refuse_step_options(what, opts)
  for _, option in ipairs(step_options) do
    if opts[option] ~= nil then throw("%s: %s belongs to the workflow it starts", what, option) end
  end
end

--- The job of a declaration; raises for every mistake. Registers nothing.
function M.compile(name, expression, target, opts)
  policy.check_name("mw.cron", name)
  local what = string.format("mw.cron %q", name)
  validate.arg(what, 2, "expression", expression, "string")
  opts = validate.options(what, opts, options)
  local zone = opts.timezone or "UTC"
  local schedule, err = cron.new(expression, zone)
  if not schedule then throw("%s: %s", what, err.message) end
  local misfire_max = opts.misfire_max or 100
  if misfire_max < 1 or misfire_max > MAX_MISFIRES then throw("%s: misfire_max goes from 1 to %d", what, MAX_MISFIRES) end
  local job = {
    name = name, expression = expression, zone = zone, schedule = schedule, misfire_max = misfire_max, jitter = jitter_of(what, opts.jitter),
    misfire = choice(what, "misfire", opts.misfire, "once"), overlap = choice(what, "overlap", opts.overlap, "skip"),
  }
  if type(target) == "string" then
    refuse_step_options(what, opts)
    job.workflow = policy.check_name(what .. ": the workflow", target)
  elseif type(target) == "function" then
    job.workflow, job.definition = M.PREFIX .. name, workflow_of(what, name, target, opts)
  else
    throw("%s: argument 3 must be function(ctx) … end or the name of a workflow, got %s", what, validate.describe(target))
  end
  return job
end

---@class mw.CronOptions
---@field timezone? string of the expression, such as "Europe/Berlin"; default "UTC"
---@field misfire? "once"|"all"|"skip" what to do with ticks that were missed, default "once"
---@field misfire_max? integer for "all", default 100
---@field overlap? "skip"|"queue"|"allow" when the tick before still runs, default "skip"
---@field jitter? mw.Duration a tick starts up to that much later, default 0
---@field retries? integer of the step, default 3
---@field timeout? mw.Duration of one attempt, default 5 min
---@field backoff? mw.Duration|{ initial?: mw.Duration, factor?: number, max?: mw.Duration } the wait between attempts

---@class mw.CronContext: mw.StepContext
---@field scheduled_at string the tick, RFC 3339 in the job's zone

--- Declares a job: a function, or a workflow by its name, at set times.
---@param name string
---@param expression string "30 2 * * MON-FRI", "@hourly", "@every 90s"
---@param target string|fun(ctx: mw.CronContext): any
---@param opts? mw.CronOptions
function M.define(name, expression, target, opts)
  registry.need_loading("mw.cron")
  local job = M.compile(name, expression, target, opts)
  if registry.declare("cron", name, job) then registry.crons[name] = job end
  if job.definition then registry.declare("workflow", job.workflow, job.definition) end
end

--- A workflow that a job names must be there; the first that is not, as { job, message }.
function M.find_dangling()
  for _, job in pairs(registry.crons) do
    if not registry.workflows[job.workflow] then
      local near = validate.nearest(job.workflow, registry.workflows)
      return job, string.format("mw.cron %q starts the workflow %q, and no plugin declares one%s", job.name, job.workflow,
        near and string.format("; did you mean %q?", near) or "")
    end
  end
end

return M
