-- SPDX-License-Identifier: MIT

--- Logging in to the dashboard and out: POST /api/v1/login-links, DELETE /api/v1/sessions, GET /ops/login?code=…, POST /ops/logout.
--
-- The cookie is HttpOnly, SameSite=Lax, Secure over TLS, and is sent to /ops and /api/v1 only, so that plugins never see it.

local access = require "mw.api.access"
local errors = require "mw.errors"
local json = require "mw.core.json"
local page = require "mw.api.page"
local runtime = require "mw._runtime"
local sessions = require "mw.access.sessions"
local time = require("mw.api.steps").time

local M = {}

local PATHS = { "/ops", "/api/v1" }
-- A second and worker: what one address may try, so that it does not keep others out, and all of them together.
local MAX_MISSES, MAX_ALL_MISSES = 20, 200

-- ---- links ----

--- Makes a link: its path, where the dashboard is when that is known, and when the link ends.
function M.offer(who)
  local code, expires_us = sessions.new_link(who)
  local path = "/ops/login?code=" .. code
  local base = runtime.status().dashboard or ""
  return path, base ~= "" and base .. path or nil, expires_us
end

local function new_link(_, res, _, _, who)
  local path, url, expires_us = M.offer(who)
  res:status(201):header("cache-control", "no-store"):json { path = path, url = url or json.null, expires_at = time(expires_us) }
end

--- At a start where nobody has ever logged in: shows a link to whoever watches the terminal. A log that is collected gets none.
function M.welcome()
  local base = runtime.status().dashboard
  if base == nil or base == "" or runtime.access_version() ~= 0 or not sessions.is_first() then return end
  if not runtime.say "" then return runtime.log("info", "access", "nobody has logged in to the dashboard yet; `moonwatch login` prints a link", { dashboard = base .. "/ops" }) end
  local _, url = M.offer { actor = "first start" }
  runtime.say("\n  Dashboard: " .. url .. "\n  (opens once, within 10 minutes; `moonwatch login` prints another)\n\n")
end

-- ---- sessions ----

local function set_cookies(req, res, value, max_age)
  local name = access.cookie_name(req)
  for _, path in ipairs(PATHS) do
    res:cookie(name, value, { path = path, max_age = max_age, same_site = "lax", secure = access.is_tls(req) })
  end
end

local second, all_misses, misses = 0, 0, {} -- the last by address

local function note_miss(req)
  local now = math.floor(runtime.mono())
  if now ~= second then second, all_misses, misses = now, 0, {} end
  all_misses, misses[req.ip] = all_misses + 1, (misses[req.ip] or 0) + 1
end

local function check_misses(req)
  if second ~= math.floor(runtime.mono()) then return end
  if all_misses >= MAX_ALL_MISSES or (misses[req.ip] or 0) >= MAX_MISSES then
    errors.throw("rate_limited", "too many wrong login links were tried; wait a second", { status = 429 })
  end
end

local function login(req, res)
  if req.method ~= "GET" then return res:status(204):text "" end -- a look is no visit
  check_misses(req)
  local text = sessions.begin(tostring(req.query.code or ""))
  if not text then
    note_miss(req)
    return page.send(res:status(403), "The link is not valid", "<p>It was used already, is older than 10 minutes, or was cut short.</p>"
      .. "<p>Run <code>moonwatch login</code> where the server runs, and open the link it prints.</p>")
  end
  set_cookies(req, res, text, sessions.longest_s)
  res:header("cache-control", "no-store"):header("referrer-policy", "no-referrer"):redirect("/ops", 303)
end

local function logout(req, res, _, _, who)
  sessions.finish(who, who.session.id)
  set_cookies(req, res, "", 0)
  page.send(res, "Logged out", "<p>Run <code>moonwatch login</code> to log in again.</p>")
end

local function end_all(_, res, _, _, who) res:json { ended = sessions.finish_all(who) } end

-- ---- documents ----

local link_doc = {
  summary = "Make a one-time link that logs in to the dashboard", tag = "access",
  responses = { ["201"] = { "It opens once, within ten minutes", {
    type = "object",
    properties = { path = { type = "string" }, url = { type = { "string", "null" } }, expires_at = { type = "string", format = "date-time" } },
  } } },
}

local end_all_doc = {
  summary = "End every session and login link", tag = "access",
  responses = { ["200"] = { "How many sessions ended", { type = "object", properties = { ended = { type = "integer" } } } } },
}

M.endpoints = {
  { method = "POST", pattern = "/api/v1/login-links", access = "key", scope = "*", handler = new_link, doc = link_doc },
  { method = "DELETE", pattern = "/api/v1/sessions", access = "key", scope = "*", handler = end_all, doc = end_all_doc },
  { method = "GET", pattern = "/ops/login", access = "open", handler = login, opts = { secret_query = true } },
  { method = "POST", pattern = "/ops/logout", access = "action", scope = "any", handler = logout, on_refusal = page.refuse },
}

return M
