-- SPDX-License-Identifier: MIT

--- Keys over HTTP: GET and POST /api/v1/keys, DELETE /api/v1/keys/{id} (an id or a name). POST answers the secret, once.

local errors = require "mw.errors"
local json = require "mw.core.json"
local keys = require "mw.access.keys"
local runtime = require "mw._runtime"
local scopes = require "mw.access.scopes"
local time = require("mw.api.steps").time

local M = {}

local NULL = json.null
local LONGEST_S = 3650 * 86400
local NAME = "^%w[%w%._:@%-]*$"

local function or_null(value)
  if value == nil then return NULL end
  return value
end

local function shown(key)
  local list = json.array {}
  for name in pairs(key.scopes) do list[#list + 1] = name end
  table.sort(list)
  return {
    id = key.id, name = key.name, kind = key.kind, app = key.app, environment = or_null(key.environment), scopes = list, prefix = key.prefix,
    created_at = time(key.created_us), created_by = or_null(key.created_by), last_used_at = time(key.last_used_us),
    expires_at = time(key.expires_us), revoked_at = time(key.revoked_us),
  }
end

local function list(_, res, args)
  local items = json.array {}
  for i, key in ipairs(keys.list(args.query.revoked == "true")) do items[i] = shown(key) end
  res:json { items = items, next = NULL, total = #items }
end

local function check_name(name)
  if name:find(NAME) and not name:find("^%x+%-%x+%-%x+%-%x+%-%x+$") then return name end
  errors.throw("invalid", string.format("the name %q must begin with a letter or digit and have only letters, digits and . _ : @ - after it, and be no id",
    name))
end

local function expiry_of(text)
  if text == nil then return nil end
  local seconds, err = require("mw.core.runtime").duration(text)
  if not seconds then errors.throw("invalid", "expires_in: " .. err.message) end
  if seconds < 1 or seconds > LONGEST_S then errors.throw("invalid", "expires_in must be from 1s to 3650d; leave it away for a key that does not expire") end
  return runtime.now_us() + seconds * 1e6
end

local function create(_, res, args, _, who)
  local body = args.body
  local set, problem = scopes.parse(table.concat(body.scopes, " "))
  if not set then errors.throw("invalid", problem) end
  local key, text = keys.create(who, {
    name = check_name(body.name), scopes = set, environment = body.environment, expires_us = expiry_of(body.expires_in),
  })
  local answer = shown(key)
  answer.key = text
  res:status(201):header("location", "/api/v1/keys/" .. key.id):header("cache-control", "no-store"):json(answer)
end

local function revoke(req, res, _, _, who) res:json(shown(keys.revoke(who, req.params.id))) end

-- ---- documents ----

local text, moment = { type = "string" }, { type = { "string", "null" }, format = "date-time" }

local function key_schema(more)
  local properties = {
    id = { type = "string", format = "uuid" }, name = text, kind = { type = "string", enum = { "secret", "publishable", "sdk" } }, app = text,
    environment = { type = { "string", "null" } }, scopes = { type = "array", items = text }, prefix = text, created_at = moment,
    created_by = text, last_used_at = moment, expires_at = moment, revoked_at = moment,
  }
  for name, schema in pairs(more or {}) do properties[name] = schema end
  return { type = "object", properties = properties }
end

local list_doc = {
  summary = "List keys, newest first", tag = "access",
  query = { { name = "revoked", schema = { type = "string", enum = { "true", "false" } }, description = "Also those that were revoked" } },
  responses = { ["200"] = { "All of them, without their secrets", {
    type = "object",
    properties = { items = { type = "array", items = key_schema() }, next = { type = { "string", "null" } }, total = { type = "integer" } },
  } } },
}

local create_doc = {
  summary = "Make a key", tag = "access", description = "The answer is the only place where its secret is shown.",
  body = {
    type = "object", required = { "name", "scopes" },
    properties = {
      name = { type = "string", minLength = 1, maxLength = 100 }, scopes = { type = "array", items = { type = "string", minLength = 1 } },
      environment = { type = "string", minLength = 1, maxLength = 100, description = "A mark, shown in lists" },
      expires_in = { type = "string", minLength = 1, description = "A duration such as \"90d\"; without it the key does not expire" },
    },
  },
  responses = {
    ["201"] = { "The key", key_schema { key = text } }, ["400"] = { "What is wrong", "problem" },
    ["403"] = { "A scope that the maker lacks", "problem" }, ["409"] = { "The name is taken", "problem" },
  },
}

local revoke_doc = {
  summary = "Revoke a key, by id or name", tag = "access",
  responses = { ["200"] = { "The key as it was", key_schema() }, ["404"] = { "There is none", "problem" } },
}

M.endpoints = {
  { method = "GET", pattern = "/api/v1/keys", access = "key", scope = "keys", handler = list, doc = list_doc },
  { method = "POST", pattern = "/api/v1/keys", access = "key", scope = "keys", handler = create, doc = create_doc },
  { method = "DELETE", pattern = "/api/v1/keys/:id", access = "key", scope = "keys", handler = revoke, doc = revoke_doc },
}

return M
