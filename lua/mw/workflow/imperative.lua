-- SPDX-License-Identifier: MIT

--- Drives a workflow written as a function. Its body runs from the top after every resume; operations that the journal knows return (or
-- raise) what they did then, without being done again.
--
--   mw.workflow("onboarding", function(ctx, input)
--     local user = ctx:step("create", function(s) … s.attempt … end, { retries = 5, timeout = "10s", undo = function(s, user) … end })
--     ctx:sleep("3d")
--     local answer = ctx:wait_for("approved", { timeout = "7d" })
--     local r = ctx:all { stock = function(c) … c:step(…) end, card = function(c) … end }
--     local label = ctx:call("shipping", { to = input.address })
--     return { id = user.id, at = ctx:now() }
--   end)
--
-- A name that is used again gets "#2", "#3" in order. An operation that failed for good raises its error, which the body may catch. A body that
-- asks for another operation than the journal has at that place goes no further: the run is `stuck`, with what was expected and what came.
--
-- This file is the body's `ctx` and the run as a whole. strand.lua is the order of operations, step.lua, waits.lua, children.lua, parallel.lua
-- and undo.lua what they do, writer.lua when it is stored.

local children = require "mw.workflow.children"
local errors = require "mw.errors"
local http = require "mw.workflow.http"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local live = require "mw.workflow.live"
local parallel = require "mw.workflow.parallel"
local payload = require "mw.workflow.payload"
local policy = require "mw.workflow.policy"
local R = require "mw.workflow.run"
local redact = require "mw.workflow.redact"
local runtime = require "mw._runtime"
local S = require "mw.workflow.strand"
local status = require "mw.workflow.status"
local step = require "mw.workflow.step"
local transaction = require "mw.workflow.transaction"
local trigger = require "mw.workflow.trigger"
local undo = require "mw.workflow.undo"
local validate = require "mw.validate"
local waits = require "mw.workflow.waits"
local writer = require "mw.workflow.writer"

local M = {}

local MAX_BRANCHES = 1000
local DEFAULT_CONCURRENCY = 10

-- ---- ctx ----

local get_of_body

local function strand_of(ctx, what)
  local strand = R.run_of(ctx, get_of_body)
  if not strand then errors.throw("invalid", "write ctx:" .. what .. "(…) with a colon") end
  if strand.over then error(strand.over, 0) end
  if strand.phase == "body" then return strand end
  if strand.phase == "group" then
    errors.throw("invalid", string.format("ctx:%s: a branch of ctx:all and ctx:map has a ctx of its own; use the one that its function gets", what))
  end
  if strand.phase ~= "step" then
    errors.throw("invalid", string.format(
      "ctx:%s: the body or branch that this ctx belongs to has ended, or is in another call of it; use the ctx that the function got", what))
  end
  errors.throw("invalid", string.format(
    "ctx:%s cannot run inside a step: a step is one unit of work, so return from it first and call ctx:%s in the body", what, what))
end

-- Leaves the body for an operation and comes back; what the operation raises is raised in the body.
local function operate(strand, fn, ...)
  S.leave(strand)
  local ok, a, b, c = errors.pcall(fn, strand, ...)
  if strand.root == strand then writer.leave(strand) end
  S.enter(strand)
  if not ok then error(a, 0) end
  return a, b, c
end

---@class mw.Context
---@field id string
---@field workflow string
---@field input any
---@field results table<string, any> of the steps before, by name
local methods = {}

-- What the operation gave: value, or its error is raised. Later operations see it as results[name].
local function done(strand, key, ok, value)
  if not ok then
    if type(value) == "table" and value.step == nil then value.step = key end
    error(value, 0)
  end
  strand.results[key:match("[^/]*$")] = value
  return value
end

-- A step of any kind: `make(strand, key)` gives the function of its attempts.
local function do_step(strand, what, name, make, opts, callback_timeout)
  local key, known = S.next(strand, "step", name)
  local made = step.new(strand, string.format("%s(%q)", what, name), key, make(strand, key), opts)
  made.callback_timeout = callback_timeout
  local ok, value, text = step.run(strand, made, known)
  undo.note(strand, key, made, known, ok, text)
  return done(strand, key, ok, value)
end

--- Runs a step, or gives what it did before. A step that failed for good raises its error.
---@param name string
---@param fn fun(ctx: mw.StepContext): any
---@param opts? mw.StepOptions
---@return any
function methods.step(ctx, name, fn, opts)
  local strand = strand_of(ctx, "step")
  policy.check_name("ctx:step", name)
  validate.arg("ctx:step", 2, "fn", fn, "function")
  return operate(strand, do_step, "ctx:step", name, function() return fn end, opts)
