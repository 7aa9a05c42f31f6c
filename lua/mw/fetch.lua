-- SPDX-License-Identifier: MIT

--- mw.fetch: asks another server, over HTTP/1.1, with kept connections and TLS that is verified.
--
--   local res = mw.fetch("https://pay.example/charges", { method = "POST", json = { amount = 42 } })
--   res.status            -- 201; any status is an answer
--   res.headers["Content-Type"]    -- any case; repeated ones joined with ", ", several Set-Cookie are a list
--   res.body              -- the bytes
--   res.url               -- the one that answered, after redirects
--   res.method            -- as it was sent first
--   res:json()            -- the body's value, see mw.json
--   res:ok():json().id    -- ok() gives res for 2xx and raises `http_status` otherwise
--
-- Options:
--   method           "GET"; "POST" when there is a body
--   headers          { name = "value" or { "several", "values" } }
--   json             any value: encoded, with Content-Type: application/json
--   body             a string, sent as it is; not together with json
--   timeout          for everything, redirects included: 30 s
--   connect_timeout  for name look-up, connect and TLS handshake: 10 s
--   max_bytes        a larger answer raises `limit`: 10 MiB; a number or "50MB"; also of what comes out of a compressed one
--   redirects        how many are followed: 10; 0 gives the redirect itself
--   insecure         true takes any certificate; for tests
--
-- Answers in gzip or deflate are asked for and decompressed; then they have no Content-Encoding and Content-Length. Who sends
-- Accept-Encoding or Range gets the bytes as they came.
--
-- It raises when no answer came: `timeout`, `dns`, `tls`, `closed`, `protocol`, `limit`, `ECONNREFUSED`, `ECONNRESET` …, `invalid` for what
-- cannot be sent. Authorization and cookies do not follow a redirect to another origin. A POST inside a workflow step sends the step's key
-- as Idempotency-Key unless the headers have one.

local core = require "mw.core.fetch"
local task = require "mw.core.task"
local errors = require "mw.errors"
local json = require "mw.core.json"
local runtime = require "mw.core.runtime"
local validate = require "mw.validate"

local M = {}

local options = {
  method = "string", headers = "table", json = "any", body = "string", timeout = "duration", connect_timeout = "duration",
  max_bytes = "number|string", redirects = "integer", insecure = "boolean",
}

-- ---- the answer ----

-- "GET https://host/path" for messages: query and password may be secrets.
local function what_of(res)
  return res.method .. " " .. res.url:gsub("[?#].*$", ""):gsub("//[^/@]*@", "//")
end

---@class mw.FetchResult
---@field status integer
---@field headers table<string, string>
---@field body string
---@field url string
---@field method string
local Response = {}
local response = { __index = Response, __metatable = "mw.response" } -- plugins share it, so none may reach it

local any_case = {
  __index = function(headers, name) return type(name) == "string" and rawget(headers, name:lower()) or nil end,
  __metatable = "mw.headers",
}

--- The body as a value; raises `json` with the place when it is none.
---@return any
function Response:json()
  local value, err = json.decode(self.body)
  if err then
    errors.raise(errors.new(err.code, string.format("the answer of %s is not JSON: %s", what_of(self), err.message)))
  end
  return value
end

local retryable_status = { [408] = true, [425] = true, [429] = true }

-- Seconds that a Retry-After header asks for, or nil.
local function retry_after(headers)
  local text = headers["retry-after"]
  if type(text) ~= "string" then return nil end
  local at = runtime.parse_time(text)
  return at and math.max(0, (at - runtime.now_us()) / 1e6) or tonumber(text:match("^%d+$"))
end

--- The response itself when its status is 2xx; else raises `http_status` with `status`, `retry_after` and the start of the `body`.
---@return mw.FetchResult
function Response:ok()
  local status = self.status
  if status >= 200 and status < 300 then return self end
  local retryable = retryable_status[status] or status >= 500
  errors.throw("http_status", string.format("%s answered %d", what_of(self), status), {
    status = status, retry_after = retry_after(self.headers), body = self.body:sub(1, 1000), retryable = retryable, final = not retryable or nil,
  })
