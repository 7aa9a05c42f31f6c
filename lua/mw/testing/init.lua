-- SPDX-License-Identifier: MIT

--- Specs of plugins without servers, for `moonwatch test`: loads a plugin with its real declarations, answers requests in the spec's own
--- process, runs steps and workflows in memory. What reaches outside is a stub that the spec gives; time is virtual.
--
--   local testing = require "mw.testing"
--   local app = testing.load("plugins/checkout.lua", {
--     fetch = function(url, opts) return { status = 200, json = { id = "ch_1" } } end,   -- answers mw.fetch
--     query = function(sql, params) return { { id = 1 } } end,                          -- answers mw.query and mw.one
--     env = { APP_KEY = "k" },
--   })
--   local res = app:request("POST", "/checkout", { json = { amount = 42 } })   -- res.status, res.headers, res.body, res:json()
--   local result = app:step("checkout", "charge", { input = { amount = 42 } })  -- what the step returns; a failure raises
--   local run = app:run("checkout", { amount = 42 })                             -- every step once: run.output, run.results
--   app.triggered, app.fetched, app.logged   lists of what the plugin did
--   app.now                                  the time mw.now() gives; mw.sleep moves it
--
-- A call of `mw` that has no stub raises and says which stub to give. Retries and timeouts are the engine's and are not tried here.

local errors = require "mw.errors"
local json = require "mw.core.json"
local registry = require "mw._registry"
local routes = require "mw.routes"

local M = {}
local App = {}
App.__index = App

local START = 1767225600 -- 2026-01-01T00:00:00Z

local function no_stub(name)
  return function()
    errors.throw("invalid", ("mw.%s has no stub here: testing.load(file, { %s = function(…) … end })"):format(name, name))
  end
end

-- ---- the mw table of a spec ----

local Answer = {}
Answer.__index = Answer
function Answer:json() return json.decode(self.body) end
function Answer:ok()
  if self.status >= 200 and self.status < 300 then return self end
  local again = self.status == 408 or self.status == 425 or self.status == 429 or self.status >= 500
  errors.throw("http_status", "the answer is " .. self.status, { status = self.status, retryable = again })
end

