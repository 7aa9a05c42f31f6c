-- SPDX-License-Identifier: MIT

--- Keys of this server's own: 256 random bits, made when one is first asked for, and the same on every node that shares the database. What
--- is proven with one is proven by whoever can read the database, and by nobody else.
--
--   local key = server_key.get("callbacks")     -- 64 hex digits; the first time in a worker it reads the database, and raises when that fails

local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local store = require "mw.core.store"

local M = {}

local BYTES = 32
local known = {}

local function query(sql, params) return (errors.check(store.query("engine", sql, params))) end

local function read(name) return query("SELECT secret FROM {{schema}}.server_keys WHERE name = $1", { name })[1] end

-- Of several at once the first one's stays.
local function make(name)
  query("INSERT INTO {{schema}}.server_keys (name, secret, created_us) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    { name, crypto.hex_encode(crypto.random(BYTES)), math.floor(runtime.now_us()) })
  return read(name)
end

function M.get(name)
  if not known[name] then known[name] = (read(name) or make(name)).secret end
  return known[name]
end

return M