end

-- ---- the request ----

local function add_header(list, seen, name, value)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then
    errors.throw("invalid", string.format("mw.fetch: header %s must be a string, got %s", name, validate.describe(value)))
  end
  list[#list + 1], list[#list + 2] = name, value
  seen[name:lower()] = true
end

local function read_headers(headers)
  local list, seen = {}, {}
  for name, value in pairs(headers or {}) do
    if type(name) ~= "string" then
      errors.throw("invalid", 'mw.fetch: headers must be written as { ["X-Name"] = "value" }')
    end
    if type(value) == "table" then
      for _, one in ipairs(value) do add_header(list, seen, name, one) end
    else
      add_header(list, seen, name, value)
    end
  end
  return list, seen
end

local function read_body(opts, list, seen)
  if opts.json == nil then return opts.body end
  if opts.body ~= nil then errors.throw("invalid", "mw.fetch: give json or body, not both") end
  local text, err = json.encode(opts.json, { name = "json" })
  if not text then errors.raise(err) end
  if not seen["content-type"] then add_header(list, seen, "Content-Type", "application/json") end
  return text
end

local function add_step_key(method, list, seen)
  if method ~= "POST" or seen["idempotency-key"] then return end
  local context = task.local_get()
  local key = type(context) == "table" and context.step_key
  if type(key) == "string" then add_header(list, seen, "Idempotency-Key", key) end
end

local function seconds(name, value)
  if value == nil then return nil end
  local s = validate.duration("mw.fetch: " .. name, value, true)
  if s <= 0 then errors.throw("invalid", "mw.fetch: " .. name .. " must be more than 0") end
  return s
end

local function bytes(value)
  if value == nil then return nil end
  local size, err = runtime.size(value)
  if not size then errors.throw("invalid", "mw.fetch: max_bytes: " .. err.message) end
  if size < 1 then errors.throw("invalid", "mw.fetch: max_bytes must be at least 1") end
  return size
end

-- 0 means the default to the client, and a negative number that none is followed.
local function redirects(value)
  if value == nil then return nil end
  if value < 0 or value > 100 then errors.throw("invalid", "mw.fetch: redirects must be from 0 to 100") end
  return value == 0 and -1 or value
end

---@class mw.FetchOptions
---@field method? string default "GET"; "POST" when there is a body
---@field headers? table<string, string|number|string[]>
---@field json? any sent as application/json
---@field body? string sent as it is; not together with json
---@field timeout? mw.Duration for everything, default 30 s
---@field connect_timeout? mw.Duration default 10 s
---@field max_bytes? integer|string a larger answer raises `limit`; default 10 MiB
---@field redirects? integer how many are followed; default 10
---@field insecure? boolean true takes any certificate; for tests

--- Asks another server over HTTP; raises when no answer came, any status is an answer.
---@param url string
---@param opts? mw.FetchOptions
---@return mw.FetchResult
function M.fetch(url, opts)
  validate.arg("mw.fetch", 1, "url", url, "string")
  opts = validate.options("mw.fetch", opts, options)
  local list, seen = read_headers(opts.headers)
  local body = read_body(opts, list, seen)
  local method = opts.method and opts.method:upper() or (body and "POST" or "GET")
  add_step_key(method, list, seen)
  local status, headers, answer, final_url = core.fetch(method, url, list, body, seconds("timeout", opts.timeout),
    seconds("connect_timeout", opts.connect_timeout), bytes(opts.max_bytes), redirects(opts.redirects), opts.insecure)
  if not status then
    if headers.code == "invalid" then headers.message = "mw.fetch: " .. headers.message end
    errors.raise(headers)
  end
  return setmetatable({
    status = status, headers = setmetatable(headers, any_case), body = answer, url = final_url, method = method,
  }, response)
end

return M