end

--- A step whose SQL on the application database happens exactly once: it commits together with the step's result. `timeout` (10 s) is also
--- that of the transaction; what fails is rolled back and tried again as any step.
---@param name string
---@param fn fun(ctx: mw.StepContext, tx: mw.Tx): any
---@param opts? mw.StepOptions
---@return any
function methods.transaction(ctx, name, fn, opts)
  local strand = strand_of(ctx, "transaction")
  policy.check_name("ctx:transaction", name)
  validate.arg("ctx:transaction", 2, "fn", fn, "function")
  local timeout = policy.check_span("ctx:transaction", "timeout", type(opts) == "table" and opts.timeout or nil, true)
  return operate(strand, do_step, "ctx:transaction", name, function(_, key) return transaction.once(strand, key, fn, timeout) end, opts)
end

---@class mw.HttpStep
---@field url string|fun(ctx: mw.StepContext): string
---@field method? string default POST
---@field headers? table<string, string>|fun(ctx: mw.StepContext): table<string, string>
---@field secret? string signs the request

---@class mw.HttpStepOptions: mw.StepOptions
---@field callback_timeout? mw.Duration how long a service that answered 202 may take, default 1 day

--- A step that another service owns, in any language: it answers with the result, or with 202 and calls back when it has finished.
---@param name string
---@param request mw.HttpStep
---@param opts? mw.HttpStepOptions
---@return any
function methods.http(ctx, name, request, opts)
  local strand = strand_of(ctx, "http")
  local what = "ctx:http"
  policy.check_name(what, name)
  http.check(what, request)
  local rest = {}
  for key, value in pairs(opts or rest) do rest[key] = value end
  local timeout = policy.check_span(what, "callback_timeout", rest.callback_timeout) or http.DEFAULT_CALLBACK_S
  rest.callback_timeout = nil
  return operate(strand, do_step, what, name, function() return http.attempt(request, strand.input_text) end, rest, timeout)
end

local name_options = { name = "string" }

local function name_of(what, opts, default)
  opts = validate.options(what, opts, name_options)
  return opts.name and policy.check_name(what, opts.name) or default
end

--- Waits, for years if need be: a long sleep takes no memory and outlives restarts.
---@param duration mw.Duration
---@param opts? { name?: string }
function methods.sleep(ctx, duration, opts)
  local strand = strand_of(ctx, "sleep")
  local seconds = validate.duration("ctx:sleep", duration)
  operate(strand, waits.sleep, name_of("ctx:sleep", opts, "sleep"), function() return runtime.now_us() + seconds * 1e6 end)
end

--- Waits until a moment, seconds since 1970.
---@param time number
---@param opts? { name?: string }
function methods.sleep_until(ctx, time, opts)
  local strand = strand_of(ctx, "sleep_until")
  validate.arg("ctx:sleep_until", 1, "time", time, "number")
  if time ~= time or time > 1e11 then
    errors.throw("invalid", string.format("ctx:sleep_until: the time is seconds since 1970, got %s (milliseconds?)", tostring(time)))
  end
  operate(strand, waits.sleep, name_of("ctx:sleep_until", opts, "sleep_until"), function() return time * 1e6 end)
end

local wait_options = { name = "string", timeout = "duration", form = "table" }

local function do_wait(strand, name, signal, timeout, form)
  local text, came = waits.wait_for(strand, name, signal, timeout, form)
  if not came then return nil end
  if text == nil or text == "null" then return true end
  local value = payload.decode(text)
  strand.results[name] = value
  return value
end

--- Waits for a signal (mw.signal, POST …/signals/NAME) that came already or is still to come. Returns its data (true when it had none), or nil when
--- `timeout` is over. `form` describes what the signal should hold, for the person who sends it.
---@param signal string
---@param opts? { name?: string, timeout?: mw.Duration, form?: table } name: of the wait in the journal; the signal's if nothing is said
---@return any
function methods.wait_for(ctx, signal, opts)
  local strand = strand_of(ctx, "wait_for")
  policy.check_name("ctx:wait_for", signal)
  opts = validate.options("ctx:wait_for", opts, wait_options)
  local timeout = opts.timeout ~= nil and validate.duration("ctx:wait_for: timeout", opts.timeout) or nil
  local name = opts.name and policy.check_name("ctx:wait_for", opts.name) or signal
  return operate(strand, do_wait, name, signal, timeout, waits.form_text("ctx:wait_for", opts.form))
