-- SPDX-License-Identifier: MIT

--- /ops: one plain page with plugins, workflows, routes, load errors and links, until there is a dashboard. No script.

local page = require "mw.api.page"
local registry = require "mw._registry"
local runtime = require "mw._runtime"

local M = {}

local escape = page.escape

local LINKS = [[<h2>Links</h2><ul><li><a href="/api/v1/executions">executions</a></li><li><a href="/api/v1/workflows">workflows</a></li>
<li><a href="/api/v1/plugins">plugins</a></li><li><a href="/api/v1/openapi.json">openapi.json</a></li><li><a href="/readyz">readyz</a></li></ul>]]

local function table_of(heads, rows)
  if #rows == 0 then return "<p>None.</p>" end
  local out = { "<table><tr>" }
  for _, head in ipairs(heads) do out[#out + 1] = "<th>" .. escape(head) .. "</th>" end
  for _, row in ipairs(rows) do
    out[#out + 1] = "<tr>"
    for i = 1, #heads do out[#out + 1] = "<td>" .. escape(row[i]) .. "</td>" end
  end
  out[#out + 1] = "</table>"
  return table.concat(out, "\n")
end

local function place(problem) return (problem.file or "") .. (problem.line and ":" .. problem.line or "") end

local function problem_html(problem)
  local out = { string.format('<p class="bad"><b>%s</b> %s</p>', escape(place(problem)), escape(problem.message)) }
  if problem.excerpt then out[#out + 1] = "<pre>" .. escape(problem.excerpt) .. "</pre>" end
  if problem.hint then out[#out + 1] = "<p>" .. escape(problem.hint) .. "</p>" end
  return table.concat(out)
end

local function problems_html(report)
  if #report.errors == 0 then return "" end
  local out = { "<h2>Load errors</h2><p>The version before keeps serving.</p>" }
  for _, problem in ipairs(report.errors) do out[#out + 1] = problem_html(problem) end
  return table.concat(out)
end

local function plugin_rows(report)
  local rows = {}
  for i, plugin in ipairs(report.plugins) do
    local kinds = {}
    for _, declaration in ipairs(plugin.declarations or {}) do kinds[#kinds + 1] = declaration.kind .. " " .. declaration.name end
    rows[i] = { plugin.name, plugin.file, table.concat(kinds, ", ") }
  end
  return rows
end

local function route_rows()
  local rows = {}
  for i, route in ipairs(registry.routes) do rows[i] = { route.what, route.plugin, route.where } end
  return rows
end

local function workflow_rows()
  local rows = {}
  for _, def in pairs(registry.workflows) do
    rows[#rows + 1] = { def.name, def.form, def.form == "list" and #def.steps or "", def.plugin, def.where }
  end
  table.sort(rows, function(a, b) return a[1] < b[1] end)
  return rows
end

local function logout_form(who)
  if not who.session then return "" end
  return '<form method="post" action="/ops/logout"><input type="hidden" name="x-moonwatch-csrf" value="' .. who.csrf .. '"><button>Log out</button></form>'
end

-- What a script of the dashboard sends back; a script of a plugin's page cannot open this page (lua/mw/api/access.lua).
local function csrf_meta(who) return who.csrf and '<meta name="moonwatch-csrf" content="' .. who.csrf .. '">' or "" end

local function show(_, res, _, listener, who)
  local report, status = runtime.plugins(), runtime.status()
  local state = status.ready and "Ready" or "Not ready: " .. escape(table.concat(status.reasons or {}, "; "))
  page.send(res, "Moonwatch", table.concat({
    logout_form(who),
    string.format("<p>%s. Version %s, %s, generation %s.</p>", state, escape(status.version), escape(status.engine), escape(report.generation)),
    problems_html(report),
    "<h2>Plugins</h2>", table_of({ "name", "file", "declares" }, plugin_rows(report)),
    "<h2>Workflows</h2>", table_of({ "name", "form", "steps", "plugin", "where" }, workflow_rows()),
    "<h2>Routes</h2>", table_of({ "route", "plugin", "where" }, route_rows()),
    listener == "ops" and "" or LINKS,
  }, "\n"), csrf_meta(who))
end

M.endpoints = { { method = "GET", pattern = "/ops", access = "page", scope = "ops", handler = show, on_refusal = page.refuse } }

return M
