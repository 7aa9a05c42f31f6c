-- SPDX-License-Identifier: MIT

--- Runs executions on this worker: starts those that are triggered here while there is room, claims the others when they are due, goes
-- on with those whose task died, and gives back what it may not finish.
--
--   engine.start()                 in a task, when this state begins to serve; claims until it is not current any more
--   engine.wake(due_us)            something may be due then (0: now)
--   engine.stop()                  the server drains: nothing begins here any more; runs stop at their next step boundary
--   engine.create(request)         -> id, created | nil, err
--
-- A run has a task of its own, so that a request that is cancelled while its trigger commits does not take the run with it.
-- Room is `workflow.concurrency` runs a worker; a trigger beyond it is stored as queued and claimed later, by whoever has room.

local core = require "mw.core.task"
local determinism = require "mw.workflow.determinism"
local errors = require "mw.errors"
local fold = require "mw.workflow.fold"
local imperative = require "mw.workflow.imperative"
local journal = require "mw.workflow.journal"
local list = require "mw.workflow.list"
local R = require "mw.workflow.run"
local registry = require "mw._registry"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {
  read_pauses = nil,    -- function(), in a task: calls set_paused with what the database says (mw.runs)
  on_paused = nil,      -- function(id), in a task: a run of this id was paused here, which may have been taken back meanwhile (mw.runs)
  on_look = nil,        -- function(), in a task: every few seconds, while this state serves (mw.boot)
  on_cancelled = nil,   -- function(id), in a run's task: it is about to end as cancelled, its children may go with it (mw.runs)
  claim_every_us = 5e6, -- also without being woken: other nodes' runs whose lease ran out. mw.testing has no other nodes
}

local DEFAULT_CONCURRENCY = 1000
local CLAIM_BATCH = 200
local STORE_AWAY_S = 0.5
local STORE_AWAY_US = 5e5
local CODE_AWAY_US = 5e6
local API_LEVEL = 1

local now_us, spawn = runtime.now_us, core.spawn

local active, room = 0, nil
local stopped, started = false, false
local takes = false          -- starts begin here: it is known what is paused
local backlog = false        -- runs are stored as queued that had no room here
local next_due = math.huge   -- microseconds
local parked                 -- token of the claim loop while it waits
local woken = false
local stored_bundles = {}
local paused, has_pauses = {}, false
local is_ours = false        -- what is to be claimed was said here, and not by another node
local in_hand = {}           -- runs by id

local function limit()
  room = tonumber(runtime.config("workflow.concurrency")) or DEFAULT_CONCURRENCY
  return room
end

function M.is_stopped() return stopped end

--- Names of paused workflows as keys, "*" for all of them (mw.runs.pauses).
function M.set_paused(names)
  paused, has_pauses = names, next(names) ~= nil
end

--- Whether runs of that workflow shall begin nothing.
function M.is_paused(workflow) return has_pauses and (paused["*"] or paused[workflow]) or false end

--- Runs in hand, and how many there may be.
function M.load() return active, room or limit() end

local function wake_loop()
  woken = true
  local token = parked
  if token then
    parked = nil
    core.wake(token)
  end
end

--- Something is due at `due_us` (nil or 0: now; -1: another node says so).
function M.wake(due_us)
  due_us = due_us or 0
  if due_us >= 0 then is_ours = true end
  if due_us < next_due then
    next_due = due_us
    wake_loop()
  end
end

--- A run was stored for later: this worker claims it when it may, otherwise whoever is current, here or on another node.
function M.note_due(due_us)
  if not stopped and core.is_current() then return M.wake(due_us) end
  runtime.wake_engines(due_us)
  if stopped then store.notify() end
end

local function run_hook(what, hook, ...)
  local ok, err = errors.pcall(hook, ...)
  if ok then return true end
  if errors.from(err).code == "cancelled" then return nil end
  runtime.log("error", "workflow", string.format("%s failed: %s", what, tostring(err)))
end

-- Calls what others have put in for us, in a task of its own.
local function spawn_hook(what, hook, ...)
  if hook then pcall(spawn, run_hook, "workflow " .. what, nil, what, hook, ...) end
