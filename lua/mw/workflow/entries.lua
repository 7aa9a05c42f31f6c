-- SPDX-License-Identifier: MIT

--- The entries of a workflow in list form. Each is one of
--
--   { name = "charge", run = function(ctx) … end, undo = function(ctx, result) … end, retries =, timeout =, … }    a step
--   { name = "pay", transaction = true, run = function(ctx, tx) … end }              a step whose SQL happens exactly once (transaction.lua)
--   { name = "ship", http = { url = … }, callback_timeout = "2h", retries = … }      a step that another service owns (http.lua)
--   { sleep = "3d" }                            or a number of seconds, or function(ctx) that says how long
--   { wait_for = "approved", timeout = "7d", form = {…} }
--   { call = "shipping", input = {…} }          input: a value, or function(ctx); without it the run's own input. on_cancel, undo
--   { trigger = "receipt", input = … }          a child that is not waited for
--   { name = "checks", all = { entries… } }     beside each other
--
-- with `when = function(ctx) … end`: an entry for which it gives nil or false is skipped, and that is recorded. The result of an entry is
-- ctx.results[name]; sleep, wait_for, call and trigger have a name by themselves ("sleep", the signal, the workflow) unless they say another.
-- The output of a run is the result of the last entry that was not skipped.
--
-- A list of plain steps has its own fast driver (list.lua). Any other is a body for imperative.lua, made here.

local errors = require "mw.errors"
local http = require "mw.workflow.http"
local json = require "mw.core.json"
local policy = require "mw.workflow.policy"
local validate = require "mw.validate"

local M = {}

local MAX_ENTRIES = 1000

local step_options = policy.with(policy.step_options, { name = "string", run = "callable", when = "callable" })
local kinds = {
  run = policy.with(step_options, { transaction = "boolean" }),
  http = policy.with(step_options, { http = "table", callback_timeout = "duration" }),
  sleep = { name = "string", sleep = "duration|function", when = "callable" },
  wait_for = { name = "string", wait_for = "string", timeout = "duration", form = "table", when = "callable" },
  call = {
    name = "string", call = "string", input = "any", on_cancel = "string", undo = "function", group = "string", priority = "integer", tags = "table",
    when = "callable",
  },
  trigger = {
    name = "string", trigger = "string", input = "any", on_cancel = "string", group = "string", priority = "integer", tags = "table",
    delay = "duration", when = "callable",
  },
  all = { name = "string", all = "table", when = "callable" },
}
local order = { "run", "http", "sleep", "wait_for", "call", "trigger", "all" }

local function throw(...) errors.throw("invalid", string.format(...)) end

-- ---- reading them ----

local function kind_of(what, index, entry)
  if type(entry) ~= "table" then
    throw("%s: entry %d must be a table like { name = \"charge\", run = function(ctx) … end }, got %s", what, index, validate.describe(entry))
  end
  local found
  for _, kind in ipairs(order) do
    if entry[kind] ~= nil then
      if found then throw("%s: entry %d is both a `%s` and a `%s` entry; make two of it", what, index, found, kind) end
      found = kind
    end
  end
  return found or "run"
end

local function default_name(kind, entry)
  if kind == "wait_for" or kind == "call" or kind == "trigger" then return entry[kind] end
  if kind == "sleep" or kind == "all" then return kind end
end

local function claim_name(what, index, entry, kind, seen)
  local name = entry.name
  if name == nil and kind ~= "run" and kind ~= "http" then
    local base, n = default_name(kind, entry), 1
    name = base
    while seen[name] do
      n = n + 1
      name = base .. "." .. n
    end
  end
  policy.check_name(what .. ": entry " .. index, name)
  if seen[name] then
    throw("%s: step %q is declared twice, as entry %d and entry %d; step names are unique in a workflow", what, name, seen[name], index)
  end
  seen[name] = index
  return name
end

local compile

local check = {}

function check.run(what, entry)
  if not entry.run then throw("%s needs run = function(ctx) … end", what) end
end

function check.http(what, entry)
  http.check(what, entry.http)
  policy.check_span(what, "callback_timeout", entry.callback_timeout)
end

function check.sleep(what, entry)
  if type(entry.sleep) ~= "function" then validate.duration(what .. ": sleep", entry.sleep) end
end

function check.wait_for(what, entry)
  policy.check_name(what, entry.wait_for)
  policy.check_span(what, "timeout", entry.timeout)
end

function check.call(what, entry) policy.check_name(what, entry.call) end

function check.trigger(what, entry) policy.check_name(what, entry.trigger) end

function check.all(what, entry, base, seen, compiled)
  compiled.entries = compile(what, entry.all, base, seen)
end

