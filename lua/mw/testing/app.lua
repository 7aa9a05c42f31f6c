-- SPDX-License-Identifier: MIT

--- An app under test: one rig (core/app/rig.h), its clock, and what the plugin's side asks of the spec. request.lua, fetches.lua, runs.lua
--- and crashes.lua add methods; mw.testing has the manual.

local errors = require "mw.errors"
local json = require "mw.core.json"
local rig = require "mw.core.rig"
local validate = require "mw.validate"

---@class mw.testing.App
---@field now number seconds since 1970, of the virtual clock
---@field logs table[] everything that was logged: { level, area, message, fields, plugin, … }
---@field logged table[] what plugins logged with mw.log
---@field fetched mw.testing.Request[] the calls of mw.fetch, in order
---@field triggered table[] the executions that were created: { id, name, input, external_id }
local App = {}

-- `LOST` is what a call raises whose app died before it was answered.
local M = { App = App, answers = {}, LOST = setmetatable({}, { __tostring = function() return "the app died before it answered" end }) }

local MICRO = 1e6
local PATIENCE_S = 20 -- of the processor's time

-- ---- fields that are looked up ----

local show_logs = (os.getenv "MW_TEST_LOG" or "") ~= ""

local function read_logs(self)
  if self.closed then return end
  for line in self.rig:logs():gmatch("[^\n]+") do
    if show_logs then io.stderr:write(line, "\n") end
    local entry = json.decode(line)
    self.log_list[#self.log_list + 1] = entry
    if entry and entry.area == "plugin" and entry.plugin then self.logged_list[#self.logged_list + 1] = entry end
  end
end

local getters = {
  now = function(self) return self.rig:now() / MICRO end,
  logs = function(self)
    read_logs(self)
    return self.log_list
  end,
  logged = function(self)
    read_logs(self)
    return self.logged_list
  end,
}

local meta = {
  __index = function(self, key)
    local get = getters[key]
    if get then return get(self) end
    return App[key]
  end,
}

-- ---- errors of the spec itself ----

-- The line of the spec that called us.
local function spec_place()
  for level = 3, 40 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.what ~= "C" and not info.source:find("lua/mw/", 1, true) then return ("%s:%d"):format(info.short_src, info.currentline) end
  end
end

local function spec_line()
  local place = spec_place()
  return place and place .. ": " or ""
end

-- In the state of a spec, what an error object blames is the spec.
local plugin_where = errors.where
function errors.where() return plugin_where() or spec_place() end

--- Raises a sentence at the line of the spec.
function M.fail(message, ...) error(spec_line() .. message:format(...), 0) end

--- A mistake that must fail the spec even if the plugin catches it; the first one counts.
function M.blame(self, err)
  if self.failure == nil then self.failure = err end
end

local function raise_failure(self)
  local err = self.failure
  if err == nil then return end
  self.failure = nil
  if type(err) == "string" and not err:find("^[^\n]-:%d+: ") then err = spec_line() .. err end
  error(err, 0)
end

--- What a stub's function gives: its value, or the error object that it raises for the plugin. Anything else it raises is the spec's.
function M.reply(fn, ...)
  local ok, value = pcall(fn, ...)
  if ok then return { value = value } end
  if not errors.is(value) then error(value, 0) end
  local err = errors.to_json(value)
  err.retryable, err.retry_after = value.retryable, value.retry_after
  return { error = err }
end

-- ---- what the plugin's side asks ----

local function answer(self, kind, text, bytes)
  local handler = M.answers[kind]
  local reply, more = handler(self, text and json.decode(text), bytes)
  return reply ~= nil and assert(json.encode(reply)) or nil, more
end

local function answer_safely(self)
  return function(kind, text, bytes)
    local ok, reply, more = pcall(answer, self, kind, text, bytes)
    if ok then return reply, more end
    M.blame(self, reply) -- an assertion of the spec in a stub's function, most likely
    error("the spec's function failed", 0)
  end
end

function M.answers.setup(self) return { only = self.only, files = self.files } end

function M.answers.done(self, message) self.done[message.ticket] = message end

-- ---- life ----

local function words_of(report)
  report = json.decode(report)
  local lines = {}
  for _, problem in ipairs(report and report.errors or {}) do
    local place = problem.line and ("%s:%d"):format(problem.file, problem.line) or problem.file or "plugins"
    lines[#lines + 1] = ("%s: %s"):format(place, problem.message)
    if problem.excerpt then lines[#lines + 1] = problem.excerpt end
  end
  return table.concat(lines, "\n")
end

local function start(self, method)
  if method == "restart" then
    self.restarts = self.restarts + 1
    for res in pairs(self.responses) do res.broken = true end -- as their clients see it
    self.responses = {}
  end
  local ok, report = self.rig[method](self.rig)
  if ok == nil then M.fail("the app does not start: %s", report) end
  if not ok then
    self:close()
    error(words_of(report), 0)
  end
end

--- Opens a rig for `self`, whose fields are set, and loads the plugins; raises what is wrong with them.
function M.open(self, opts)
  setmetatable(self, meta)
  self.done, self.log_list, self.logged_list, self.responses = {}, {}, {}, {}
  self.fetched, self.triggered, self.statuses = {}, {}, {}
  self.ticket, self.restarts = 0, 0
  opts.prelude, opts.answer = "mw.testing.inside", answer_safely(self)
  local made, why = rig.open(opts)
  if not made then M.fail("%s", why) end
  self.rig = made
  start(self, "load")
  self:settle()
  return self
end

local closed = setmetatable({}, { __index = function() M.fail("the app is closed: it ends with the test it was loaded in, or with app:finish()") end })

--- Ends the app and removes its databases. Apps are closed by themselves when the test they were loaded in is over.
function App:close()
  if self.closed then return end
  read_logs(self)
  self.closed = true
  self.rig:close()
  self.rig = closed
end

--- As `kill -9` and a new server on the same databases: what was not committed is lost, mw.kv is empty, open requests are cut.
function App:restart()
  start(self, "restart")
  self:settle()
end

-- ---- time ----

--- Runs everything that can go on without time moving.
function App:settle()
  repeat
    local state, why = self.rig:settle()
    if show_logs then read_logs(self) end
    raise_failure(self)
    if not state then M.fail("%s", why) end
    if self.after_turn then self:after_turn() end
    if state == "crashed" then start(self, "restart") end
  until state == "calm"
end

-- A clock that moves from one due time to the next comes to no end where something repeats for ever.
local function patience(self, what)
  local from, count, before = os.clock(), 0, self.now
  return function()
    count = count + 1
    if count % 100 ~= 0 or os.clock() - from < PATIENCE_S then return end
    M.fail("%s takes more than %d s, %d due times and %.0f s of the virtual clock on: something repeats, and what is waited for does not come",
      what, PATIENCE_S, count, self.now - before)
  end
end

local function step_time(self, limit_us)
  local due = self.rig:next_due()
  if not due or due > limit_us then return false end
  self.rig:move(due)
  self:settle()
  return true
end

--- Moves the clock forward; everything that becomes due on the way happens in its order.
---@param duration number|string seconds, or "250ms", "10s", "3d"
function App:advance(duration)
  local limit = self.rig:now() + validate.duration("app:advance", duration) * MICRO
  local check = patience(self, "app:advance")
  self:settle()
  while step_time(self, limit) do check() end
  self.rig:move(limit)
  self:settle()
end

--- Moves the clock from one due time to the next until `is_done()`; false when nothing is due any more, or not within `duration`.
---@param is_done fun(): any
---@param duration? number|string of the virtual clock; default: a year
---@return boolean
function App:advance_until(is_done, duration)
  local limit = self.rig:now() + validate.duration("app:advance_until", duration or "365d") * MICRO
  local check = patience(self, "app:advance_until")
  self:settle()
  while not is_done() do
    check()
    if not step_time(self, limit) then return is_done() and true or false end
  end
  return true
end

-- ---- calls into the app ----

local function raise_remote(value) errors.raise(errors.new(value.code, value.message, value)) end

--- Calls a function of inside.lua, lets time pass until it has ended, and returns what it returned; what it raised is raised.
function M.call(self, name, args)
  self.ticket = self.ticket + 1
  local ticket, restarts = self.ticket, self.restarts
  args.call, args.ticket = name, ticket
  local text, why = json.encode(args)
  if not text then M.fail("%s", why.message) end
  local ok
  ok, why = self.rig:call("call", text)
  if not ok then M.fail("%s", why) end
  if not self:advance_until(function() return self.done[ticket] or self.restarts > restarts end) then
    M.fail("app:%s does not end: nothing is due any more", name)
  end
  if not self.done[ticket] then error(M.LOST, 0) end
  local message = self.done[ticket]
  self.done[ticket] = nil
  if not message.ok then raise_remote(message.value) end
  return message.value
end

--- Runs a statement on the application's database, as mw.query does; for what should be there before, and what should be there after.
---@param sql string
---@param params? any[]
---@return table[] rows with `affected`
function App:query(sql, params)
  local list, count = json.array {}, 0
  for i in pairs(params or {}) do count = math.max(count, i) end
  for i = 1, count do list[i] = params[i] == nil and json.null or params[i] end
  local result = M.call(self, "query", { sql = sql, params = count > 0 and list or nil })
  local rows = {}
  for i, row in ipairs(result.rows) do rows[i] = row end
  return setmetatable(rows, { __index = { affected = result.affected } })
end

--- The first row, or nil.
---@param sql string
---@param params? any[]
---@return table? row
function App:one(sql, params) return self:query(sql, params)[1] end

--- The databases answer `unavailable` for so long, as when PostgreSQL is away; open transactions go on.
---@param duration number|string of the virtual clock
function App:database_away(duration)
  M.call(self, "database_away", { seconds = validate.duration("app:database_away", duration) })
end

--- mw.kv of the app: app:kv("get", "key"), app:kv("set", "key", value, { ttl = "5m" }), app:kv("delete", "key").
---@param what "get"|"set"|"add"|"delete"|"incr"
---@param key string
---@param value? any
---@param opts? { ttl?: number|string }
---@return any
function App:kv(what, key, value, opts)
  return M.call(self, "kv", { what = what, key = key, value = value, opts = opts })
end

return M