end

--- Cancels the children of a run that ends as cancelled, before it does: when the server ends in between, whoever claims the run does it again.
--- False when that could not be done now. In the run's task; waits.
function M.cancel_children(run)
  if run.driver ~= imperative or not M.on_cancelled then return true end
  return run_hook("cancelling children", M.on_cancelled, run.id) == true
end

local function load_pauses() spawn_hook("reading pauses", M.read_pauses) end

local function append_now(run, data, to, due_us, output, error_text, more)
  local number = data and run.number + 1 or 0
  if data then run.number = number end
  if to then run.settled = true end
  return store.append(run.id, run.fence, number, data, to, due_us, output, error_text, nil, R.more_of(run, to, more))
end

-- Nobody would ever look after it again: it is stored as running, by this server.
local function put_up(run)
  runtime.log("error", "workflow", string.format("execution %s of %q was left without an outcome; it is tried again", run.id, run.workflow),
    { execution = run.id })
  R.release(run, nil, now_us() + CODE_AWAY_US)
end

local function forget_results(id) require("mw.workflow.transaction").forget(id) end

local function end_run(run)
  if not (run.settled or run.ended_here) then put_up(run) end
  if run.ended_here then return end
  run.ended_here = true
  if run.id then in_hand[run.id] = nil end
  if run.control == R.PAUSE then spawn_hook("looking whether a pause was taken back", M.on_paused, run.id) end
  if run.has_results and run.w_status == status.COMPLETED then spawn_hook("forgetting results", forget_results, run.id) end
  if run.passes_on then M.note_due(0) end -- to its parent, or to the next of its group
  active = active - 1
  if backlog and not stopped then
    backlog = false
    M.wake(0)
  end
end

-- ---- runs whose task died ----

local function leftover(run)
  local take = run.driver and run.driver.leftover
  return take and take(run)
end

local function give_back(run, to, due_us)
  local row, more = leftover(run)
  append_now(run, row, to, due_us, nil, nil, more)
end

-- Outside of a task: nothing can be waited for, so what is known is queued, and the run goes on elsewhere.
local function hand_back(run, err)
  if run.phase == "commit" then
    if run.w_number > 0 then run.number = run.w_number end
    store.append(run.id, run.fence, run.w_number, run.w_data, run.w_status, run.w_due, run.w_output, run.w_error, nil, run.w_more)
    run.settled = true
    if run.w_status == nil then append_now(run, nil, status.QUEUED, now_us()) end
  elseif run.phase == "step" and err.code == "cancelled" then
    append_now(run, journal.interruption(run.step.quoted, run.attempt, R.elapsed(run)), status.QUEUED, now_us())
  elseif run.phase == "step" or run.phase == "body" and err.code ~= "cancelled" then
    append_now(run, run.driver.death_row(run, err))
  elseif run.phase == "wait" or err.code == "cancelled" then
    give_back(run, status.QUEUED, run.phase == "wait" and run.due_us or now_us())
  else
    give_back(run, status.SLEEPING, now_us() + CODE_AWAY_US) -- not at once, or it would do nothing but fail
  end
  runtime.wake_engines(0)
  store.notify()
  end_run(run)
end

local go_on

-- The trigger hears of it; if the execution comes to be stored nevertheless, the store's client puts it up for claiming.
local function abandon(run, err)
  run.settled = true
  run.answer.done, run.answer.created = true, err
  core.wake(run.token)
  end_run(run)
end

local function on_fail(run, err)
  determinism.leave()
  err = R.describe_death(run, err)
  if run.ended_here then return end
  if run.phase == "create" then return abandon(run, err) end
  local died_at_work = run.phase == "step" or run.phase == "body"
  local may_go_on = err.code ~= "cancelled" or (run.control and run.phase ~= "commit")
  if (died_at_work or run.control) and may_go_on and not stopped and core.is_current() then
    local ok, handle = pcall(spawn, go_on, run.what, nil, run, err)
    if ok and handle ~= nil then
      run.handle = handle
      return
    end
  end
  if run.driver and run.driver.abandon then run.driver.abandon(run) end
  if not died_at_work and run.phase ~= "commit" and run.phase ~= "wait" then
    runtime.log("error", "workflow", string.format("execution %s: the engine itself failed: %s", run.id, tostring(err)))
  end
  hand_back(run, err)
