-- SPDX-License-Identifier: MIT

--- The listener that sends clients of plain HTTP to the one that speaks TLS (listen_redirect): 308 to the same host and target, with
--- the port of `listen_app`, or of `listen` when only that one begins with https://.

local core = require "mw.core.http"
local problem = require "mw.http.problem"
local runtime = require "mw._runtime"

local M = {}

-- ":8443", or "" for the port that https has anyway.
local function port_suffix()
  for _, name in ipairs { "listen_app", "listen", "listen_api", "listen_ops" } do
    local port = (runtime.config(name) or ""):match("^https://.*:(%d+)/?$")
    if port then return port == "443" and "" or ":" .. port end
  end
  return ""
end

local function name_of(host) return host:match("^(%[[^%]]+%])") or host:match("^([^:]+)") end

--- The one route.
function M.routes()
  local suffix = port_suffix()
  local function send_on(req, res)
    local name = name_of(req.host)
    if not name then return problem.send(req, res, 400, "the request names no Host to go to", { hint = "begin the address with https://" }) end
    res:status(308):header("location", "https://" .. name .. suffix .. core.target(res)):send()
  end
  return { {
    methods = { "*" }, pattern = "/*rest", opts = {}, handler = send_on, what = "redirect", where = "built in", plugin = "moonwatch",
  } }
end

return M
