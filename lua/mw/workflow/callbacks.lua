-- SPDX-License-Identifier: MIT

--- How the service behind an `http` step says that it has finished: it POSTs {"result": …} or {"error": {…}} to an address that it was
--- given, whose token proves that it may.
--
--   callbacks.path(id, step, attempt)        -- "/api/v1/executions/…/steps/ship/complete?token=1.4f…": append it to the server's address
--   callbacks.token(id, step, attempt)       -- "1.4f…"; attempt: 1 when absent
--   callbacks.check(id, step, token)         -- the attempt it was made for, or nil
--
-- A token is an HMAC over run, step and attempt with a key of the server's own (lua/mw/access/server_key.lua), so nothing of it is stored. It
-- counts once: what is sent with it a second time is the same signal. It is worth nothing for another run, step or attempt, and after the run's
-- end. The first use in a worker reads the database: all three may wait, and raise when it is away.

local crypto = require "mw.core.crypto"
local server_key = require "mw.access.server_key"

local M = {}

local MAX_ATTEMPT_DIGITS = 6

local function proof(id, step, attempt)
  return crypto.hmac("sha256", server_key.get("callbacks"), string.format("callback\n%s\n%d\n%s", id:lower(), attempt, step))
end

local function escape(text)
  return (text:gsub("[^%w%-%._~]", function(c) return string.format("%%%02X", c:byte()) end))
end

function M.token(id, step, attempt)
  attempt = attempt or 1
  return string.format("%d.%s", attempt, proof(id, step, attempt))
end

function M.path(id, step, attempt)
  return string.format("/api/v1/executions/%s/steps/%s/complete?token=%s", id, escape(step), M.token(id, step, attempt))
end

function M.check(id, step, token)
  local digits, given = tostring(token):match("^(%d+)%.(%x+)$")
  if not digits or #digits > MAX_ATTEMPT_DIGITS then return nil end
  local attempt = tonumber(digits)
  if crypto.equal(proof(id, step, attempt), given) then return attempt end
end

return M