end

---@class mw.ChildOptions
---@field name? string of the call in the journal; the workflow's if nothing is said
---@field on_cancel? "cancel"|"leave" what becomes of the child when its parent is cancelled: ctx:call cancels, ctx:trigger leaves
---@field undo? fun(ctx: mw.StepContext, result: any) of ctx:call
---@field id? string of ctx:trigger: your own name for the run
---@field group? string
---@field priority? integer
---@field tags? string[]
---@field delay? mw.Duration of ctx:trigger
---@field at? number of ctx:trigger, seconds since 1970

local call_options = { name = "string", on_cancel = "string", undo = "function", group = "string", priority = "integer", tags = "table" }
local trigger_options = {
  name = "string", on_cancel = "string", id = "string", group = "string", priority = "integer", tags = "table", delay = "duration", at = "number",
}

local function child_options(what, opts, known)
  opts = validate.options(what, opts, known)
  if opts.on_cancel and opts.on_cancel ~= "cancel" and opts.on_cancel ~= "leave" then
    errors.throw("invalid", string.format("%s: on_cancel is \"cancel\" or \"leave\", got %q", what, opts.on_cancel))
  end
  if opts.name then policy.check_name(what, opts.name) end
  return trigger.check(what, opts)
end

local function input_text(what, input)
  local text, err = payload.encode(input, "input")
  if err then errors.throw("invalid", what .. ": " .. err.message) end
  return text
end

local function do_call(strand, name, text, opts)
  local ok, value, result, key, known = children.call(strand, name, text, opts)
  if opts.undo then
    local policy = strand.def.opts
    undo.note(strand, key, setmetatable({ undo = opts.undo }, { __index = policy }), known, ok, result)
  end
  return done(strand, key, ok, value)
end

--- Runs another workflow as a child and waits for its end, without taking memory. Returns its output; raises its error.
---@param workflow string
---@param input? any JSON
---@param opts? mw.ChildOptions
---@return any
function methods.call(ctx, workflow, input, opts)
  local strand = strand_of(ctx, "call")
  policy.check_name("ctx:call", workflow)
  return operate(strand, do_call, workflow, input_text("ctx:call", input), child_options("ctx:call", opts, call_options))
end

--- Starts another workflow and does not wait for it: once, however often the body runs.
---@param workflow string
---@param input? any JSON
---@param opts? mw.ChildOptions
---@return { id: string }
function methods.trigger(ctx, workflow, input, opts)
  local strand = strand_of(ctx, "trigger")
  policy.check_name("ctx:trigger", workflow)
  local id = operate(strand, children.trigger, workflow, input_text("ctx:trigger", input), child_options("ctx:trigger", opts, trigger_options))
  return { id = id }
end

local function new_context(strand)
  return setmetatable({ id = strand.id, workflow = strand.workflow, results = strand.results }, R.context_meta(strand, get_of_body))
end

local function do_group(strand, name, branches, concurrency)
  local key, known = S.next(strand, "group", name)
  if not known then
    S.boundary(strand)
    local names = {}
    for i = 1, #branches do names[i] = branches[i].name end
    writer.add(strand.root, journal.group(key, names, R.elapsed(strand)))
  end
  return parallel.run(strand, key, branches, concurrency, new_context)
end

local function check_count(what, count)
  if count <= MAX_BRANCHES then return end
  errors.throw("limit", string.format("%s: %d branches; at most %d, so work through a longer list in parts, or start further runs", what, count, MAX_BRANCHES))
end

local function sorted_names(fns)
  local names = {}
  for name, fn in next, fns do
    if type(name) == "number" then
      if name % 1 ~= 0 then errors.throw("invalid", "ctx:all: a branch is named by a string or a whole number, got " .. name) end
      name = tostring(name)
      if fns[name] ~= nil then errors.throw("invalid", string.format("ctx:all: there are two branches %s, one as a number and one as a string", name)) end
    end
    policy.check_name("ctx:all", name)
    if type(fn) ~= "function" then errors.throw("invalid", string.format("ctx:all: entry %q must be a function, got %s", name, validate.describe(fn))) end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local all_options = { name = "string", concurrency = "integer" }

local function group_options(what, opts, default, concurrency)
  opts = validate.options(what, opts, all_options)
  local wanted = opts.concurrency or concurrency
  if wanted < 1 then errors.throw("invalid", what .. ": concurrency must be at least 1, got " .. wanted) end
  return opts.name and policy.check_name(what, opts.name) or default, wanted
end

