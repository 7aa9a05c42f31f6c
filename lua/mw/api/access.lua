-- SPDX-License-Identifier: MIT

--- Who may use the built-in surfaces, and how far. Plugin routes are never guarded by this.
--
-- Three things let somebody in: the configured token and keys (lua/mw/access/keys.lua), as `Authorization: Bearer …`, and the cookie of a
-- session (lua/mw/access/sessions.lua). The token and sessions have every scope, a key has its own. A key that is given is always checked,
-- also where nothing is needed.
--
-- Without a token the server is for this machine only, and a web page must not be able to reach it through the visitor's browser:
--   * the peer is a loopback address, or came through a Unix socket; when it is a proxy of http.trusted_proxies, the client that it names
--     is one as well, and any other proxy (one that leaves a header) is not let through,
--   * `Host` is a loopback name (localhost, 127.0.0.1, [::1]), else a foreign name was pointed at us,
--   * `Origin`, when a browser sends one, is a loopback name too,
--   * a request that changes something has a content type that no HTML form can send, such as application/json.
-- A refusal says which rule, and what to do about it.
--
-- Kinds: "open" (anyone), "status" (anyone; details only for who could use "key"), "key", "page" (a session, or a key; a browser may send the
-- token as the password of HTTP Basic), "action" (a session alone). The control socket needs nothing: its file's mode guards it.
--
-- A session counts only with the header `x-moonwatch-csrf` that belongs to it (or a form field of that name on "action"), except for pages
-- that the browser itself opens: plugin routes share the origin, and their pages must not act as whoever looks at them.

local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local known = require "mw.access.known"
local runtime = require "mw._runtime"

local scopes = require "mw.access.scopes"
local secret = require "mw.access.secret"
local sessions = require "mw.access.sessions"

local M = {}

local SAFE = { GET = true, HEAD = true, OPTIONS = true }
local FORM_TYPES = { ["application/x-www-form-urlencoded"] = true, ["multipart/form-data"] = true, ["text/plain"] = true }
-- One type and nothing else: "text/plain,application/json" could be read as either.
local MEDIA_TYPE = "^[%w!#$&^_.+-]+/[%w!#$&^_.+-]+$"
local JSON = "application/json"
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
  if value == JSON then return value end
  local kind = value and value:match("^%s*([^;%s]+)")
  return kind and kind:lower()
end

function M.is_loopback_address(ip)
  if not ip then return false end
  if ip == "unix" or ip == "127.0.0.1" then return true end
  ip = ip:gsub("^::ffff:", "")
  return ip == "::1" or ip:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

-- The name in "name:port" or "[::1]:port".
local function name_of(authority)
  return authority:match("^%[([^%]]+)%]$") or authority:match("^%[([^%]]+)%]:%d*$") or authority:match("^([^:]*)$")
    or authority:match("^([^:]*):%d*$") or ""
end

-- Answers are kept for the few names that a server is called by; a client that makes some up does not fill this.
local loopback_names, names_count = {}, 0

local function is_loopback(authority)
  local name = name_of(authority):lower():gsub("%.$", "")
  return name == "localhost" or name == "::1" or name:find("%.localhost$") ~= nil or name:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

local function denied(message, hint) return errors.new("denied", message, { status = 403, hint = hint }) end

function M.is_loopback_name(authority)
  if loopback_names[authority] then return true end
  local answer = is_loopback(authority)
  if answer and names_count < 64 then
    loopback_names[authority], names_count = true, names_count + 1
  end
  return answer
end

