-- SPDX-License-Identifier: MIT

--- A request and an answer as handlers see them, without a server.
--
--   local answer = exchange.send(server, routes, "POST", "/api/trigger", { headers = {…}, body = "…" })
--   answer.status, answer.body (decoded JSON when it is), answer.text, answer.headers

local M = {}

local Response = {}
Response.__index = Response

function Response:status(code) self.code = code return self end
function Response:header(name, value) self.headers[name:lower()] = value return self end

local function finish(self, kind, text)
  self.headers["content-type"] = self.headers["content-type"] or kind
  self.sent, self.done = text, true
end

function Response:json(value) finish(self, "application/json", assert(self.encode(value))) end
function Response:text(text) finish(self, "text/plain", text) end
function Response:html(text) finish(self, "text/html", text) end

local function match(pattern, path)
  local params, names = {}, {}
  local lua = "^" .. pattern:gsub("[%-%.]", "%%%0"):gsub(":([%w_]+)", function(name)
    names[#names + 1] = name
    return "([^/]+)"
  end) .. "$"
  local found = { path:match(lua) }
  if not found[1] then return nil end
  for i, name in ipairs(names) do params[name] = found[i] end
  return params
end

local function find(routes, method, path)
  for _, route in ipairs(routes) do
    local params = route.methods[1] == method and match(route.pattern, path)
    if params then return route, params end
  end
  error("no route for " .. method .. " " .. path)
end

function M.send(server, routes, method, path, opts)
  opts = opts or {}
  local route, params = find(routes, method, path)
  local req = {
    method = method, path = path, params = params, query = opts.query or {}, body = opts.body, ip = opts.ip or "127.0.0.1",
    headers = { host = "127.0.0.1:9400" },
  }
  for name, value in pairs(opts.headers or {}) do req.headers[name] = value end
  local res = setmetatable({ headers = {}, code = 200, encode = server.json.encode }, Response)
  server.task.call(function()
    local ok, err = pcall(route.handler, req, res)
    if ok then return end
    route.on_error(req, res, err)
  end)
  assert(res.done, "the handler gave no answer")
  local body = res.headers["content-type"]:find("^application/%a*%+?json") and server.json.decode(res.sent) or nil
  return { status = res.code, headers = res.headers, text = res.sent, body = body }
end

return M
