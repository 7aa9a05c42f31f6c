-- SPDX-License-Identifier: MIT

--- Errors as answers: RFC 9457 application/problem+json {type, title, status, detail, code, hint, trace_id}.
--
--   problem.answer(req, res, err)                    -- what a handler raised
--   problem.send(req, res, 409, "…", {hint = "…"})    -- on purpose
--
-- The status comes from err.status, else from its code; a code that is not listed is the program's own failure: 500, and what it
-- says is shown in development only.

local core_json = require "mw.core.json"
local errors = require "mw.errors"

local M = {}

local statuses = {
  invalid = 400, json = 400, validation = 400, utf8 = 400,
  denied = 403,
  not_found = 404,
  conflict = 409, exists = 409, stale = 409,
  limit = 413,
  content_type = 415,
  busy = 429, rate_limited = 429,
  unavailable = 503, circuit_open = 503, bulkhead_full = 503, bulkhead_timeout = 503,
  timeout = 503, io = 503,
}

local titles = {
  [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found", [405] = "Method Not Allowed",
  [408] = "Request Timeout", [409] = "Conflict", [410] = "Gone", [412] = "Precondition Failed", [413] = "Content Too Large",
  [415] = "Unsupported Media Type", [416] = "Range Not Satisfiable", [422] = "Unprocessable Content", [423] = "Locked", [425] = "Too Early",
  [429] = "Too Many Requests", [500] = "Internal Server Error", [501] = "Not Implemented", [502] = "Bad Gateway",
  [503] = "Service Unavailable", [504] = "Gateway Timeout",
}

-- What Redis refuses is the program's affair, whatever its code says of the command: no client could mend it.
local function status_of_redis(err) return (err.code == "unavailable" or err.code == "busy") and 503 or 500 end

--- The status an error is answered with.
function M.status_of(err)
  local status = err.status
  if err.redis and status == nil then return status_of_redis(err) end
  -- A status that another server gave (http_status) is not ours to pass on.
  if type(status) == "number" and status >= 400 and status <= 599 and err.code ~= "http_status" then return status end
  return statuses[err.code] or 500
end

local MAX_TEXT = 8192

-- A sentence may quote bytes that a client sent; JSON holds text only. Nobody reads pages of it.
local function clean(value)
  if type(value) == "string" and #value > MAX_TEXT then value = value:sub(1, MAX_TEXT):gsub("[\194-\244]?[\128-\191]*$", "") .. " …" end
  if type(value) ~= "string" or core_json.encode(value) then return value end
  return (value:gsub("[\128-\255]", "?"))
end

--- Answers with a problem. `fields`: hint, code and further members.
function M.send(req, res, status, detail, fields)
  local body = { type = "about:blank", title = titles[status] or "Error", status = status, detail = clean(detail), trace_id = req.trace_id }
  if fields then for key, value in pairs(fields) do body[key] = clean(value) end end
  res:status(status):header("content-type", "application/problem+json"):json(body)
end

-- What a stranger is told of a failure that is not his; the log has its words.
local hidden = {
  [503] = { "this is not available at the moment", "try again later; the log has the reason under this trace_id" },
  other = { "the handler failed", "the log has the error under this trace_id" },
}

local function answer(req, res, raised, shows_all)
  local err = errors.from(raised)
  local status = M.status_of(err)
  if status == 429 or status == 503 then
    local wait = tonumber(err.retry_after) or 1
    res:header("retry-after", string.format("%d", math.max(1, math.ceil(wait))))
  end
  if status < 500 or shows_all or status == 503 and errors.is_said(err) then
    M.send(req, res, status, (status < 500 or status == 503) and err.message or tostring(err), { code = err.code, hint = err.hint })
  else
    local words = hidden[status] or hidden.other
    M.send(req, res, status, words[1], { hint = words[2] })
  end
  return status
end

--- Answers what a plugin's handler raised; returns the status. In production the words of what is not the client's fault (a database's
--- address, a query) stay in the log, unless the plugin said them by mw.error.
function M.answer(req, res, raised, development) return answer(req, res, raised, development) end

--- The same for built-in surfaces, whose 503 says what is away to whoever may use them.
function M.answer_own(req, res, raised, development)
  return answer(req, res, raised, development or M.status_of(errors.from(raised)) == 503)
end

return M
