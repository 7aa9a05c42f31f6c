-- SPDX-License-Identifier: MIT

--- Who may use the built-in surfaces. Plugin routes are never guarded by this.
--
-- With a token configured, "key" surfaces want `Authorization: Bearer TOKEN` (compared in constant time).
--
-- Without one the server is for this machine only, and a web page must not be able to reach it through the visitor's browser:
--   * the peer is a loopback address, or came through a Unix socket,
--   * `Host` is a loopback name (localhost, 127.0.0.1, [::1]), else a foreign name was pointed at us,
--   * `Origin`, when a browser sends one, is a loopback name too,
--   * a request that changes something has a content type that no HTML form can send, such as application/json.
-- A refusal says which rule, and what to do about it.
--
-- Kinds: "open" (anyone), "status" (anyone; details only for who could use "key"), "key", "page" (as "key"; a browser may send the token
-- as the password of HTTP Basic). The control socket needs nothing: its file's mode guards it.

local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local runtime = require "mw._runtime"

local M = {}

local SAFE = { GET = true, HEAD = true, OPTIONS = true }
local FORM_TYPES = { ["application/x-www-form-urlencoded"] = true, ["multipart/form-data"] = true, ["text/plain"] = true }
-- One type and nothing else: "text/plain,application/json" could be read as either.
local MEDIA_TYPE = "^[%w!#$&^_.+-]+/[%w!#$&^_.+-]+$"
local TOKEN_FIX = "set a token: moonwatch serve --token TOKEN, and send it as Authorization: Bearer TOKEN"

local function header(req, name)
  local value = req.headers[name]
  if type(value) == "table" then value = value[1] end
  return value
end
M.header = header

--- The media type of a request, without parameters and in small letters; nil when it has none.
function M.content_type(req)
  local value = header(req, "content-type")
  local kind = value and value:match("^%s*([^;%s]+)")
  return kind and kind:lower()
end

function M.is_loopback_address(ip)
  if not ip then return false end
  if ip == "unix" then return true end
  ip = ip:gsub("^::ffff:", "")
  return ip == "::1" or ip:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

-- The name in "name:port" or "[::1]:port".
local function name_of(authority)
  return authority:match("^%[([^%]]+)%]$") or authority:match("^%[([^%]]+)%]:%d*$") or authority:match("^([^:]*)$")
    or authority:match("^([^:]*):%d*$") or ""
end

function M.is_loopback_name(authority)
  local name = name_of(authority):lower():gsub("%.$", "")
  return name == "localhost" or name == "::1" or name:find("%.localhost$") ~= nil or name:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

local function denied(message, hint) return errors.new("denied", message, { status = 403, hint = hint }) end

local function check_peer(req)
  if M.is_loopback_address(req.ip) then return nil end
  return denied("without a token only this machine may use the API, and the request came from " .. tostring(req.ip), TOKEN_FIX)
end

local function check_host(req)
  local host = header(req, "host")
  if not host or host == "" or M.is_loopback_name(host) then return nil end
  return denied(string.format("without a token the Host must be a loopback name such as localhost or 127.0.0.1, got %q", host:sub(1, 100)),
    TOKEN_FIX)
end

local function check_origin(req)
  local origin = header(req, "origin")
  if not origin then return nil end
  local authority = origin:match("^https?://([^/]+)$")
  if authority and M.is_loopback_name(authority) then return nil end
  return denied(string.format("without a token pages of other origins may not use the API, and this one is %q", origin:sub(1, 100)), TOKEN_FIX)
end

local function check_content_type(req)
  if SAFE[req.method] then return nil end
  local kind = M.content_type(req)
  if kind and kind:find(MEDIA_TYPE) and not FORM_TYPES[kind] then return nil end
  return errors.new("invalid", string.format(
    "without a token a request that changes something needs a content type that no HTML form can send, got %s", kind or "none"),
    { status = 415, hint = "add the header content-type: application/json, as in curl -H 'content-type: application/json' …" })
end

local function check_local(req) return check_peer(req) or check_host(req) or check_origin(req) or check_content_type(req) end

-- The token a request carries, by Bearer or, for pages, as the password of Basic.
local function token_of(req, kind)
  local value = header(req, "authorization")
  if not value then return nil end
  local scheme, rest = value:match("^(%a+) +(.-)%s*$")
  if scheme == "Bearer" then return rest end -- as FlowWatch: exactly so written
  if scheme == "Basic" and kind == "page" then
    local plain = crypto.base64_decode(rest)
    return plain and plain:match("^[^:]*:(.*)$")
  end
end

local function check_key(req, kind)
  local token = token_of(req, kind)
  local matches, is_set = runtime.token_matches(token or "")
  if not is_set then return check_local(req) end
  if token and matches then return nil end
  return errors.new("unauthorized", token and "the token is not the server's" or "this needs the server's token",
    { status = 401, hint = "send the server's token as Authorization: Bearer TOKEN" })
end

--- Why the request may not use a surface of that kind; nil when it may.
function M.check(req, kind, listener)
  if listener == "control" or kind == "open" or kind == "status" then return nil end
  return check_key(req, kind)
end

--- Whether details may be shown on a "status" surface.
function M.may_see_details(req, listener) return listener == "control" or check_key(req, "key") == nil end

return M
