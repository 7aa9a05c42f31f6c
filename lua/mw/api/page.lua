-- SPDX-License-Identifier: MIT

--- The plain pages below /ops: no script, nothing from elsewhere, never in a frame, never kept.
--
--   page.send(res, "Title", "<p>…</p>")      -- the body is HTML already; page.escape(value) makes text fit for it

local runtime = require "mw._runtime"

local M = {}

local escapes = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

function M.escape(value) return (tostring(value == nil and "" or value):gsub("[&<>\"']", escapes)) end

local STYLE = [[body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
pre{background:#f6f6f6;padding:.8rem;overflow:auto}h2{margin-top:2rem}.bad{color:#a00}form{float:right}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#333}pre{background:#222}a{color:#8bf}.bad{color:#f88}}]]

-- No window that opened ours may reach into it: pages of plugins have the same origin.
local HEADERS = {
  ["content-security-policy"] = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  ["x-content-type-options"] = "nosniff", ["cache-control"] = "no-store", ["referrer-policy"] = "no-referrer",
  ["cross-origin-opener-policy"] = "same-origin",
}

function M.send(res, title, body, head)
  for name, value in pairs(HEADERS) do res:header(name, value) end
  res:html(table.concat {
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>", head or "",
    "<title>", M.escape(title), "</title>\n<style>", STYLE, "</style>\n<h1>", M.escape(title), "</h1>\n", body, "</html>\n",
  })
end

--- Answers a refusal as a page (surface.lua, on_refusal). With a token set a browser may ask for it as a password.
function M.refuse(res, refusal)
  if refusal.status ~= 401 and refusal.status ~= 403 then return false end
  local _, has_token = runtime.token_matches ""
  if refusal.status == 401 then
    res:header("www-authenticate", has_token and 'Basic realm="moonwatch, the token is the password"' or 'Bearer realm="moonwatch"')
  end
  M.send(res:status(refusal.status), refusal.status == 401 and "Log in" or "Refused",
    "<p>" .. M.escape(refusal.message) .. ".</p><p>" .. M.escape(refusal.hint) .. "</p>")
  return true
end

return M