end

-- ---- what operators want ----

-- Reads it from the store; what has been said before the last resume or end does not count (the fence has changed then).
local function look(run)
  local rows = store.query("engine", "SELECT control, error FROM {{schema}}.executions WHERE id = $1 AND fence = $2", { { id = run.id }, run.fence })
  local row = rows and rows[1]
  local control = row and tonumber(row.control) or 0
  if control > R.PAUSE then run.overrules = true end
  if row and control == 0 and run.control == R.PAUSE then run.control = false end -- taken back
  if control == 0 or run.settled or (run.compensating and control ~= R.PAUSE) then return end
  run.control, run.cancel_error = control, row.error
  return control
end

M.look = look

local function look_again(run)
  run.look = true
  local control = look(run)
  if not control or run.settled or run.ended_here then return end
  if control == R.PAUSE then return end
  if run.driver and run.driver.cancel_attempts then run.driver.cancel_attempts(run) end
  if (run.phase == "step" or run.phase == "wait") and run.handle then run.handle:cancel("cancelled", "the execution is cancelled") end
end

--- Somebody changed the run's `control`, or sent it a signal: its owner looks. A run that is not in hand here is no matter of ours. "*": somebody
--- paused a workflow, or took that back.
function M.control(id)
  if id == "*" then return load_pauses() end
  local run = in_hand[id]
  if not run or run.ended_here then return end
  run.look = true
  pcall(spawn, look_again, "workflow control", nil, run)
end

-- ---- starting ----

local function watch(run) core.on_fail(on_fail, run) end

-- With a place for every field of the usual course (`false`: not set yet), so that it does not grow as they are set.
local function new_run(id, fence, number, seed, start_us, workflow, app, input_text)
  return {
    id = id, fence = fence, number = number, seed = seed, start_us = start_us, at = 0, workflow = workflow, app = app,
    input_text = input_text, results = {}, index = 1, attempt = 1, failures = 0, phase = "between", engine = M,
    def = false, driver = false, what = false, answer = false, token = false, step = false, t0 = 0, context_meta = false,
    control = false, overrules = false, deadline_us = false, handle = false, passes_on = false, settled = false, ended_here = false,
    w_number = 0, w_data = false, w_status = false, w_due = false, w_output = false, w_error = false, w_more = false,
  }
end

local function adopt(run, def)
  if def.redact then require("mw.workflow.redact").prepare() end
  run.def, run.driver, run.what = def, def.body and imperative or list, def.what
end

-- Reads the journal and drives the run on from it.
local function resume(run, was_interrupted)
  local rows, err = store.journal(run.id)
  while not rows do
    if err.code == "cancelled" then error(err, 0) end
    if not core.sleep(STORE_AWAY_S) then error(err, 0) end
    rows, err = store.journal(run.id)
  end
  local state
  state, err = fold.rows(rows)
  if not state then
    return R.commit(run, nil, status.BLOCKED, nil, nil, R.error_text(err))
  end
  run.number, run.at, run.results, run.state = state.number, state.at, {}, state
  return run.driver.resume(run, state, was_interrupted)
end

-- In a fresh task, after the one before died in a step or a body.
function go_on(run, err)
  watch(run)
  run.died = (run.died or 0) + 1
  local next_move = run.driver.died(run, err)
  if next_move == "again" then
    run.driver.drive(run)
  elseif next_move == "reload" then
    resume(run, false)
  end
  end_run(run)
end

--- The definition an execution is pinned to. Returns it, or nil, err.
local function find_definition(workflow, bundle)
  local def = registry.workflows[workflow]
  if def and (def.bundle == bundle or def.on_change == "latest") then return def end
  local pinned, err = require("mw._loader").load_bundle(bundle)
  if not pinned then return nil, err end
  if not pinned[workflow] then
    return nil, errors.new("not_found", string.format("the code it is pinned to (%s) declares no workflow %q", bundle:sub(1, 12), workflow))
  end
  return pinned[workflow]