local function compile_entry(what, index, entry, seen, base)
  local kind = kind_of(what, index, entry)
  local name = claim_name(what, index, entry, kind, seen)
  what = string.format("%s: step %q", what, name)
  validate.options(what, entry, kinds[kind])
  local step = (kind == "run" or kind == "http") and policy.of(what, entry, base) or {}
  step.name, step.quoted, step.kind, step.run, step.when = name, json.encode(name), kind, entry.run, entry.when
  step.entry = entry
  check[kind](what, entry, base, seen, step)
  return step
end

function compile(what, list, base, seen)
  local steps, count = {}, #list
  for key in pairs(list) do
    if type(key) ~= "number" then
      throw("%s: the steps are a list { {name=…, run=…}, … }, but there is a key %s", what, validate.describe(key))
    end
  end
  if count == 0 then throw("%s has no steps; give it at least one { name = …, run = function(ctx) … end }", what) end
  if count > MAX_ENTRIES then throw("%s has %d steps; at most %d", what, count, MAX_ENTRIES) end
  for i = 1, count do steps[i] = compile_entry(what, i, list[i], seen, base) end
  return steps
end

--- The entries, checked: a list of { name, quoted, kind, … }, those of steps with their policy. `base`: what the workflow says of them.
function M.compile(what, list, base) return compile(what, list, base, {}) end

-- ---- as a body ----

local function given(ctx, value)
  if type(value) == "function" then return value(ctx) end
  if value == nil then return ctx.input end
  return value
end

local run_list

local drive = {}

-- What an entry says of its attempts.
local function options_of(entry)
  return {
    retries = entry.retries, timeout = entry.timeout, backoff = entry.backoff, max_elapsed = entry.max_elapsed, non_retryable = entry.non_retryable,
    undo = entry.undo, undo_on = entry.undo_on, callback_timeout = entry.callback_timeout,
  }
end

function drive.run(ctx, step)
  if step.entry.transaction then return ctx:transaction(step.name, step.run, options_of(step.entry)) end
  return ctx:step(step.name, step.run, options_of(step.entry))
end

function drive.http(ctx, step) return ctx:http(step.name, step.entry.http, options_of(step.entry)) end

function drive.sleep(ctx, step)
  local duration = step.entry.sleep
  if type(duration) == "function" then duration = duration(ctx) end
  ctx:sleep(duration, { name = step.name })
end

function drive.wait_for(ctx, step)
  local entry = step.entry
  return ctx:wait_for(entry.wait_for, { name = step.name, timeout = entry.timeout, form = entry.form })
end

function drive.call(ctx, step)
  local entry = step.entry
  return ctx:call(entry.call, given(ctx, entry.input), {
    name = step.name, on_cancel = entry.on_cancel, undo = entry.undo, group = entry.group, priority = entry.priority, tags = entry.tags,
  })
end

function drive.trigger(ctx, step)
  local entry = step.entry
  return ctx:trigger(entry.trigger, given(ctx, entry.input), {
    name = step.name, on_cancel = entry.on_cancel, group = entry.group, priority = entry.priority, tags = entry.tags, delay = entry.delay,
  })
end

function drive.all(ctx, step)
  local branches = {}
  for _, inner in ipairs(step.entries) do
    branches[inner.name] = function(branch) return run_list(branch, { inner }) end
  end
  local results = ctx:all(branches, { name = step.name })
  for name, value in pairs(results) do ctx.results[name] = value end
  return results
end

function run_list(ctx, steps)
  local skip, output = require("mw.workflow.imperative").skip, nil
  for i = 1, #steps do
    local step = steps[i]
    if not (step.when and skip(ctx, step)) then
      output = drive[step.kind](ctx, step)
      ctx.results[step.name] = output
    end
  end
  return output
end

local function is_plain(step) return step.kind == "run" and not (step.when or step.entry.undo or step.entry.transaction) end

--- How a list is driven: a body for imperative.lua, or nil when list.lua can.
function M.body(workflow)
  local plain = not workflow.deadline
  for _, step in ipairs(workflow.steps) do plain = plain and is_plain(step) end
  if plain then return nil end
  return function(ctx) return run_list(ctx, workflow.steps) end
end

---@class mw.Step: mw.StepOptions one entry of a list; see the kinds in docs/workflows.md
---@field name? string
---@field run? fun(ctx: mw.StepContext, tx?: mw.Tx): any
---@field transaction? boolean its SQL happens exactly once; run gets the transaction
---@field http? mw.HttpStep
---@field callback_timeout? mw.Duration
---@field sleep? mw.Duration|fun(ctx: mw.Context): mw.Duration
---@field wait_for? string
---@field form? table
---@field call? string
---@field trigger? string
---@field input? any
---@field all? mw.Step[]
---@field when? fun(ctx: mw.Context): boolean?

return M
