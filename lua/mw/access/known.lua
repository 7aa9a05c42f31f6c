-- SPDX-License-Identifier: MIT

--- The keys and sessions that are valid, in this worker's memory, so that a request costs one SHA-256 and no read of the database.
--
--   local row, err = known.find("keys", "mw_sk_…")       -- row: id, name, app, environment, scopes (a set), …; nil: not valid
--
-- What this process changes is known to all its workers at once. What another node changes is seen within 2 s while requests come, and before
-- the first answer after a pause. A secret that is not known costs at most one small read a second and worker, however many are tried.
-- While the database is away what was known goes on for 60 s; then nobody is let in by a key (503).
--
-- When something was used last is written once a minute.

local core = require "mw.core.task"
local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local scopes = require "mw.access.scopes"
local secret = require "mw.access.secret"
local store = require "mw.core.store"

local M = {}

local FRESH_S, RECENT_S, LONGEST_S, RETRY_S, WAIT_S = 2, 10, 60, 1, 10
local WHOLE_S = 600 -- uses that other workers noted are no change; a session's pause is exact to about this
local TOUCH_US = 60 * 1000000
local IDLE_US = 12 * 3600 * 1000000

--- How long a session may pause.
M.idle_us = IDLE_US

local state = { at = -math.huge, whole_at = -math.huge, tried = -math.huge, version = -1, keys = {}, sessions = {} }
local waiting, is_loading = {}, false

-- ---- loading ----

local function by_prefix(rows)
  local index = {}
  for _, row in ipairs(rows) do
    local list = index[row.prefix] or {}
    list[#list + 1], index[row.prefix] = row, list
    for _, field in ipairs { "created_us", "last_used_us", "expires_us" } do row[field] = tonumber(row[field]) end
    row.scopes = scopes.stored(row.scopes or "*") -- a session has all
  end
  return index
end

local function read(sql, params) return (errors.check(store.query("engine", sql, params, WAIT_S))) end

local function load()
  local version, now = runtime.access_version(), runtime.now_us()
  local counter = tostring(read("SELECT sum(last) AS n FROM {{schema}}.change_counters")[1].n)
  if version ~= state.version or counter ~= state.counter or runtime.mono() - state.whole_at > WHOLE_S then
    local keys = read("SELECT id, app, environment, kind, name, scopes, prefix, hash, last_used_us, expires_us FROM {{schema}}.keys"
      .. " WHERE revoked_us IS NULL AND (expires_us IS NULL OR expires_us > $1)", { now })
    local sessions = read("SELECT id, app, prefix, hash, created_us, last_used_us, expires_us FROM {{schema}}.sessions"
      .. " WHERE ended_us IS NULL AND expires_us > $1", { now })
    state.keys, state.sessions, state.whole_at = by_prefix(keys), by_prefix(sessions), runtime.mono()
  end
  state.counter, state.version, state.at = counter, version, runtime.mono()
end

local function wake_all(err)
  local tokens = waiting
  waiting, is_loading, state.err = {}, false, err
  for _, token in ipairs(tokens) do core.wake(token) end
end

local function load_logged()
  core.on_fail(function(_, err) wake_all(errors.from(err)) end)
  local ok, err = errors.pcall(load)
  wake_all(not ok and errors.from(err) or nil)
end

local function start_loading()
  if is_loading then return end
  is_loading, state.tried = true, runtime.mono()
  core.spawn(load_logged, "keys and sessions")
end

-- Waits until a load that began now or was under way has ended; one that was under way may not have seen the newest change.
local function wait_for_load()
  waiting[#waiting + 1] = core.token() -- before the load begins: it may end at once
  start_loading()
  local _, err = core.park("the check of a key", WAIT_S)
  return err or state.err
end

-- Makes what is known as new as promised; nil, or why that is impossible.
local function refresh(is_missing)
  local now = runtime.mono()
  local age = now - state.at
  local is_stale = state.version ~= runtime.access_version() or age > RECENT_S or (is_missing and now - state.tried > RETRY_S)
  if not is_stale then
    if age > FRESH_S and not is_missing and now - state.tried > RETRY_S then start_loading() end
    return nil
  end
  for _ = 1, 3 do
    local err = wait_for_load()
    if err then
      if runtime.mono() - state.at < LONGEST_S then return nil end
      return errors.new("unavailable", "keys cannot be checked while the database is away: " .. err.message)
    end
    if state.version == runtime.access_version() then return nil end
  end
end

-- ---- finding ----

local function match(kind, text)
  local found
  local hash = secret.hash(text)
  for _, row in ipairs(state[kind][secret.prefix(text)] or {}) do
    if crypto.equal(row.hash, hash) then found = row end
  end
  return found
end

local function is_over(row)
  local now = runtime.now_us()
  if row.expires_us and row.expires_us <= now then return true end
  return row.created_us ~= nil and row.last_used_us + IDLE_US <= now -- a session
end

local function write_use(kind, id, now)
  store.query("engine", "UPDATE {{schema}}." .. kind .. " SET last_used_us = $1 WHERE id = $2 AND (last_used_us IS NULL OR last_used_us < $1)",
    { now, { id = id } })
end

local function touch(kind, row)
  local now = runtime.now_us()
  if row.last_used_us and now - row.last_used_us < TOUCH_US then return end
  row.last_used_us = now
  core.spawn(write_use, "last use", nil, kind, row.id, now)
end

--- The valid row of a secret that has passed secret.check; nil when there is none, nil and an error when that cannot be told. Waits only
--- when what is known is too old.
function M.find(kind, text)
  local err = refresh(false)
  if err then return nil, err end
  local row = match(kind, text)
  if not row or is_over(row) then
    err = refresh(true)
    if err then return nil, err end
    row = match(kind, text)
  end
  if not row or is_over(row) then return nil end
  touch(kind, row)
  return row
end

return M