end

local function block(run, err)
  runtime.log("error", "workflow", string.format("execution %s of %q is blocked: %s", run.id, run.workflow, err.message),
    { execution = run.id, bundle = run.bundle })
  R.commit(run, nil, status.BLOCKED, nil, nil, R.error_text(err))
end

local function run_claimed(row)
  local run = new_run(row.id, row.fence, 0, row.seed, R.start_of(row.seed, row.created_us), row.workflow, row.app, row.input)
  run.bundle, run.what, run.handle, run.passes_on = row.bundle, "workflow " .. row.workflow, row.handle, row.parent_key or row.group
  in_hand[run.id] = run
  watch(run)
  if row.control then look(run) end
  local def, err = find_definition(row.workflow, row.bundle)
  if not def then
    if err.retryable then
      R.release(run, nil, now_us() + CODE_AWAY_US)
    else
      block(run, err)
    end
    return end_run(run)
  end
  adopt(run, def)
  if run.control and run.driver == list then
    R.release(run) -- as an operator wants it
  elseif row.fence > 1 or row.interrupted then
    resume(run, row.interrupted)
  else
    run.state = fold.new()
    run.driver.drive(run)
  end
  end_run(run)
end

-- Creates the execution and runs it, both in this task; tells the trigger in between.
local function run_new(def, request, answer, token)
  local seed, start_us = R.new_seed()
  local run = new_run(nil, 1, 0, seed, start_us, def.name, request.app, request.input)
  run.phase, run.answer, run.token = "create", answer, token
  adopt(run, def)
  watch(run)
  local id, created = store.create(def.name, request.input, def.bundle, seed, status.RUNNING, 0, request.id, request.key,
    request.hash, request.app, API_LEVEL, request.more)
  run.id, run.phase, run.settled = id, "between", not id or not created
  if request.more then run.passes_on = request.more.parent_key end
  answer.done, answer.id, answer.created = true, id, created
  core.wake(token)
  if run.settled then return end_run(run) end
  in_hand[id], run.handle = run, answer.handle
  if def.body then run.state = fold.new() end
  run.driver.drive(run)
  end_run(run)
end

-- The code must be in the store before an execution may be pinned to it.
local function store_bundle(hash)
  if stored_bundles[hash] then return true end
  local code = require("mw._loader").bundle_code(hash)
  if not code then return nil, errors.new("invalid", "the plugin's code is not known; reload the plugins") end
  local ok, err = store.put_code(code)
  if ok then stored_bundles[hash] = true end
  return ok, err
end

local function create_queued(def, request)
  local due_us, now = request.due_us, now_us()
  local to = due_us and due_us > now and status.SLEEPING or status.QUEUED
  local id, created = store.create(def.name, request.input, def.bundle, R.new_seed(), to, due_us or now, request.id, request.key,
    request.hash, request.app, API_LEVEL, request.more)
  if id and created then
    backlog = backlog or to == status.QUEUED
    M.note_due(to == status.SLEEPING and due_us or 0)
  end
  return id, created
end

--- Creates an execution of a current workflow; returns its id and whether it is new, once that is durable, or nil, err.
--- request: input (JSON text), id, key, hash, app, due_us, more (as store.create has it).
function M.create(def, request)
  local ok, err = store_bundle(def.bundle)
  if not ok then return nil, err end
  local more = request.more
  if not takes or stopped or active >= (room or limit()) or request.due_us or (more and more.group) or not core.is_current()
    or (has_pauses and M.is_paused(def.name)) then
    return create_queued(def, request)
  end
  active = active + 1
  local answer, token = { done = false, created = false, id = nil }, core.token()
  local spawned, why = pcall(spawn, run_new, def.what, nil, def, request, answer, token)
  answer.handle = spawned and why or false
  if not spawned then
    active = active - 1
    return nil, errors.from(why)
  end
  while not answer.done do
    local _, cancelled = core.park("mw.trigger")
    if cancelled and not answer.done then return nil, cancelled end
  end
  return answer.id, answer.created
