-- SPDX-License-Identifier: MIT

--- Error objects: what a failing call of the public `mw` raises.
--
--   local ok, err = pcall(mw.query, "SELECT …")       -- or: local rows, err = mw.try(mw.query, "SELECT …")
--   err.code        stable short word for programs: "timeout", "constraint", "http_status"
--   err.message     one sentence for people
--   err.retryable   whether trying again later can help
--   err.cause       the error object it came from, or nil
--   err.where       file:line of the plugin code that made the call, when known
--
-- Modules inside lua/mw return `nil, err` and raise the same object at the public edge (errors.check, errors.raise).

local M = {}

---@class mw.Error
---@field code string
---@field message string
---@field retryable boolean
---@field cause? mw.Error
---@field where? string
---@field status? integer the HTTP status it is answered with
---@field hint? string what to do
---@field sqlstate? string the database's own word
---@field retry_after? number seconds
local Error = {}
Error.__name = "mw.error"
Error.__metatable = "mw.error"

function Error:__tostring()
  local text = self.message or self.code or "error"
  if self.where then text = self.where .. ": " .. text end
  return text
end

function Error.__concat(a, b) return tostring(a) .. tostring(b) end

-- C finds the metatable under this name to make the same objects (mw_vm_push_error).
debug.getregistry()["mw.error"] = Error

local retryable = {
  timeout = true, dns = true, unavailable = true, busy = true, closed = true, serialization = true, io = true,
  ECONNREFUSED = true, ECONNRESET = true, EPIPE = true, ETIMEDOUT = true, EHOSTUNREACH = true, ENETUNREACH = true,
}

--- Makes an error object. `fields` adds to it (status, retry_after, path …) and may set `retryable`.
---@return mw.Error
function M.new(code, message, fields)
  local err = { code = code, message = message, retryable = retryable[code] or false }
  if fields then for k, v in pairs(fields) do err[k] = v end end
  return setmetatable(err, Error)
end

local metatable_of = debug.getmetatable -- a plugin's table can claim any __metatable

function M.is(value, code)
  return type(value) == "table" and metatable_of(value) == Error and (code == nil or value.code == code)
end

local function is_status(value) return type(value) == "number" and value % 1 == 0 and value >= 100 and value <= 599 end

-- Plugins make error objects and write into them: whoever reads one may rely on what the fields are.
local function sound(err)
  if type(err.code) ~= "string" then err.code = "error" end
  if type(err.message) ~= "string" then err.message = type(err.message) == "number" and tostring(err.message) or err.code end
  if type(err.where) ~= "string" then err.where = nil end
  if not is_status(err.status) then err.status = nil end
  if type(err.hint) ~= "string" then err.hint = nil end
  return err
end

--- Turns whatever was raised into an error object; a string's "file:line: " prefix becomes `where`. Calls no metamethods.
---@return mw.Error
function M.from(value)
  if M.is(value) then return sound(value) end
  if type(value) == "table" then
    local code, message = rawget(value, "code"), rawget(value, "message")
    local has_code = type(code) == "string"
    if type(message) ~= "string" then message = has_code and code or "an error without a message" end
    local err = M.new(has_code and code or "error", message)
    if rawget(value, "retryable") == false then err.final = true end
    return err
  end
  local text = tostring(value)
  local where, message = text:match("^([^\n:]+:%d+): (.*)$")
  local code = "error"
  if text:find("not enough memory", 1, true) then code = "memory" end
  return M.new(code, message or text, { where = where })
end

--- Puts context before the message; code and retryable stay.
---@return mw.Error
function M.wrap(err, context)
  err = M.from(err)
  return M.new(err.code, context .. ": " .. err.message, { retryable = err.retryable, cause = err, where = err.where })
end

--- file:line of the innermost plugin code on the stack, or nil.
function M.where()
  for level = 2, 50 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.source:sub(1, 9) == "@plugins/" then return info.short_src .. ":" .. info.currentline end
  end
end

--- Raises `err` (an error object), noting the plugin line that is to blame.
function M.raise(err)
  if err.where == nil then err.where = M.where() end
  error(err, 0)
end

--- Makes and raises.
function M.throw(code, message, fields) M.raise(M.new(code, message, fields)) end

--- Passes values through, or raises the second when the first is nil: `return errors.check(db.query(…))`.
function M.check(value, err, ...)
  if value == nil and err ~= nil then M.raise(M.from(err)) end
  return value, err, ...
end

--- What an error looks like in a journal, an answer or a log line.
function M.to_json(err)
  err = M.from(err)
  return { code = err.code, message = err.message, retryable = err.retryable or nil, where = err.where, status = err.status }
end

local function tried(ok, ...)
  if ok then return ... end
  return nil, M.from((...))
end

--- `mw.try(fn, …)`: the results of fn, or nil and the error object it raised. Cancellation is not caught.
---@param fn fun(...): ...
---@param ... any arguments of fn
---@return any value
---@return mw.Error? err
function M.try(fn, ...) return tried(M.pcall(fn, ...)) end

--- The pcall that lets cancellation through; lua/mw/_sandbox.lua replaces the plain one when a task can be cancelled.
M.pcall = pcall

local said = setmetatable({}, { __mode = "k" })

--- True for what a plugin made by mw.error: its words are meant for whoever asked.
function M.is_said(err) return said[err] == true end

--- `mw.error(code, message, {retryable=, …})`: makes an error object to `error()` with.
---@param code string a short word for programs, such as "out_of_stock"
---@param message? string
---@param fields? table further members: retryable, status, hint …
---@return mw.Error
function M.public(code, message, fields)
  if type(code) ~= "string" or not code:find("^[%w_%.%-]+$") then
    M.throw("invalid", "mw.error(code, message): the code must be a short word like \"out_of_stock\"")
  end
  if fields ~= nil and type(fields) ~= "table" then M.throw("invalid", "mw.error: the third argument must be a table") end
  local err = M.new(code, message == nil and code or tostring(message), fields)
  said[err] = true
  if fields and fields.retryable == false then err.final = true end -- said so, not by default: a step is not tried again
  return err
end

return M
