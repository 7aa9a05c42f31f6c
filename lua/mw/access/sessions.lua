-- SPDX-License-Identifier: MIT

--- Sessions of people at the dashboard, and the one-time links that begin them.
--
--   local code, expires_us = sessions.new_link(who)        -- single use, 10 minutes; stored as a hash, so any worker or node takes it
--   local text, session = sessions.begin(code)             -- spends the link; nil when it is spent, over or unknown
--   sessions.finish(who, id)     sessions.finish_all(who)
--
-- A session ends 12 hours after its last use, and 7 days after its begin.

local audit = require "mw.access.audit"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local secret = require "mw.access.secret"
local store = require "mw.core.store"

local M = {}

local SECOND = 1000000
local LINK_US, LONGEST_US, KEPT_US = 600 * SECOND, 7 * 86400 * SECOND, 90 * 86400 * SECOND

--- Seconds a session lasts at most.
M.longest_s = LONGEST_US / SECOND

local MAX_LINKS, MAX_SESSIONS = 1000, 1000

local function query(tx, sql, params) return (errors.check(tx:query(sql, params))) end

local function refuse_more(tx, name, where, now, most)
  local count = tonumber(query(tx, "SELECT count(*) AS n FROM {{schema}}." .. name .. " WHERE " .. where, { now })[1].n)
  if count >= most then
    errors.throw("busy", string.format("there are %d %s already", count, name:gsub("_", " ")), { hint = "`moonwatch logout` ends all sessions and links" })
  end
end

function M.new_link(who)
  local code, now = secret.new "ll", runtime.now_us()
  audit.change({ actor = who.actor, action = "login.offered", subject = "dashboard" }, function(tx)
    query(tx, "DELETE FROM {{schema}}.login_links WHERE expires_us <= $1", { now })
    refuse_more(tx, "login_links", "expires_us > $1", now, MAX_LINKS)
    query(tx, "INSERT INTO {{schema}}.login_links (hash, created_us, created_by, expires_us) VALUES ($1, $2, $3, $4)",
      { secret.hash(code), now, who.actor, now + LINK_US })
    return true
  end)
  return code, now + LINK_US
end

-- A look first, so that what strangers try does not queue for the writer.
local function is_offered(hash, now)
  local rows = errors.check(store.query("engine", "SELECT 1 AS one FROM {{schema}}.login_links WHERE hash = $1 AND expires_us > $2", { hash, now }))
  return rows[1] ~= nil
end

local function insert(tx, session, code_hash, now)
  local rows = query(tx, "DELETE FROM {{schema}}.login_links WHERE hash = $1 AND expires_us > $2 RETURNING hash", { code_hash, now })
  if not rows[1] then return nil, errors.new("not_found", "the link was used meanwhile") end
  query(tx, "DELETE FROM {{schema}}.sessions WHERE expires_us < $1", { now - KEPT_US })
  refuse_more(tx, "sessions", "ended_us IS NULL AND expires_us > $1", now, MAX_SESSIONS)
  query(tx, "INSERT INTO {{schema}}.sessions (id, prefix, hash, created_us, last_used_us, expires_us) VALUES ($1, $2, $3, $4, $4, $5)",
    { { id = session.id }, session.prefix, session.hash, now, session.expires_us })
  return session
end

function M.begin(code)
  local now = runtime.now_us()
  if not secret.check("ll", code) or not is_offered(secret.hash(code), now) then return nil end
  local text = secret.new "ss"
  local session = { id = runtime.uuid(), prefix = secret.prefix(text), hash = secret.hash(text), expires_us = now + LONGEST_US }
  local note = { actor = "session:" .. session.id, action = "session.began", subject = "session " .. session.id }
  local begun, err = errors.try(audit.change, note, function(tx) return insert(tx, session, secret.hash(code), now) end)
  if begun then return text, session end
  if errors.is(err, "not_found") then return nil end
  errors.raise(err)
end

function M.finish(who, id)
  local now = runtime.now_us()
  audit.change({ actor = who.actor, action = "session.ended", subject = "session " .. id }, function(tx)
    query(tx, "UPDATE {{schema}}.sessions SET ended_us = $1 WHERE id = $2 AND ended_us IS NULL", { now, { id = id } })
    return true
  end)
end

--- Ends every session and link; returns how many sessions it were.
function M.finish_all(who)
  local now = runtime.now_us()
  return audit.change({ actor = who.actor, action = "sessions.ended", subject = "all sessions" }, function(tx)
    query(tx, "DELETE FROM {{schema}}.login_links")
    local rows = query(tx, "UPDATE {{schema}}.sessions SET ended_us = $1 WHERE ended_us IS NULL AND expires_us > $1", { now })
    return tonumber(rows.affected) or 0
  end)
end

--- True when nobody has logged in as far back as sessions are kept (90 days after they end).
function M.is_first() return errors.check(store.query("engine", "SELECT 1 AS one FROM {{schema}}.sessions LIMIT 1"))[1] == nil end

--- The value of `x-moonwatch-csrf` that goes with a session.
function M.csrf_of(text) return secret.hash("csrf " .. text):sub(1, 32) end

return M