-- What proxies add. Without a token one that nobody named here must not make the world look local.
local PROXY_HEADERS = { "x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "via" }

local function check_proxy(req)
  if req.via == "unknown" then
    return denied("without a token only this machine may use the API, and the proxy does not say whom the request is from",
      "let the proxy set the header that http.forwarded names, or " .. TOKEN_FIX)
  end
  if req.via then return nil end
  for _, name in ipairs(PROXY_HEADERS) do
    if header(req, name) then
      return denied("without a token only this machine may use the API, and the request came through a proxy (it has the header " .. name .. ")",
        "list the proxy in http.trusted_proxies, or " .. TOKEN_FIX)
    end
  end
end

local function check_peer(req)
  for _, address in ipairs { req.peer or req.ip, req.ip } do
    if not M.is_loopback_address(address) then
      return denied("without a token only this machine may use the API, and the request came from " .. address, TOKEN_FIX)
    end
  end
  return check_proxy(req)
end

local function check_host_name(host)
  if not host or host == "" or M.is_loopback_name(host) then return nil end
  return denied(string.format("without a token the Host must be a loopback name such as localhost or 127.0.0.1, got %q", host:sub(1, 100)),
    TOKEN_FIX)
end

-- Behind a proxy: what it was asked for, and what it asked for.
local function check_host(req) return check_host_name(header(req, "host")) or check_host_name(req.host) end

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
  if kind == JSON or kind and kind:find(MEDIA_TYPE) and not FORM_TYPES[kind] then return nil end
  return errors.new("invalid", string.format(
    "without a token a request that changes something needs a content type that no HTML form can send, got %s", kind or "none"),
    { status = 415, hint = "add the header content-type: application/json, as in curl -H 'content-type: application/json' …" })
end

local function check_local(req) return check_peer(req) or check_host(req) or check_origin(req) or check_content_type(req) end

-- The token or key a request carries, by Bearer or, for pages, as the password of Basic.
local function credential_of(req, kind)
  local value = header(req, "authorization")
  if not value then return nil end
  local scheme, rest = value:match("^(%a+) +(.-)%s*$")
  if scheme == "Bearer" then return rest end -- as FlowWatch: exactly so written
  if scheme == "Basic" and kind == "page" then
    local plain = crypto.base64_decode(rest)
    return plain and plain:match("^[^:]*:(.*)$")
  end
end

local ALL = { ["*"] = true }
local CONTROL, LOCAL, TOKEN = { actor = "socket", scopes = ALL }, { actor = "local", scopes = ALL }, { actor = "token", scopes = ALL }

local function unauthorized(message, hint) return nil, errors.new("unauthorized", message, { status = 401, hint = hint }) end

-- ---- keys ----

local KEY_HINT = "`moonwatch keys list` shows the keys, `moonwatch keys create NAME` makes one"

local function who_of_key(text)
  if not secret.check("sk", text) then
    return unauthorized("the key is mistyped or cut short: its checksum does not match", "copy it again; a key has 55 characters and begins with mw_sk_")
  end
  local row, err = known.find("keys", text)
  if err then return nil, err end
  if not row then return unauthorized("the key is not valid: it was revoked, has expired, or belongs to another server", KEY_HINT) end
  return { actor = "key:" .. row.name, scopes = row.scopes, key = row }
end

-- ---- sessions ----

-- With the prefix no page of plain http and no neighbour below another path can plant the cookie.
local PLAIN_COOKIE, SECURE_COOKIE = "mw_session", "__Secure-mw_session"

--- Whether the client speaks TLS, to us or to a trusted proxy.
function M.is_tls(req) return req.scheme == "https" end

--- The name of the session's cookie for this connection.
function M.cookie_name(req) return M.is_tls(req) and SECURE_COOKIE or PLAIN_COOKIE end

-- What the address line, a link or a bookmark opens. A script's request is none; browsers that tell say so.
local function is_navigation(req)
  local dest = header(req, "sec-fetch-dest")
  return SAFE[req.method] and (dest == nil or dest == "document")
end

local function csrf_given(req, kind)
  local given = header(req, "x-moonwatch-csrf")
  if given or kind ~= "action" or M.content_type(req) ~= "application/x-www-form-urlencoded" then return given end
  local form = errors.try(req.form, req)
  return form and form["x-moonwatch-csrf"]
end

-- The session of a request; nil, or nil and why it does not count.
local function who_of_session(req, kind)
  if not header(req, "cookie") then return nil end
  local text = req.cookies[M.cookie_name(req)]
  if not text or not secret.check("ss", text) then return nil end
  local row, err = known.find("sessions", text)
  if not row then return nil, err end
  local csrf = sessions.csrf_of(text)
  if not is_navigation(req) and not crypto.equal(csrf, tostring(csrf_given(req, kind) or "")) then
    return nil, errors.new("denied", "a request of a session needs its x-moonwatch-csrf header",
      { status = 403, hint = "send the value that the page /ops has in <meta name=\"moonwatch-csrf\">" })
  end
  return { actor = "session:" .. row.id, scopes = ALL, session = row, csrf = csrf }
end

-- ---- together ----

local function nobody(kind)
  if kind == "page" or kind == "action" then return unauthorized("this needs a session", "run `moonwatch login` and open the link it prints") end
  return unauthorized("this needs the server's token or a key", "send it as Authorization: Bearer TOKEN; `moonwatch keys create NAME` makes a key")
end

-- Who is there without having shown anything: nobody where a token is set, whoever is at this machine where none is.
local function who_without(req, kind, is_set)
  if is_set then return nobody(kind) end
  local refusal = check_local(req)
  if refusal then return nil, refusal end
  if kind == "key" then return LOCAL end
  return nobody(kind)
end

local function identify(req, kind)
  local given = kind ~= "action" and credential_of(req, kind) or nil
  local matches, is_set = runtime.token_matches(given or "")
  if given then
    if matches then return TOKEN end
    if secret.kind(given) == "sk" then return who_of_key(given) end
    if is_set then
      return unauthorized("the token is not the server's", "send the server's token or a key as Authorization: Bearer TOKEN")
    end
  end
  local who, err = who_of_session(req, kind)
  if who or err then return who, err end
  return who_without(req, kind, is_set)
end

local function check_scope(who, scope)
  if scopes.allow(who.scopes, scope) then return nil end
  return errors.new("denied", string.format("the key %q lacks the scope %s", who.key.name, scope), {
    status = 403, hint = string.format("make one that has it: moonwatch keys create NAME --scope %s", scope == "*" and "'*'" or scope),
  })
end

--- Who the request is from: { actor = "token" | "key:NAME" | "session:ID" | "local" | "socket", scopes, key, session, csrf }; nil and the
--- refusal when it may not use a surface of that kind and scope. An open surface asks nothing: nil.
function M.check(req, kind, scope, listener)
  if listener == "control" then return CONTROL end
  if kind == "open" or kind == "status" then return nil end
  local who, refusal = identify(req, kind)
  if not who then return nil, refusal end
  refusal = check_scope(who, scope)
  if refusal then return nil, refusal end
  return who
end

--- Whether details may be shown on a "status" surface.
function M.may_see_details(req, listener) return M.check(req, "key", "status:read", listener) ~= nil end

return M
