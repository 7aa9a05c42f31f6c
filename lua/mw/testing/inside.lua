-- SPDX-License-Identifier: MIT

--- The plugin's side of mw.testing: required first in every state of an app under test, before the library of plugins. It stands at
--- the doors between the engine and the world (mw.core.fetch, mw.core.store, a step's function) and asks the spec at each.
--
-- Everything else in such a state is what a server has. What it asks and tells (link.call):
--
--   "setup"                                 -> { only = {plugins}, files = {path = source} }
--   "fetch"  request, body                  -> answer, body                 a call of mw.fetch
--   "recorded" request and answer, body                                     the real network answered
--   "redis"  argv                           -> { value =, error = }         a command of mw.redis
--   "step"   id, workflow, step, attempt    -> { crash =, stub = }          a step's function is about to be called
--   "stub"   … input, results               -> { value =, error = }         instead of it
--   "point"  kind, id, step, …              -> { crash = }                  it returned; a row was committed
--   "created" id, workflow, input, "status" id, status                      what became of executions
--   "done"   ticket, ok, value                                              the end of M.call

local link = require "mw.core.rig_link"
local runtime = require "mw.core.runtime"
local store = require "mw.core.store"
local fetch = require "mw.core.fetch"
local task = require "mw.core.task"
local json = require "mw.core.json"
local errors = require "mw.errors"

local M = {}

local DEFAULT_TIMEOUT = 30
local DEFAULT_MAX_BYTES = 10 * 1024 * 1024

local function ask(kind, value, bytes)
  local text, more = link.call(kind, value ~= nil and assert(json.encode(value)) or nil, bytes)
  return text and json.decode(text) or {}, more
end

-- The process ends here.
local function crash()
  link.crash()
  local _, err = task.park("the crash of this process")
  error(err, 0)
end

-- ---- the time of Lua itself ----

local plain_time, plain_date = os.time, os.date

local function seconds() return math.floor(runtime.now_us() / 1e6) end

function os.time(t) return t == nil and seconds() or plain_time(t) end
function os.date(format, t) return plain_date(format or "%c", t or seconds()) end
function os.clock() return runtime.mono() end

-- ---- plugin files ----

local setup = ask "setup"

local function plugin_of(path) return path:match("^([^/]+)%.lua$") or path:match("^([^/]+)/init%.lua$") end

local plain_files, plain_read = runtime.files, runtime.read

function runtime.files()
  local list, seen = {}, {}
  local function add(path)
    local name = plugin_of(path)
    if seen[path] or (setup.only and name and not setup.only[name]) then return end
    seen[path] = true
    list[#list + 1] = path
  end
  for _, path in ipairs(plain_files()) do add(path) end
  for path in pairs(setup.files or {}) do add(path) end
  table.sort(list)
  return list
end

function runtime.read(path) return setup.files and setup.files[path] or plain_read(path) end

-- ---- mw.fetch ----

local plain_fetch = fetch.fetch

-- What this file does not know must not reach a network behind the spec's back.
for name, value in pairs(fetch) do
  if name ~= "fetch" and type(value) == "function" then
    fetch[name] = function() errors.throw("unavailable", "specs have no stub for this kind of fetch (mw.core.fetch." .. name .. ")") end
  end
end

local function request_of(method, url, list, timeout)
  local headers, context = {}, task.local_get()
  for i = 1, #list, 2 do headers[list[i]:lower()] = list[i + 1] end
  context = type(context) == "table" and context or {}
  return {
    method = method, url = url, headers = headers, timeout = timeout, step = context.step, workflow = context.workflow, run = context.id,
    attempt = context.attempt,
  }
end

local function ask_network(request, ...)
  link.outside(1)
  local status, headers, body, url = plain_fetch(...)
  link.outside(-1)
  if not status then return nil, headers end
  request.status, request.answer_headers = status, headers
  ask("recorded", request, body)
  return status, headers, body, url
end

-- Waits as the network would; nil, err when the time is over before the answer comes.
local function wait(delay, timeout)
  if delay < timeout then return task.sleep(delay) end
  local ok, err = task.sleep(timeout)
  if ok == nil then return nil, err end
  return nil, errors.new("timeout", string.format("no answer within %g s", timeout))
end

function fetch.fetch(method, url, list, body, timeout, connect_timeout, max_bytes, ...)
  task.check("mw.fetch")
  timeout = timeout or DEFAULT_TIMEOUT
  local request = request_of(method, url, list, timeout)
  local answer, bytes = ask("fetch", request, body)
  if answer.real then
    request.body = body
    return ask_network(request, method, url, list, body, timeout, connect_timeout, max_bytes, ...)
  end
  local ok, err = wait(answer.never and math.huge or answer.delay or 0, timeout)
  if ok == nil then return nil, err end
  if answer.error then return nil, errors.new(answer.error, answer.message or answer.error, answer.fields) end
  if #bytes > (max_bytes or DEFAULT_MAX_BYTES) then
    return nil, errors.new("limit", string.format("the answer is %d bytes, more than max_bytes", #bytes))
  end
  return answer.status, answer.headers, bytes, url
end

-- ---- mw.redis ----

local redis = require "mw.core.redis"

local function error_of(answer)
  local err = errors.new(answer.code or "error", answer.message or answer.code or "the stub failed", answer)
  err.final = answer.retryable == false or nil
  return err
end

local function command(argv)
  local list = json.array {}
  for i = 1, argv.n or #argv do list[i] = argv[i] end
  local answer = ask("redis", { argv = list })
  if answer.error then return nil, error_of(answer.error) end
  return answer.value
end

function redis.call(_, argv)
  task.check("mw.redis")
  local ok, err = task.sleep(0)
  if ok == nil then return nil, err end
  return command(argv)
end

function redis.pipeline(_, list)
  task.check("mw.redis")
  local replies = json.array {}
  for i, argv in ipairs(list) do
    local value, err = command(argv)
    if err then return nil, err end
    replies[i] = value == nil and json.null or value
  end
  return replies
end

function redis.open() return { close = function() end } end
function redis.is_configured() return true end
function redis.subscribe() return nil, errors.new("unavailable", "mw.redis.subscribe has no messages in specs: call what handles one") end
function redis.end_feeds() end

-- ---- a database that is away ----

local away_until_us = 0

for _, name in ipairs { "query", "begin", "create", "append", "claim", "signal", "signals", "put_code", "get_code", "get", "journal", "add_change" } do
  local plain = store[name]
  store[name] = function(...)
    if runtime.now_us() >= away_until_us then return plain(...) end
    return nil, errors.new("unavailable", "the database is away: the spec says so")
  end
end

-- ---- executions ----

local plain_create, plain_append = store.create, store.append
local journal -- required after the doors are in place
local status_name

local kinds = { r = "result", f = "failure", i = "interruption", a = "attempt", d = "divergence" }

local function what_is(data)
  local last
  for _, event in ipairs(data and journal.decode(data) or {}) do
    for _, key in ipairs { "r", "f", "i", "a", "d" } do
      if event[key] then
        last = { kinds[key], event[key][1], key == "r" or (key == "f" and event.f[5] < 0) or nil }
        break
      end
    end
    if last and last[1] ~= "attempt" then break end -- a result says more than the attempt that began with it
  end
  if last then return last[1], last[2], last[3] end
  return "end"
end

local function committed(id, data, to)
  if to then ask("status", { id = id, status = status_name(to) }) end
  if not task.what() then return end
  local row, step, over = what_is(data)
  if ask("point", { kind = "committed", id = id, row = row, step = step, over = over, status = to and status_name(to) or nil }).crash then crash() end
end

function store.create(workflow, input, ...)
  local id, created = plain_create(workflow, input, ...)
  if id and created then
    local external_id = select(5, ...)
    ask("created", { id = id, workflow = workflow, input = input and json.raw(input) or nil, external_id = external_id })
  end
  return id, created
end

function store.append(id, fence, number, data, to, ...)
  local ok, more = plain_append(id, fence, number, data, to, ...)
  if ok then committed(id, data, to) end
  return ok, more
end

journal = require "mw.workflow.journal"
status_name = require("mw.workflow.status").name

-- ---- steps ----

local R = require "mw.workflow.run"
local plain_attempt = R.attempt

local function stubbed(event, run)
  event.input, event.results = run.input_text and json.raw(run.input_text) or nil, run.results
  local answer = ask("stub", event)
  if not answer.error then return answer.value end
  error(error_of(answer.error), 0)
end

local function call_step(run, step, ctx)
  local event = { id = run.id, workflow = run.workflow, step = step.name, attempt = run.attempt }
  local answer = ask("step", event)
  if answer.crash then crash() end
  local ok, value
  if answer.stub then ok, value = errors.pcall(stubbed, event, run) else ok, value = errors.pcall(step.run, ctx) end
  local point = { kind = "returned", id = run.id, step = step.name, attempt = run.attempt, failed = not ok }
  if ask("point", point).crash then crash() end
  if not ok then error(value, 0) end
  return value
end

function R.attempt(run, step)
  return plain_attempt(run, setmetatable({ run = function(ctx) return call_step(run, step, ctx) end }, { __index = step }))
end

require("mw.workflow.engine").claim_every_us = 1e15 -- thirty years: there is no other node
require("mw.runs.retention").first_s = 1e9

-- ---- what the spec calls ----

local functions = {}

local function need_workflow(name)
  local registry = require "mw._registry"
  local workflow = registry.workflows[name]
  if workflow then return workflow end
  local near = require("mw.validate").nearest(name, registry.workflows)
  errors.throw("not_found", "no plugin declares the workflow " .. name .. (near and ("; did you mean %q?"):format(near) or ""))
end

function functions.trigger(args)
  need_workflow(args.name)
  return require("mw.workflow").trigger(args.name, args.input, args.opts)
end

function functions.signal(args)
  return require("mw.workflow.signals").signal(args.id, args.name, args.data ~= nil and json.decode(tostring(args.data)) or nil, args.opts)
end

function functions.cancel(args)
  require("mw.runs.cancel").request({ actor = "spec" }, args.id, args.opts or {})
  return true
end

function functions.execution(args)
  local row = errors.check(store.get(args.id))
  if not row then errors.throw("not_found", "there is no execution " .. args.id) end
  local steps = require "mw.api.steps"
  local rows, journal_rows = errors.check(store.journal(args.id)), json.array {}
  for _, entry in ipairs(rows) do
    for _, event in ipairs(errors.check(journal.split(entry.data))) do journal_rows[#journal_rows + 1] = json.raw(event) end
  end
  local function box(text) return text and json.raw(text) or nil end
  return {
    id = row.id, workflow = row.workflow, status = status_name(tonumber(row.status)), external_id = row.external_id,
    input = box(row.input), output = box(row.output), error = box(row.error), steps = steps.of(row), journal = journal_rows,
    due = tonumber(row.due_us) / 1e6, created = tonumber(row.created_us) / 1e6,
    finished = row.finished_us and tonumber(row.finished_us) / 1e6 or nil,
  }
end

function functions.query(args)
  local rows = errors.check(store.query("app", args.sql, args.params))
  return { rows = rows, affected = rows.affected }
end

--- One step's function, by itself: no journal, no retries.
function functions.step(args)
  local workflow = need_workflow(args.name)
  if workflow.form ~= "list" then
    errors.throw("invalid", ("%q is written as a function; run it with app:run, steps of that form exist only inside of it"):format(args.name))
  end
  for _, step in ipairs(workflow.steps) do
    if step.name == args.step then
      local id = args.id or "00000000-0000-7000-8000-000000000000"
      local ctx = {
        id = id, workflow = args.name, step = step.name, attempt = args.attempt or 1, input = json.decode(tostring(args.input)),
        results = args.results or {}, step_key = id .. "/" .. step.name,
      }
      task.local_set(ctx)
      task.set_timeout(step.timeout)
      return step.run(ctx)
    end
  end
  errors.throw("not_found", ("workflow %q has no step %q"):format(args.name, args.step))
end

function functions.database_away(args) away_until_us = runtime.now_us() + args.seconds * 1e6 end

function functions.kv(args)
  local kv = require "mw.kv"
  return kv[args.what](args.key, args.value, args.opts)
end

--- The execution is as if its server had been killed after its last commit: whoever claims it runs its body from the journal.
function functions.reopen(args)
  errors.check(store.query("engine", "UPDATE executions SET status = 2, output = NULL, error = NULL, finished_us = NULL WHERE id = $1",
    { { id = args.id } }))
end

local function report(ticket, ok, value)
  if not ok then
    local err = errors.from(value)
    value = errors.to_json(err)
    value.retry_after, value.hint = err.retry_after, err.hint
  end
  local text = json.encode { ticket = ticket, ok = ok, value = value }
  if not text then return report(ticket, false, errors.new("invalid_result", "what it returned cannot be JSON")) end
  link.call("done", text)
end

local function died(ticket, err) report(ticket, false, err) end

--- Called by the spec, in a task of its own.
function M.call(text)
  local args = json.decode(text, { raw = { input = true, data = true } })
  task.on_fail(died, args.ticket)
  local ok, value = errors.pcall(functions[args.call], args)
  report(args.ticket, ok, value)
end

return M
