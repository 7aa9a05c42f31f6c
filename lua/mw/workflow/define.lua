-- SPDX-License-Identifier: MIT

--- `mw.workflow(name, steps, opts)` or `mw.workflow(name, function(ctx, input) … end, opts)`: declares a workflow.
--
--   mw.workflow("checkout", {
--     { name = "charge", retries = 3, timeout = "10s", run = function(ctx) … return { id = … } end },
--     { name = "email", run = function(ctx) … ctx.results.charge.id … end },
--   })
--
-- Options of a step, and of a workflow for all its steps:
--   retries  how often a failed attempt is made again, 0 to 1000 (3: up to four attempts)
--   timeout  of one attempt, a duration ("5m")
--   backoff  the wait between attempts (mw.workflow.backoff)
--   max_elapsed    of a step as a whole, from the start of its first attempt; no attempt begins after it, and one that runs is ended
--   non_retryable  a list of error codes after which there is no other attempt, as after an error with retryable = false
-- Of a workflow only:
--   deadline       of a run as a whole, from its creation; it fails with code "deadline"
--   concurrency    how many of its runs (with `group`: of a group's) have begun and not ended at a time
--   ordered        concurrency = 1: one after the other, in the order of their creation
--   rate           { max = 100, window = "1m" }: so many of its runs (with `group`: of a group's) begin in a window, evenly spaced; `burst` (1) may
--                  begin at once after a while without any
--   keep           how long ended runs are kept: a duration, or { completed =, failed =, cancelled = }
--   redact         paths of values that are stored encrypted and shown as dots: { "input.card", "results.charge.token" } (redact.lua)
--   on_change      "latest": a run goes on with the newest code; default "pinned": with the code that it began with
-- Of a step: `undo`, a function(ctx, result) that takes it back when the run fails later on, or is cancelled with undo; `undo_on = "started"` calls
-- it for a step that failed, too, because it may have acted (result nil).
-- Of a step: `name` (letters, digits, "_", "-", "."; unique in its workflow) and `run`. entries.lua has the other entries of a list. A mistake is a
-- load error with its line.

local entries = require "mw.workflow.entries"
local errors = require "mw.errors"
local policy = require "mw.workflow.policy"
local redact = require "mw.workflow.redact"
local registry = require "mw._registry"
local validate = require "mw.validate"

local M = {}

local MAX_CONCURRENCY, MAX_RATE = 1000000, 1000000
local MIN_WINDOW_S, MAX_WINDOW_S = 0.001, 365 * 86400

local check_span = policy.check_span
local workflow_options = policy.with(policy.options, {
  deadline = "duration", concurrency = "integer", ordered = "boolean", rate = "table", keep = "table|duration", on_change = "string",
  redact = "table",
})

local function throw(...) errors.throw("invalid", string.format(...)) end

local function check_concurrency(what, opts)
  if opts.ordered then
    if opts.concurrency and opts.concurrency ~= 1 then throw("%s: ordered runs come one after the other, so concurrency can only be 1", what) end
    return 1
  end
  local n = opts.concurrency
  if n and (n < 1 or n > MAX_CONCURRENCY) then throw("%s: concurrency must be between 1 and %d, got %d", what, MAX_CONCURRENCY, n) end
  return n
end

local rate_options = { max = "integer", window = "duration", burst = "integer" }

-- { every_us, burst }: how far from each other runs begin, and how many may at once.
local function check_rate(what, rate)
  if rate == nil then return nil end
  validate.options(what .. ": rate", rate, rate_options)
  if not rate.max or not rate.window then throw('%s: rate is { max = 100, window = "1m" }', what) end
  if rate.max < 1 or rate.max > MAX_RATE then throw("%s: rate.max must be between 1 and %d, got %d", what, MAX_RATE, rate.max) end
  local burst = rate.burst or 1
  if burst < 1 or burst > rate.max then throw("%s: rate.burst must be between 1 and rate.max, got %d", what, burst) end
  local window = validate.duration(what .. ": rate.window", rate.window)
  if window < MIN_WINDOW_S or window > MAX_WINDOW_S then throw("%s: rate.window must be between 1 ms and 365 days", what) end
  return { every_us = math.ceil(window * 1e6 / rate.max), burst = burst }
end

local keep_options = { completed = "duration", failed = "duration", cancelled = "duration" }

-- Seconds by status.
local function check_keep(what, keep)
  if keep == nil then return nil end
  if type(keep) ~= "table" then keep = { completed = keep, failed = keep, cancelled = keep } end
  validate.options(what .. ": keep", keep, keep_options)
  local seconds = {}
  for name, value in pairs(keep) do seconds[name] = validate.duration(what .. ": keep." .. name, value) end
  return seconds
end

-- What a workflow has beside its steps' policy.
local function add_options(workflow, what, opts)
  workflow.deadline = check_span(what, "deadline", opts.deadline)
  workflow.concurrency, workflow.rate, workflow.keep = check_concurrency(what, opts), check_rate(what, opts.rate), check_keep(what, opts.keep)
  if opts.on_change ~= nil and opts.on_change ~= "latest" and opts.on_change ~= "pinned" then
    throw("%s: on_change is \"pinned\" or \"latest\", got %q", what, opts.on_change)
  end
  workflow.on_change, workflow.redact = opts.on_change, redact.compile(what, opts.redact)
end

local function build(what, name, definition, opts)
  opts = validate.options(what, opts, workflow_options)
  local base = policy.of(what, opts, policy.default)
  local workflow = { name = name, what = "workflow " .. name, opts = base }
  add_options(workflow, what, opts)
  if type(definition) == "function" then
    workflow.form, workflow.body = "imperative", definition
  elseif type(definition) == "table" then
    workflow.steps = entries.compile(what, definition, base)
    workflow.form, workflow.body = "list", entries.body(workflow)
  else
    throw("%s: the second argument must be a list of steps or a function(ctx, input), got %s", what, validate.describe(definition))
  end
  return workflow
end

--- The definition of a workflow; raises for every mistake. Registers nothing.
function M.compile(name, definition, opts)
  policy.check_name("mw.workflow", name)
  return build(string.format("mw.workflow %q", name), name, definition, opts)
end

--- The same for what another declaration makes: under a name that no plugin can take, and not listed beside it.
function M.compile_internal(what, name, definition)
  local workflow = build(what, name, definition)
  workflow.is_internal = true
  return workflow
end

---@class mw.StepOptions
---@field retries? integer how often a failed attempt is made again, default 3
---@field timeout? mw.Duration of one attempt, default 5 min
---@field backoff? mw.Duration|{ initial?: mw.Duration, factor?: number, max?: mw.Duration, jitter?: number } the wait between attempts
---@field max_elapsed? mw.Duration of the step as a whole
---@field non_retryable? string[] error codes after which there is no other attempt
---@field undo? fun(ctx: mw.StepContext, result: any) takes the step back when the run fails later on, or is cancelled with undo
---@field undo_on? "finished"|"started" "started": also when the step failed, since it may have acted

---@class mw.WorkflowOptions: mw.StepOptions
---@field deadline? mw.Duration of a run as a whole
---@field concurrency? integer how many runs (of a group, when they have one) go on at a time
---@field ordered? boolean one run (of a group) after the other
---@field rate? { max: integer, window: mw.Duration, burst?: integer } how many runs (of a group) begin in a window
---@field keep? mw.Duration|{ completed?: mw.Duration, failed?: mw.Duration, cancelled?: mw.Duration } how long ended runs are kept
---@field redact? string[] paths of values that are stored encrypted: "input.card", "results.charge.token", "output.secret"
---@field on_change? "pinned"|"latest" whether a run finishes on the code that it began with

--- Declares a workflow: a list of steps, or a function. Options hold for all its steps.
---@param name string
---@param definition mw.Step[]|fun(ctx: mw.Context, input: any): any
---@param opts? mw.WorkflowOptions
function M.define(name, definition, opts)
  registry.need_loading("mw.workflow")
  registry.declare("workflow", name, M.compile(name, definition, opts))
end

return M