--- Runs branches beside each other and waits for all of them; the results by name. Each gets a ctx of its own, and each of its steps is recorded by
--- itself. A branch that fails stops no other; when all have ended, the error of the first in order of names is raised.
---@param fns table<string, fun(ctx: mw.Context): any>
---@param opts? { name?: string, concurrency?: integer }
---@return table<string, any>
function methods.all(ctx, fns, opts)
  local strand = strand_of(ctx, "all")
  validate.arg("ctx:all", 1, "functions", fns, "table")
  local names, branches, results = sorted_names(fns), {}, {}
  check_count("ctx:all", #names)
  local name, concurrency = group_options("ctx:all", opts, "all", MAX_BRANCHES)
  for i, branch in ipairs(names) do branches[i] = { name = branch, run = fns[branch] or fns[tonumber(branch)] } end
  local values = operate(strand, do_group, name, branches, concurrency)
  for i, branch in ipairs(names) do
    local at = fns[branch] and branch or tonumber(branch)
    results[at] = values[i]
  end
  return results
end

--- Calls fn(ctx, item, index) for each item of a list, `concurrency` (10) at a time; the results in the order of the list.
---@param list any[]
---@param fn fun(ctx: mw.Context, item: any, index: integer): any
---@param opts? { name?: string, concurrency?: integer }
---@return any[]
function methods.map(ctx, list, fn, opts)
  local strand = strand_of(ctx, "map")
  validate.arg("ctx:map", 1, "list", list, "table")
  validate.arg("ctx:map", 2, "fn", fn, "function")
  local branches, count = {}, #list
  check_count("ctx:map", count)
  local name, concurrency = group_options("ctx:map", opts, "map", DEFAULT_CONCURRENCY)
  for i = 1, count do branches[i] = { name = tostring(i), run = fn, item = list[i] } end
  return operate(strand, do_group, name, branches, concurrency)
end

--- Publishes the run's live state for the API and the dashboard; it replaces what was shown.
---@param state table JSON
function methods.set(ctx, state) live.set(strand_of(ctx, "set"), state) end

--- Shows how far the run is.
---@param done number
---@param total? number
---@param text? string
function methods.progress(ctx, done, total, text) live.progress(strand_of(ctx, "progress"), done, total, text) end

--- Seconds since 1970, the same each time the body runs.
---@return number
function methods.now(ctx)
  local strand = strand_of(ctx, "now")
  return (strand.start_us + strand.virtual) / 1e6
end

--- As math.random, the same each time the body runs.
---@param m? integer
---@param n? integer
---@return number
function methods.random(ctx, m, n)
  local unit = S.generator(strand_of(ctx, "random")):unit()
  if m == nil then return unit end
  if n == nil then m, n = 1, m end
  validate.arg("ctx:random", 1, "m", m, "integer")
  validate.arg("ctx:random", 2, "n", n, "integer")
  if n < m then errors.throw("invalid", string.format("ctx:random: the interval %d … %d is empty", m, n)) end
  return m + math.floor(unit * (n - m + 1))
end

--- A UUID, the same each time the body runs.
---@return string
function methods.uuid(ctx) return S.generator(strand_of(ctx, "uuid")):uuid() end

local function skip(strand, name)
  local key, known = S.next(strand, "skip", name)
  if known then return S.pass(strand, known.ended) end
  S.boundary(strand)
  local at = R.elapsed(strand)
  writer.add(strand.root, journal.skip(key, at))
  S.pass(strand, at)
end

function get_of_body(ctx, key)
  if key == "input" then
    local value = payload.decode(R.run_of(ctx, get_of_body).input_text)
    ctx.input = value
    return value
  end
  return methods[key]
end

--- Whether an entry of a list (entries.lua) is skipped by its `when`, which is asked once: the journal knows what it said.
function M.skip(ctx, entry)
  local strand = strand_of(ctx, "when")
  local known = strand.order[strand.cursor + 1]
  if known and known.name == strand.prefix .. entry.name then
    if known.kind ~= "skip" then return false end
  elseif entry.when(ctx) then
    return false
  end
  operate(strand, skip, entry.name)
  return true
end

-- ---- the run ----

local function finish(run, value)
  local text, err = payload.encode(value, "output")
  if err then return undo.finish(run, "failed", err, nil, true) end
  if run.def.redact then text = redact.seal(run.def.redact, "output", nil, text) end
  local ok, why = writer.commit(run, status.COMPLETED, nil, text)
  if not ok and why.code ~= "stale" then R.fail(run, nil, why, run.step and run.step.name or nil) end
end

-- The body is over: what becomes of the run, when that is not stored already.
local function conclude(run, ok, value)
  if run.over then
    local ending = run.ending
    if run.settled or not (run.frozen or ending) then return end
    run.over = nil
    if run.frozen then return undo.go_on(run) end -- whatever came since: what began to be undone is undone
    return undo.finish(run, ending.why, ending.err, nil, ending.undo)
  end
  if run.frozen then return undo.go_on(run) end
  if ok then return finish(run, value) end
  local err = errors.from(value)
  if S.is_late(run) then err = run.ending.err end
  undo.finish(run, "failed", err, type(err.step) == "string" and err.step or nil, true)
end

local function run_body(run, ctx)
  local value = run.def.body(ctx, ctx.input)
  if not run.over then S.check_end(run) end
  return value
end

--- Runs the body from the top against run.state until the run is over or not ours any more.
function M.drive(run)
  S.begin(run)
  local deadline = run.def.deadline
  run.deadline_us = deadline and run.start_us + deadline * 1e6
  run.frozen = run.state.undo ~= nil or nil
  run.ending, run.compensating = nil, nil
  local ctx = new_context(run)
  S.enter(run)
  local ok, value = errors.pcall(run_body, run, ctx)
  if not ok and not run.over then R.leave_when_full(value) end
  S.leave(run)
  parallel.abandon(run)
  return conclude(run, ok, value)
end

--- Runs the body against run.state as far as that goes, and stores nothing (replay.lua). Returns whether it returned, and what; `run.over` says
--- that it was stopped, `run.verdict` that it went another way, `run.came_to` the first operation that the journal does not have.
function M.replay(run)
  S.begin(run)
  run.deadline_us, run.frozen, run.replays = false, true, true
  local ctx = new_context(run)
  S.enter(run)
  local ok, value = errors.pcall(run_body, run, ctx)
  S.leave(run)
  parallel.abandon(run)
  return ok, value
end

local function is_under_way(run, known)
  if known.kind ~= "step" or known.done or known.failed or known.accepted then return false end
  return known.open or not (known.due and run.start_us + known.due > runtime.now_us())
end

--- Goes on where the journal ends.
function M.resume(run, state, was_interrupted)
  run.state = state
  if state.undo and run.control and run.control ~= R.PAUSE then run.control = false end
  if was_interrupted then
    local some = false
    for _, known in ipairs(state.order) do
      if is_under_way(run, known) then
        some = true
        if R.interrupted(run, state, known.name, json.encode(known.name)) ~= "again" then return end
      end
    end
    if not some and R.interrupted(run, state) ~= "again" then return end
  end
  return M.drive(run)
end

--- The task died: in a step, or in the body. Returns "reload" when the run should be driven on from the journal.
function M.died(run, err)
  parallel.abandon(run)
  if err.code == "cancelled" then -- by an operator
    if run.phase == "step" then writer.add(run, journal.interruption(run.step.quoted, run.attempt, R.elapsed(run))) end
    return writer.commit(run) and "reload" or "over"
  end
  if run.phase == "body" then
    conclude(run, false, err) -- it may have been over: then the body went on all the same, catching what it was told
    return "over"
  end
  local row, due_us = R.failure_row(run, run.step, err)
  writer.add(run, row)
  if not writer.commit(run) then return "over" end
  if not due_us then return "reload" end
  local ok, why = errors.pcall(S.wait, run, due_us)
  if ok then return "reload" end
  if not run.over then error(why, 0) end
  return run.ending and not run.settled and "reload" or "over" -- it ends where the body can say what is to be undone
end

--- What waits for the next commit, outside of a task: row, more; nil when there is nothing.
function M.leftover(run)
  if not run.events then return nil end
  parallel.interruptions(run)
  return writer.leftover(run)
end

--- Its branches end with it.
function M.abandon(run)
  run.over = run.over or errors.new("cancelled", "the execution goes on elsewhere")
  parallel.abandon(run)
end

--- An operator cancels it: what is under way ends.
M.cancel_attempts = parallel.cancel_attempts

--- Fire and forget, outside of a task: what `died` would have stored. The arguments of a commit.
function M.death_row(run, err)
  if run.phase == "body" then
    if #run.undos > 0 then return M.leftover(run), status.QUEUED end -- it fails there again, where it can undo
    return M.leftover(run), status.FAILED, nil, nil, R.error_text(err)
  end
  local row, due_us = R.failure_row(run, run.step, errors.from(err))
  if due_us then return row, status.SLEEPING, due_us end
  return row, status.QUEUED, nil
end

return M
