-- SPDX-License-Identifier: MIT

--- The outside world of an app under test: app:stub_fetch, testing.record. A call of mw.fetch that nothing answers fails the spec.

local app = require "mw.testing.app"
local crypto = require "mw.crypto"
local json = require "mw.core.json"
local validate = require "mw.validate"

local App, answers = app.App, app.answers

local M = {}

---@class mw.testing.Request
---@field method string
---@field url string
---@field headers table<string, string> lower-case names
---@field body? string
---@field timeout number seconds
---@field step? string the step it was called in, with `workflow`, `run` (the execution's id) and `attempt`
local Request = {}
Request.__index = Request

--- The body's value.
---@return any
function Request:json() return (json.decode(self.body or "")) end

-- ---- stubs ----

---@class mw.testing.Stub
---@field calls mw.testing.Request[] the calls it answered
local Stub = {}
Stub.__index = Stub

local function pattern_of(url)
  local pattern = url:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*")
  return "^" .. pattern .. "$"
end

function Stub:matches(request)
  if self.method ~= "*" and self.method ~= request.method then return false end
  if request.url:find(self.pattern) then return true end
  return not self.url:find("?", 1, true) and request.url:gsub("%?.*$", ""):find(self.pattern) ~= nil
end

function Stub:is_used_up() return #self.calls >= self.most end

function Stub:what() return self.method .. " " .. self.url end

local function is_sequence(answer) return type(answer) == "table" and answer[1] ~= nil end

--- Answers calls of mw.fetch. `url` may hold `*` for any text; without a `?` in it the query does not matter; method "*" is any. The stub
--- made last that matches and has not answered all its times answers.
---
--- `answer`: { status = 200, json = … or body = "…", headers = {}, delay = "2s" }, or { error = "ECONNREFUSED" } ("timeout" lets the call's
--- timeout pass first), or a list of such, one a call; or function(request) that returns one; or testing.record(file).
--- Options: `times` how often it is called: no more, and app:finish() wants no less; `optional = true`: app:finish() does not mind.
---@param method string
---@param url string
---@param answer table|fun(request: mw.testing.Request): table
---@param opts? { times?: integer, optional?: boolean }
---@return mw.testing.Stub
function App:stub_fetch(method, url, answer, opts)
  opts = validate.options("app:stub_fetch", opts, { times = "integer", optional = "boolean" })
  validate.arg("app:stub_fetch", 2, "url", url, "string")
  validate.arg("app:stub_fetch", 3, "answer", answer, "table|function")
  local stub = setmetatable({
    method = method:upper(), url = url, pattern = pattern_of(url), answer = answer, calls = {}, times = opts.times,
    most = opts.times or (is_sequence(answer) and #answer) or math.huge, optional = opts.optional,
  }, Stub)
  self.stubs = self.stubs or {}
  table.insert(self.stubs, 1, stub)
  return stub
end

local function find(self, request)
  local spent
  for _, stub in ipairs(self.stubs or {}) do
    if stub:matches(request) then
      if not stub:is_used_up() then return stub end
      spent = spent or stub
    end
  end
  return nil, spent
end

local function place_of(request)
  if not request.step then return "" end
  return (" in step %q of %q, attempt %d"):format(request.step, request.workflow, request.attempt)
end

-- An unexpected call fails the spec, whatever the plugin makes of the error.
local function unexpected(self, request, spent)
  local url = request.url:gsub("%?.*$", "")
  local message = ("mw.fetch called %s %s%s, and no stub answers it"):format(request.method, request.url, place_of(request))
  if spent then message = message .. (": the stub of %s has answered its %d times"):format(spent:what(), #spent.calls) end
  app.blame(self, ("%s; add\n  app:stub_fetch(%q, %q, { status = 200, json = {} })"):format(message, request.method, url))
  return { error = "unexpected", message = message, fields = { retryable = false, final = true } }, ""
end

local retryable = { timeout = true, ECONNREFUSED = true, ECONNRESET = true, ETIMEDOUT = true, dns = true, closed = true }

local function seconds(value) return value and validate.duration("the stub's delay", value) or nil end

local function reply_of(answer, stub)
  if answer == nil then app.fail("the stub of %s returned nothing; return { status = 200, json = … }", stub:what()) end
  if answer.error then
    local code = answer.error
    if code == "timeout" then return { never = true }, "" end
    return { error = code, message = answer.message or code, delay = seconds(answer.delay), fields = { retryable = retryable[code] or false } }, ""
  end
  local headers, body = {}, answer.body or ""
  for name, value in pairs(answer.headers or {}) do headers[name:lower()] = value end
  if answer.json ~= nil then
    local text, err = json.encode(answer.json)
    body = text or app.fail("the stub of %s: %s", stub:what(), err.message)
    headers["content-type"] = headers["content-type"] or "application/json"
  end
  return { status = answer.status or 200, headers = headers, delay = seconds(answer.delay) }, body
end

function answers.fetch(self, request, body)
  setmetatable(request, Request).body = body
  self.fetched[#self.fetched + 1] = request
  local stub, spent = find(self, request)
  if not stub then return unexpected(self, request, spent) end
  stub.calls[#stub.calls + 1] = request
  local answer = stub.answer
  if is_sequence(answer) then answer = answer[#stub.calls] end
  if type(answer) == "function" then answer = answer(request) end
  if type(answer) == "table" and answer.replay then return answer.replay(self, request) end
  return reply_of(answer, stub)
end

-- ---- Redis ----

--- Answers every command of mw.redis: fn("SET", "key", "value") returns the reply, or raises a testing.error. Pipelines and transactions
--- come command by command; there are no subscriptions.
---@param fn fun(command: string, ...): any
function App:stub_redis(fn) self.redis_stub = validate.arg("app:stub_redis", 1, "fn", fn, "function") end

function answers.redis(self, event)
  local argv = event.argv
  if self.redis_stub then return app.reply(self.redis_stub, tostring(argv[1]):upper(), unpack(argv, 2)) end
  local message = ("mw.redis sent %s, and nothing answers it"):format(tostring(argv[1]))
  app.blame(self, message .. "; add\n  app:stub_redis(function(command, ...) return … end)")
  return { error = { code = "unexpected", message = message, retryable = false } }
end

-- ---- recordings ----

local SECRET = { "auth", "token", "secret", "key", "signature", "password", "cookie", "session" }

local function is_secret(name)
  name = name:lower()
  for _, word in ipairs(SECRET) do
    if name:find(word, 1, true) then return true end
  end
  return false
end

local function mask_url(url)
  url = url:gsub("//[^/@]*@", "//")
  return (url:gsub("([?&])([^=&#]+)=([^&#]*)", function(before, name, value)
    return before .. name .. "=" .. (is_secret(name) and "***" or value)
  end))
end

local function text_or_base64(entry, name, bytes)
  if json.encode(bytes) then entry[name] = bytes else entry[name .. "_base64"] = crypto.base64_encode(bytes) end
end

local function bytes_of(entry, name)
  return entry[name] or entry[name .. "_base64"] and crypto.base64_decode(entry[name .. "_base64"]) or ""
end

local function read_file(path)
  local file = io.open(path, "rb")
  local text = file and file:read("*a")
  if file then file:close() end
  return text
end

local function write_file(path, entries)
  local lines = {}
  for i, entry in ipairs(entries) do lines[i] = assert(json.encode(entry, { sort = true })) end
  local file, why = io.open(path, "wb")
  if not file then app.fail("the recording cannot be written: %s; make its folder", why) end
  file:write("[\n", table.concat(lines, ",\n"), "\n]\n")
  file:close()
end

local function is_recording() return (os.getenv "MW_TEST_RECORD" or "0") ~= "0" end

-- Members of JSON come in another order in each Lua state.
local function canonical(body)
  local value = json.decode(body, { null = json.null })
  return value ~= nil and json.encode(value, { sort = true }) or body
end

local function find_entry(entries, used, request)
  local url, body = mask_url(request.url), canonical(request.body or "")
  for i, entry in ipairs(entries) do
    if not used[i] and entry.method == request.method and entry.url == url and canonical(bytes_of(entry, "body")) == body then
      used[i] = true
      return entry
    end
  end
end

local function replay(self, tape, request)
  local used = tape.used[self] or {}
  tape.used[self] = used
  local entry = find_entry(tape.entries, used, request)
  if entry then return { status = entry.status, headers = entry.headers }, bytes_of(entry, "answer") end
  local message = ("the recording %s has no (further) answer to %s %s%s"):format(tape.path, request.method, mask_url(request.url), place_of(request))
  app.blame(self, message .. "; record it again: MW_TEST_RECORD=1 moonwatch test …")
  return { error = "unexpected", message = message, fields = { retryable = false, final = true } }, ""
end

--- An answer for app:stub_fetch: with MW_TEST_RECORD=1 in the environment the real network is called, once, and what it answered goes to
--- the file; without, the file answers, each entry once, by method, URL and body.
---
--- No request headers are stored; cookies and answer headers and query parameters that sound like secrets are left out. Bodies are stored
--- as they are: `redact = function(entry) … end` may change an entry before it is written.
---@param path string JSON, one entry a line
---@param opts? { redact?: fun(entry: table) }
function M.record(path, opts)
  opts = validate.options("testing.record", opts, { redact = "function" })
  local tape = { path = path, entries = {}, used = setmetatable({}, { __mode = "k" }), redact = opts.redact }
  if not is_recording() then
    local text = read_file(path)
    tape.entries = text and json.decode(text)
    if not tape.entries then app.fail("there is no recording %s; make it with the real network: MW_TEST_RECORD=1 moonwatch test …", path) end
  end
  return {
    replay = function(self, request)
      if not is_recording() then return replay(self, tape, request) end
      self.tapes = self.tapes or {}
      self.tapes[#self.tapes + 1] = tape
      return { real = true }, ""
    end,
  }
end

function answers.recorded(self, request, body)
  local tape = self.tapes[#self.tapes]
  local entry = { method = request.method, url = mask_url(request.url), status = request.status, headers = {} }
  for name, value in pairs(request.answer_headers) do
    if not is_secret(name) and name ~= "date" then entry.headers[name] = value end
  end
  text_or_base64(entry, "body", request.body or "")
  text_or_base64(entry, "answer", body or "")
  if tape.redact then tape.redact(entry) end
  tape.entries[#tape.entries + 1] = entry
  write_file(tape.path, tape.entries)
end

-- ---- the end ----

local function left_over(stub)
  if stub.optional then return nil end
  if stub.times and #stub.calls < stub.times then return ("%s was called %d of %d times"):format(stub:what(), #stub.calls, stub.times) end
  if is_sequence(stub.answer) and #stub.calls < #stub.answer then
    return ("%s gave %d of its %d answers"):format(stub:what(), #stub.calls, #stub.answer)
  end
  if #stub.calls == 0 then return stub:what() .. " was never called" end
end

--- Fails when a stub was called less often than it was to be; `optional = true` spares one. Closes the app.
function App:finish()
  local lines = {}
  for _, stub in ipairs(self.stubs or {}) do
    local line = left_over(stub)
    if line then table.insert(lines, 1, "  " .. line) end
  end
  self:settle() -- raises what is still to be said
  self:close()
  if #lines > 0 then app.fail("stubs that were not used:\n%s", table.concat(lines, "\n")) end
end

--- Copies of the stubs of an app, as if they had not been called yet.
function M.fresh(stubs)
  local list = {}
  for i, stub in ipairs(stubs or {}) do
    local copy = setmetatable({}, Stub)
    for key, value in pairs(stub) do copy[key] = value end
    copy.calls = {}
    list[i] = copy
  end
  return list
end

return M