end

-- ---- claiming ----

local function start_claimed(row)
  active = active + 1
  local ok, why = pcall(spawn, run_claimed, "workflow " .. row.workflow, nil, row)
  row.handle = ok and why or false
  if not ok then
    active = active - 1
    runtime.log("error", "workflow", string.format("execution %s could not start: %s", row.id, tostring(why)))
    store.append(row.id, row.fence, 0, nil, status.SLEEPING, now_us() + CODE_AWAY_US)
  end
end

-- Claims what is due while there is room; next_due says when to look again.
local function claim_due()
  while true do
    if next_due <= now_us() and next_due > 0 then is_ours = true end -- its time has come
    next_due = math.huge
    local free = (room or limit()) - active
    if free <= 0 then
      if is_ours then store.notify() end -- another node may have room
      is_ours, backlog = false, true
      return
    end
    local asked = math.min(free, CLAIM_BATCH)
    local rows, due = store.claim(asked)
    if not rows then
      if due.code == "cancelled" then error(due, 0) end
      next_due = math.min(next_due, now_us() + STORE_AWAY_US)
      return
    end
    for i = 1, #rows do start_claimed(rows[i]) end
    if due and due < next_due then next_due = due end
    if #rows < asked then return end
  end
end

local function serves() return not stopped and core.is_current() end

local function wait_for_work(last_us)
  if woken or not serves() then return end
  local wait_us = math.min(next_due, last_us + M.claim_every_us) - now_us()
  if wait_us <= 0 then return end
  if wait_us > M.claim_every_us then wait_us = M.claim_every_us end -- the clock was set back
  parked = core.token()
  local _, err = core.park("workflow engine", wait_us / 1e6)
  parked = nil
  if err and err.code == "cancelled" then stopped = true end
end

-- In case what another node said was lost (store.notify is best effort), or was said of a run between its commit and its being in hand.
local function look_at_controls()
  if store.engine() == "postgres" then load_pauses() end
  if next(in_hand) == nil then return end
  local rows = store.query("engine", "SELECT id FROM {{schema}}.executions WHERE status = 2 AND control <> 0 LIMIT 1000")
  for _, row in ipairs(rows or {}) do M.control(row.id) end
end

local function claim_and_look(looks)
  claim_due()
  if looks then look_at_controls() end
end

-- One round of claiming that fails is not the end of it.
local function claim_safely(looks)
  local ok, err = errors.pcall(claim_and_look, looks)
  if ok then return end
  err = errors.from(err)
  if err.code == "cancelled" then error(err, 0) end
  runtime.log("error", "workflow", "executions could not be claimed; trying again: " .. err.message)
  next_due = now_us() + STORE_AWAY_US
end

local function on_loop_end(_, err)
  started, takes, parked = false, false, nil
  if not serves() then return end
  runtime.log("error", "workflow", "the claim loop ended and is started again: " .. errors.from(err).message)
  next_due = now_us() + STORE_AWAY_US
  spawn(M.start, "workflow engine", nil)
end

--- Claims until this state is not current any more or the server drains. Call in a task.
function M.start()
  if started then return end
  started = true
  core.on_fail(on_loop_end)
  while M.read_pauses and serves() and not run_hook("reading pauses", M.read_pauses) do
    if not core.sleep(STORE_AWAY_S) then break end
  end
  takes = true
  local last_us, looked_us = -math.huge, now_us()
  while serves() do
    woken = false
    local now = now_us()
    if now >= next_due or now >= last_us + M.claim_every_us or now < last_us then
      local looks = now >= looked_us + M.claim_every_us
      if looks then looked_us = now end
      if looks then spawn_hook("looking around", M.on_look) end
      last_us = now
      claim_safely(looks)
    end
    wait_for_work(last_us)
  end
end

--- Nothing begins here any more.
function M.stop()
  stopped = true
  wake_loop()
end

return M
