-- SPDX-License-Identifier: MIT

--- Keys: made, listed and revoked. The secret is shown once; the store has its SHA-256.
--
--   local key, text = keys.create(who, { name = "ci", scopes = set, environment = nil, expires_us = nil })
--   keys.list(include_revoked)      keys.revoke(who, id_or_name)
--
-- Kinds are "secret", and for SDKs later "publishable" and "sdk". Names are unique among an app's keys that are not revoked.

local audit = require "mw.access.audit"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local scopes = require "mw.access.scopes"
local secret = require "mw.access.secret"
local store = require "mw.core.store"

local M = {}

--- Keys that can be valid at a time; each worker knows all of them.
M.max = 10000

local COLUMNS = "id, app, environment, kind, name, scopes, prefix, created_us, created_by, last_used_us, expires_us, revoked_us"
local UUID = "^" .. ("%x"):rep(8) .. "%-" .. (("%x"):rep(4) .. "%-"):rep(3) .. ("%x"):rep(12) .. "$"

local function read(sql, params) return (errors.check(store.query("engine", sql, params))) end

local function note_of(who, action, key)
  return { app = key.app, actor = who.actor, action = action, subject = "key " .. key.name }
end

local function insert(tx, key, hash)
  local rows, err = tx:query("SELECT count(*) AS n FROM {{schema}}.keys WHERE revoked_us IS NULL")
  if not rows then return nil, err end
  if tonumber(rows[1].n) >= M.max then
    return nil, errors.new("limit", string.format("there are %d keys already; revoke some first", M.max), { status = 409 })
  end
  rows, err = tx:query("INSERT INTO {{schema}}.keys (id, app, environment, kind, name, scopes, prefix, hash, created_us, created_by, expires_us)"
    .. " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    { { id = key.id }, key.app, key.environment, key.kind, key.name, scopes.text(key.scopes), key.prefix, hash, key.created_us, key.created_by,
      key.expires_us })
  if rows then return true end
  if err.code ~= "constraint" then return nil, err end
  return nil, errors.new("exists", string.format("there is a key named %q already", key.name), { hint = "take another name, or revoke that key first" })
end

--- Makes a key with no scope beyond its maker's. Returns it and its secret; raises what is wrong.
function M.create(who, wish)
  local beyond = scopes.beyond(who.scopes, wish.scopes)
  if beyond then
    errors.throw("denied", string.format("a key cannot be given the scope %q by one that lacks it", beyond), { status = 403 })
  end
  local text = secret.new "sk"
  local key = {
    id = runtime.uuid(), app = "default", environment = wish.environment, kind = "secret", name = wish.name, scopes = wish.scopes,
    prefix = secret.prefix(text), created_us = runtime.now_us(), created_by = who.actor, expires_us = wish.expires_us,
  }
  local note = note_of(who, "key.created", key)
  note.after = { id = key.id, name = key.name, scopes = scopes.text(key.scopes), environment = key.environment, expires_us = key.expires_us }
  audit.change(note, function(tx) return insert(tx, key, secret.hash(text)) end)
  return key, text
end

local function from_row(row)
  row.scopes = scopes.stored(row.scopes)
  return row
end

--- All keys, newest first.
function M.list(include_revoked)
  local rows = read("SELECT " .. COLUMNS .. " FROM {{schema}}.keys" .. (include_revoked and "" or " WHERE revoked_us IS NULL") .. " ORDER BY id DESC")
  for _, row in ipairs(rows) do from_row(row) end
  return rows
end

local function find(id_or_name)
  local by_id = id_or_name:find(UUID) ~= nil
  local rows = read("SELECT " .. COLUMNS .. " FROM {{schema}}.keys WHERE " .. (by_id and "id = $1" or "name = $1") .. " AND revoked_us IS NULL",
    { by_id and { id = id_or_name:lower() } or id_or_name })
  if rows[1] then return from_row(rows[1]) end
  errors.throw("not_found", string.format("there is no key %q", id_or_name:sub(1, 100)), { hint = "`moonwatch keys list` shows them" })
end

--- Revokes a key by its id or name; it opens nothing from now on. Returns it.
function M.revoke(who, id_or_name)
  local key = find(id_or_name)
  local note = note_of(who, "key.revoked", key)
  note.before = { id = key.id, name = key.name, scopes = scopes.text(key.scopes) }
  key.revoked_us = runtime.now_us()
  audit.change(note, function(tx)
    local rows, err = tx:query("UPDATE {{schema}}.keys SET revoked_us = $1 WHERE id = $2 AND revoked_us IS NULL", { key.revoked_us, { id = key.id } })
    if not rows then return nil, err end
    if tonumber(rows.affected) ~= 1 then return nil, errors.new("conflict", "somebody else revoked this key meanwhile") end
    return true
  end)
  return key
end

return M