local function fetch_through(app, stub)
  return function(url, opts)
    app.fetched[#app.fetched + 1] = { url = url, opts = opts or {} }
    local given = stub(url, opts or {})
    local body = given.body or (given.json ~= nil and json.encode(given.json)) or ""
    return setmetatable({ status = given.status or 200, headers = given.headers or {}, body = body }, Answer)
  end
end

local function logger(app)
  local log = {}
  for _, level in ipairs { "debug", "info", "warn", "error" } do
    log[level] = function(message, fields)
      app.logged[#app.logged + 1] = { level = level, message = tostring(message), fields = fields }
    end
  end
  return log
end

local function environment(values)
  return setmetatable({}, { __index = values or {}, __newindex = function() errors.throw("denied", "mw.env is read-only") end })
end

local function memory_kv()
  local values = {}
  return {
    get = function(key) return values[key] end,
    set = function(key, value) values[key] = value end,
    delete = function(key) values[key] = nil end,
    add = function(key, value)
      if values[key] ~= nil then return false end
      values[key] = value
      return true
    end,
    incr = function(key, by)
      values[key] = (values[key] or 0) + (by or 1)
      return values[key]
    end,
  }
end

local function run_all(functions)
  local results = {}
  for name, fn in pairs(functions) do results[name] = fn() end
  return results
end

local function database(mw, stubs)
  mw.query = stubs.query or no_stub "query"
  mw.one = stubs.one or function(...) return mw.query(...)[1] end
  mw.transaction = stubs.transaction or function(fn) return fn { query = mw.query, one = mw.one } end
end

local function make_mw(app, stubs)
  local mw = routes.public()
  local count = 0
  mw.use, mw.use_all = routes.use, routes.use_all
  mw.workflow = require("mw.workflow.define").define
  mw.trigger = function(name, input, opts)
    app.triggered[#app.triggered + 1] = { name = name, input = input, opts = opts }
    return stubs.trigger and stubs.trigger(name, input, opts) or { id = "run-" .. #app.triggered, created = true }
  end
  mw.fetch = fetch_through(app, stubs.fetch or no_stub "fetch")
  database(mw, stubs)
  mw.sleep = function(duration) app.now = app.now + require("mw.validate").duration("mw.sleep", duration) end
  mw.spawn = stubs.spawn or function(fn, ...) fn(...) end
  mw.all = run_all
  mw.now = function() return app.now end
  mw.random = stubs.random or function(m, n) return m and (n and m or 1) or 0.5 end
  mw.uuid = function()
    count = count + 1
    return ("00000000-0000-7000-8000-%012d"):format(count)
  end
  mw.kv, mw.env, mw.log = stubs.kv or memory_kv(), environment(stubs.env), logger(app)
  mw.json = require "mw.json"
  mw.null, mw.array, mw.crypto = mw.json.null, mw.json.array, require "mw.crypto"
  mw.try, mw.error = errors.try, errors.public
  return mw
end

-- ---- loading ----

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

local function reset_registry()
  for _, key in ipairs { "routes", "workflows", "plugins", "bundles", "names", "use_all" } do
    for k in pairs(registry[key]) do registry[key][k] = nil end
  end
end

local function make_require(app, env, dir)
  local loaded = { mw = app.mw }
  return function(name)
    if loaded[name] ~= nil then return loaded[name] end
    local base = dir .. name:gsub("%.", "/")
    for _, path in ipairs { base .. ".lua", base .. "/init.lua" } do
      local source = read(path)
      if source then
        local value = setfenv(assert(loadstring(source, "@" .. path)), env)()
        loaded[name] = value == nil and true or value
        return loaded[name]
      end
    end
    errors.throw("not_found", ("module %q is not below %s"):format(name, dir))
  end
end

---Loads one plugin file; `stubs` answer what reaches outside.
---@param path string
---@param stubs? table
function M.load(path, stubs)
  local source = read(path) or error("there is no plugin " .. path, 2)
  stubs = stubs or {}
  local app = setmetatable({ now = START, triggered = {}, fetched = {}, logged = {}, path = path }, App)
  app.mw = make_mw(app, stubs)
  local env = setmetatable({}, { __index = _G })
  env._G = env
  env.require = make_require(app, env, path:match("^(.*/)plugins/") and path:match("^(.*plugins/)") or path:match("^(.*/)") or "")
  reset_registry()
  local name = path:match("([^/]+)%.lua$") or path
  registry.loading = { name = name, file = path, uses = {}, workflows = {}, declarations = {} }
  local ok, err = xpcall(setfenv(assert(loadstring(source, "@" .. path)), env), errors.from)
  registry.loading = nil
  if not ok then error(err, 2) end
  routes.finish()
  app.routes, app.workflows = {}, {}
  for i, route in ipairs(registry.routes) do app.routes[i] = route end
  for key, workflow in pairs(registry.workflows) do app.workflows[key] = workflow end
  return app
end

-- ---- requests ----

local function decode(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function parse_query(text)
  local query = {}
  for pair in (text or ""):gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    query[decode(name)] = decode(value)
  end
  return query
end

-- The parameters of `path` in a route's pattern, or nil. `:name` is one segment, `*name` the rest.
local function match(pattern, path)
  local params, at = {}, 1
  for segment in pattern:gmatch("/([^/]*)") do
    local first = segment:sub(1, 1)
    if first == "*" then
      params[segment:sub(2)] = path:sub(at + 1)
      return params
    end
    local value = path:match("^/([^/]*)", at)
    if not value then return nil end
    if first == ":" and value ~= "" then params[segment:sub(2)] = value
    elseif value ~= segment then return nil end
    at = at + #value + 1
  end
  return at > #path and params or nil
end

local function find_route(app, method, path)
  for _, route in ipairs(app.routes) do
    local params = match(route.pattern, path)
    for _, allowed in ipairs(params and route.methods or {}) do
      if allowed == method or allowed == "*" then return route, params end
    end
  end
end

local Request = {}
Request.__index = Request

function Request:json()
  if not (self.headers["content-type"] or ""):find("json", 1, true) then
    errors.throw("invalid", "the body is not sent as JSON", { status = 415 })
  end
  local value, err = json.decode(self.body)
  if value == nil and err then errors.throw("json", err.message, { status = 400 }) end
  return value
end

function Request:form() return parse_query(self.body) end

function Request:chunks()
  local body = self.body
  return function()
    local piece = body
    body = nil
    return piece ~= "" and piece or nil
  end
end

local Response = {}
Response.__index = Response

function Response:header(name, value)
  self.out.headers[name:lower()] = tostring(value)
  return self
end

function Response:cookie(name, value)
  return self:header("set-cookie", name .. "=" .. tostring(value))
end

function Response:write(chunk)
  self.out.body = self.out.body .. chunk
  self.out.sent = true
end

function Response:finish() self.out.sent = true end

local function send(self, type_, body)
  self.out.headers["content-type"] = self.out.headers["content-type"] or type_
  self.out.body, self.out.sent = body, true
end

function Response:json(value) send(self, "application/json", json.encode(value)) end
function Response:text(value) send(self, "text/plain; charset=utf-8", value) end
function Response:html(value) send(self, "text/html; charset=utf-8", value) end
function Response:redirect(url, status)
  self.out.status = status or 302
  self:header("location", url)
  self.out.sent = true
end

function Response.new(out)
  local res = setmetatable({ out = out }, Response)
  res.status = function(self, status)
    self.out.status = status
    return self
  end
  return res
end

local function run_chain(chain, req, res)
  local function step(i)
    local fn = chain[i]
    if not fn then return end
    if i == #chain then return fn(req, res) end
    return fn(req, res, function() return step(i + 1) end)
  end
  return step(1)
end

---Answers a request by the plugin's routes. opts: json, body, headers, ip. An error that the handler raises is raised here.
function App:request(method, target, opts)
  opts = opts or {}
  local path, query = target:match("^([^?]*)%??(.*)$")
  local route, params = find_route(self, method, decode(path))
  local out = { status = 200, headers = {}, body = "" }
  function out.json(self_) return json.decode((self_ or out).body) end
  if not route then
    out.status = 404
    return out
  end
  local headers = {}
  for name, value in pairs(opts.headers or {}) do headers[name:lower()] = value end
  if opts.json ~= nil then headers["content-type"] = headers["content-type"] or "application/json" end
  local req = setmetatable({
    method = method, path = decode(path), params = params, query = parse_query(query), headers = headers, ip = opts.ip or "127.0.0.1",
    body = opts.body or (opts.json ~= nil and json.encode(opts.json)) or "", trace_id = ("0"):rep(31) .. "1",
  }, Request)
  run_chain(route.chain, req, Response.new(out))
  return out
end

-- ---- workflows ----

local function context(app, name, fields)
  fields = fields or {}
  return {
    id = fields.id or "run-1", workflow = name, step = fields.step, attempt = fields.attempt or 1, input = fields.input,
    results = fields.results or {}, step_key = ("run-1/%s"):format(tostring(fields.step)), now = function() return app.now end,
  }
end

local function need_workflow(app, name)
  return app.workflows[name] or error(("%s declares no workflow %q"):format(app.path, name), 3)
end

---Runs one step of a list-form workflow; fields: input, results, attempt, id. Returns what the step returns.
function App:step(name, step, fields)
  for _, entry in ipairs(need_workflow(self, name).steps or {}) do
    if entry.name == step then
      fields = fields or {}
      fields.step = step
      return entry.run(context(self, name, fields))
    end
  end
  error(("workflow %q has no step %q"):format(name, step), 2)
end

local function run_list(app, workflow, input)
  local results, last = {}, nil
  for _, entry in ipairs(workflow.steps) do
    last = entry.run(context(app, workflow.name, { input = input, results = results, step = entry.name }))
    results[entry.name] = last
  end
  return { output = last, results = results }
end

local function run_body(app, workflow, input)
  local results, seen = {}, {}
  local ctx = context(app, workflow.name, { input = input, results = results })
  function ctx:step(step, fn)
    seen[step] = (seen[step] or 0) + 1
    if seen[step] > 1 then step = step .. "#" .. seen[step] end
    results[step] = fn(context(app, workflow.name, { input = input, results = results, step = step }))
    return results[step]
  end
  return { output = workflow.body(ctx, input), results = results }
end

---Runs a workflow from its first step to its last, each once. Returns { output, results }; a failing step raises.
function App:run(name, input)
  local workflow = need_workflow(self, name)
  if workflow.steps then return run_list(self, workflow, input) end
  return run_body(self, workflow, input)
end

return M
