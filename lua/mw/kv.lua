-- SPDX-License-Identifier: MIT

--- mw.kv: small JSON values shared by all workers of this process, with a time to live. Bounded: when full, the oldest go first. Gone when the
--- process ends; what must survive belongs in the database.
--
--   mw.kv.set("k", {a = 1}, {ttl = "5m"})    mw.kv.get("k")    mw.kv.delete("k")
--   mw.kv.add("k", value, {ttl = 60})         -- only if absent; returns whether it was
--   mw.kv.incr("hits", 1, {ttl = 60})         -- integers; returns the sum; the expiry is that of the first

local core = require "mw.core.runtime"
local errors = require "mw.errors"
local json = require "mw.core.json"
local validate = require "mw.validate"

local M = {}

local options = { ttl = "duration" }

local function ttl(what, opts)
  opts = validate.options(what, opts, options)
  return opts.ttl and validate.duration(what .. ": ttl", opts.ttl) or 0
end

-- Integers up to here are exact in Lua.
local MAX_EXACT = 2 ^ 53

local function encode(value)
  local text, err = json.encode(value)
  if not text then errors.raise(err) end
  return text
end

--- The value, or nil when it is absent or over.
---@param key string
---@return any
function M.get(key)
  validate.arg("mw.kv.get", 1, "key", key, "string")
  local text = core.kv_get(key)
  return text and json.decode(text)
end

--- Sets a value, for `ttl` (a duration; without it until room is needed).
---@param key string
---@param value any
---@param opts? { ttl?: mw.Duration }
function M.set(key, value, opts)
  validate.arg("mw.kv.set", 1, "key", key, "string")
  if value == nil then errors.throw("invalid", "mw.kv.set: the value is nil; use mw.kv.delete(key) to remove one") end
  errors.check(core.kv_set(key, encode(value), ttl("mw.kv.set", opts)))
end

--- Sets a value unless there is one; returns whether it did.
---@param key string
---@param value any
---@param opts? { ttl?: mw.Duration }
---@return boolean
function M.add(key, value, opts)
  validate.arg("mw.kv.add", 1, "key", key, "string")
  if value == nil then errors.throw("invalid", "mw.kv.add: the value is nil") end
  return (errors.check(core.kv_set(key, encode(value), ttl("mw.kv.add", opts), true)))
end

--- Removes a value; returns whether there was one.
---@param key string
---@return boolean
function M.delete(key)
  validate.arg("mw.kv.delete", 1, "key", key, "string")
  return core.kv_remove(key)
end

--- Adds to an integer (0 when absent) and returns the sum. The expiry is that of the first call.
---@param key string
---@param by? integer default 1
---@param opts? { ttl?: mw.Duration }
---@return integer
function M.incr(key, by, opts)
  validate.arg("mw.kv.incr", 1, "key", key, "string")
  by = by == nil and 1 or validate.arg("mw.kv.incr", 2, "by", by, "integer")
  if by > MAX_EXACT or by < -MAX_EXACT then errors.throw("invalid", "mw.kv.incr: by is beyond 2^53, where numbers are not exact") end
  return (errors.check(core.kv_add(key, by, ttl("mw.kv.incr", opts))))
end

return M
