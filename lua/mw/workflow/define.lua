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
-- Of a step: `name` (letters, digits, "_", "-", "."; unique in its workflow) and `run`. A mistake is a load error with its line.

local backoff = require "mw.workflow.backoff"
local errors = require "mw.errors"
local json = require "mw.core.json"
local registry = require "mw._registry"
local validate = require "mw.validate"

local M = {}

M.DEFAULT_RETRIES = 3
M.DEFAULT_TIMEOUT = 300
local MAX_RETRIES = 1000
local MAX_STEPS = 1000
local MAX_NAME = 200

local entry_options = { name = "string", run = "callable", retries = "integer", timeout = "duration", backoff = "table|duration" }
local workflow_options = { retries = "integer", timeout = "duration", backoff = "table|duration" }
M.step_options = workflow_options

local function throw(...) errors.throw("invalid", string.format(...)) end

local function check_name(what, name)
  if type(name) ~= "string" or name == "" then throw("%s: the name must be a non-empty string, got %s", what, validate.describe(name)) end
  if #name > MAX_NAME then throw("%s: the name is %d bytes long; at most %d", what, #name, MAX_NAME) end
  if not name:find("^[%w_][%w_%.%-]*$") then
    throw("%s: the name %q may have letters, digits, \"_\", \"-\" and \".\"", what, name)
  end
  return name
end
M.check_name = check_name

local function check_retries(what, retries)
  if retries < 0 or retries > MAX_RETRIES then throw("%s: retries must be between 0 and %d, got %s", what, MAX_RETRIES, tostring(retries)) end
  return retries
end

--- retries, timeout and backoff of `opts`, each falling back to `base`.
function M.policy(what, opts, base)
  local timeout = base.timeout
  if opts.timeout ~= nil then
    timeout = validate.duration(what .. ": timeout", opts.timeout, true)
    if timeout <= 0 then throw("%s: timeout must be more than nothing", what) end
  end
  return {
    retries = opts.retries ~= nil and check_retries(what, opts.retries) or base.retries,
    timeout = timeout,
    backoff = opts.backoff ~= nil and backoff.parse(what, opts.backoff) or base.backoff,
  }
end

local function kind_of(entry)
  for _, kind in ipairs { "sleep", "wait_for", "call", "all", "http", "transaction" } do
    if entry[kind] ~= nil then return kind end
  end
end

local function compile_entry(what, index, entry, seen, base)
  if type(entry) ~= "table" then
    throw("%s: entry %d must be a table like { name = \"charge\", run = function(ctx) … end }, got %s", what, index, validate.describe(entry))
  end
  local kind = kind_of(entry)
  if kind then
    throw("%s: entry %d is a `%s` entry; an entry is { name = …, run = function(ctx) … end, retries =, timeout =, backoff = }", what, index, kind)
  end
  local name = check_name(what .. ": entry " .. index, entry.name)
  what = string.format("%s: step %q", what, name)
  if seen[name] then throw("%s is declared twice, as entry %d and entry %d; step names are unique in a workflow", what, seen[name], index) end
  seen[name] = index
  validate.options(what, entry, entry_options)
  if not entry.run then throw("%s needs run = function(ctx) … end", what) end
  local step = M.policy(what, entry, base)
  step.name, step.quoted, step.run = name, json.encode(name), entry.run
  return step
end

local function compile_list(what, list, base)
  local steps, seen, count = {}, {}, #list
  for key in pairs(list) do
    if type(key) ~= "number" then
      throw("%s: the steps are a list { {name=…, run=…}, … }, but there is a key %s", what, validate.describe(key))
    end
  end
  if count == 0 then throw("%s has no steps; give it at least one { name = …, run = function(ctx) … end }", what) end
  if count > MAX_STEPS then throw("%s has %d steps; at most %d", what, count, MAX_STEPS) end
  for i = 1, count do steps[i] = compile_entry(what, i, list[i], seen, base) end
  return steps
end

local function build(what, name, definition, opts)
  opts = validate.options(what, opts, workflow_options)
  local base = M.policy(what, opts, { retries = M.DEFAULT_RETRIES, timeout = M.DEFAULT_TIMEOUT, backoff = backoff.default })
  local workflow = { name = name, what = "workflow " .. name, opts = base }
  if type(definition) == "function" then
    workflow.form, workflow.body = "imperative", definition
  elseif type(definition) == "table" then
    workflow.form, workflow.steps = "list", compile_list(what, definition, base)
  else
    throw("%s: the second argument must be a list of steps or a function(ctx, input), got %s", what, validate.describe(definition))
  end
  return workflow
end

--- The definition of a workflow; raises for every mistake. Registers nothing.
function M.compile(name, definition, opts)
  check_name("mw.workflow", name)
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
---@field backoff? mw.Duration|{ initial?: mw.Duration, factor?: number, max?: mw.Duration } the wait between attempts

---@class mw.Step: mw.StepOptions
---@field name string
---@field run fun(ctx: mw.StepContext): any

--- Declares a workflow: a list of steps, or a function. Options hold for all its steps.
---@param name string
---@param definition mw.Step[]|fun(ctx: mw.Context, input: any): any
---@param opts? mw.StepOptions
function M.define(name, definition, opts)
  registry.need_loading("mw.workflow")
  registry.declare("workflow", name, M.compile(name, definition, opts))
end

return M
