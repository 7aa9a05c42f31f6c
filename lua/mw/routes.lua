-- SPDX-License-Identifier: MIT

--- Routes, groups and middleware, as plugins declare them.
--
--   mw.get("/users/:id", function(req, res) … end)            -- also post put patch delete
--   mw.route({"GET", "POST"}, "/x", …)   mw.route("*", "/any/*path", …)
--   mw.post("/upload", {body = "50MB", timeout = 60}, auth, function(req, res) … end)
--   mw.use(function(req, res, next) … next() … end)             -- for routes declared after it in the same file
--   mw.use_all(10, fn)                                          -- for every plugin's routes; lower order first
--   mw.group("/admin", auth, function(r) r.get("/users", …) end)
--
--   mw.static("/assets", "assets", {cache = "1h"})            -- a folder of files: see lua/mw/http/static.lua
--
-- Options of a route: body (largest body, bytes or "50MB"; default 1 MiB), timeout (until the answer begins; default 30 s),
-- stream (true: the handler starts before the body is in and reads it by req:chunks()), decompress (false: a gzip or deflate body is
-- given as it was sent, for who forwards it or checks its signature; otherwise the handler sees what was in it, up to `body` bytes), compress (false: the
-- answer is never compressed; for pages that hold a secret beside what the visitor wrote, see BREACH in docs/plugins.md).
-- A middleware that does not call next() ends the chain there. The order is: use_all, use, group, route, handler.
-- Paths of the built-in surfaces stay theirs: declaring one is an error, and patterns such as "/:a/:b" or "/*all" never see them.

local errors = require "mw.errors"
local registry = require "mw._registry"
local runtime = require "mw.core.runtime"
local validate = require "mw.validate"

local M = {}

local methods = { GET = true, POST = true, PUT = true, PATCH = true, DELETE = true, HEAD = true, OPTIONS = true, ["*"] = true }
local route_options = { body = "number|string", timeout = "duration", stream = "boolean", decompress = "boolean", compress = "boolean" }

-- Paths that belong to the built-in surfaces, with the surface's name.
local reserved = {
  { "/api", "the API" }, { "/ofrep", "OpenFeature evaluation" }, { "/v1/traces", "OTLP ingest" }, { "/v1/logs", "OTLP ingest" },
  { "/v1/metrics", "OTLP ingest" }, { "/v1/events", "event ingest" }, { "/v1/identify", "event ingest" },
  { "/metrics", "Prometheus metrics" }, { "/livez", "the probes" }, { "/readyz", "the probes" }, { "/hooks", "inbound webhooks" },
  { "/ops", "the dashboard" }, { "/mcp", "the tools for AI agents" },
}

--- Routes that keep the surfaces' paths from patterns such as "/*all", also where nothing answers them.
function M.reserved()
  local routes = {}
  for i, entry in ipairs(reserved) do
    routes[i] = {
      methods = { "*" }, pattern = entry[1] .. "/*rest", opts = { reserved = true }, handler = function() end,
      what = entry[1], where = "built in", plugin = "moonwatch",
    }
  end
  return routes
end

--- The surface that owns a path, or nil.
function M.surface_of(pattern)
  for _, entry in ipairs(reserved) do
    local prefix = entry[1]
    if pattern == prefix or pattern:sub(1, #prefix + 1) == prefix .. "/" then return entry[2], prefix end
  end
end

local function check_pattern(what, pattern)
  if type(pattern) ~= "string" or pattern:sub(1, 1) ~= "/" then
    errors.throw("invalid", what .. ": the path must be a string that begins with \"/\", got " .. validate.describe(pattern))
  end
end

local function check_methods(what, list)
  if type(list) == "string" then list = { list } end
  if type(list) ~= "table" or #list == 0 then
    errors.throw("invalid", what .. ": the methods must be a string or a list like {\"GET\", \"POST\"}")
  end
  local checked = {}
  for i, method in ipairs(list) do
    method = type(method) == "string" and method:upper() or method
    if not methods[method] then
      errors.throw("invalid", what .. ": unknown method " .. validate.describe(method) .. "; use GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS or \"*\"")
    end
    checked[i] = method
  end
  return checked
end

local function route_opts(what, given)
  local opts = validate.options(what, given, route_options)
  local checked = { stream = opts.stream or nil, raw_body = opts.decompress == false or nil, no_compress = opts.compress == false or nil }
  if opts.timeout then checked.timeout = validate.duration(what .. ": timeout", opts.timeout, true) end
  if type(opts.body) == "number" then checked.body = opts.body
  elseif opts.body then
    local bytes, err = runtime.size(opts.body)
    if not bytes then errors.throw("invalid", what .. ": body: " .. err.message) end
    checked.body = bytes
  end
  return checked
end

local function functions_of(what, chain, ...)
  for i = 1, select("#", ...) do
    local fn = select(i, ...)
    if type(fn) ~= "function" then
      errors.throw("invalid", string.format("%s: a middleware or handler must be a function, got %s", what, validate.describe(fn)))
    end
    chain[#chain + 1] = fn
  end
  if #chain == 0 then errors.throw("invalid", what .. ": there is no handler function") end
  return chain
end

-- Parameter names do not tell two routes apart.
local function shape_of(pattern)
  local shape = pattern:gsub("/+", "/"):gsub(":[^/]+", ":"):gsub("%*[^/]*", "*")
  return #shape > 1 and shape:gsub("/$", "") or shape
end

local function declare(what, list, scope, pattern, ...)
  local plugin = registry.need_loading(what)
  check_pattern(what, pattern)
  pattern = (scope.prefix .. pattern):gsub("/+", "/")
  if #pattern > 1 then pattern = pattern:gsub("/$", "") end
  what = what .. " " .. pattern
  if not plugin.pinned then
    local surface = M.surface_of(pattern)
    if surface and not registry.app_listener then
      errors.throw("invalid", string.format("%s: the path belongs to %s; choose another, or serve plugin routes on a listener of their own with --listen-app, where it is free",
        what, surface))
    end
  end
  local opts, first = {}, 1
  if type((...)) == "table" then opts, first = route_opts(what, (...)), 2 end
  local own = functions_of(what, {}, select(first, ...))
  local chain = {}
  for _, fn in ipairs(plugin.uses) do chain[#chain + 1] = fn end
  for _, fn in ipairs(scope.uses) do chain[#chain + 1] = fn end
  for _, fn in ipairs(own) do chain[#chain + 1] = fn end

  list = check_methods(what, list)
  for _, method in ipairs(list) do
    local name = method .. " " .. shape_of(pattern)
    if not registry.declare("route", name, { where = registry.where() }) then return end
  end
  registry.routes[#registry.routes + 1] = {
    methods = list, pattern = pattern, opts = opts, chain = chain, plugin = plugin.name, where = registry.where(),
    what = table.concat(list, ",") .. " " .. pattern,
  }
end

---@alias mw.Handler fun(req: mw.Request, res: mw.Response)
---@alias mw.Middleware fun(req: mw.Request, res: mw.Response, next: fun())

---@class mw.RouteOptions
---@field body? integer|string largest body, bytes or "50MB"; default 1 MiB
---@field timeout? mw.Duration until the answer begins; default 30 s
---@field stream? boolean true: the handler starts before the body is in
---@field decompress? boolean false: a gzip or deflate body is given as it was sent
---@field compress? boolean false: the answer is never compressed

-- In each, options may come second, and middleware before the handler.
---@class mw.Routes
---@field get fun(path: string, ...: mw.RouteOptions|mw.Middleware|mw.Handler)
---@field post fun(path: string, ...: mw.RouteOptions|mw.Middleware|mw.Handler)
---@field put fun(path: string, ...: mw.RouteOptions|mw.Middleware|mw.Handler)
---@field patch fun(path: string, ...: mw.RouteOptions|mw.Middleware|mw.Handler)
---@field delete fun(path: string, ...: mw.RouteOptions|mw.Middleware|mw.Handler)
---@field route fun(methods: string|string[], path: string, ...: mw.RouteOptions|mw.Middleware|mw.Handler) "*" is every method
---@field static fun(prefix: string, dir: string, ...: { cache?: mw.Duration, index?: string|false, fallback?: string, compress?: boolean }|mw.Middleware)
---@field group fun(prefix: string, ...: mw.Middleware|fun(r: mw.Routes)) the last function declares the routes

-- The declaring functions for a prefix and its middleware; the public API is the one with neither.
local function scope_functions(scope, prefix)
  local r = {}
  for _, method in ipairs { "get", "post", "put", "patch", "delete" } do
    r[method] = function(pattern, ...) declare(prefix .. method, method, scope, pattern, ...) end
  end
  function r.static(pattern, dir, ...)
    local what = prefix .. "static"
    registry.need_loading(what)
    check_pattern(what, pattern)
    local opts, first = {}, 1
    if type((...)) == "table" then opts, first = (...), 2 end
    local handler, route = require("mw.http.static").handler(what .. " " .. pattern, dir, opts)
    local chain = { select(first, ...) }
    chain[#chain + 1] = handler
    pattern = pattern:gsub("/+$", "")
    declare(what, "get", scope, pattern == "" and "/" or pattern, route, unpack(chain))
    declare(what, "get", scope, pattern .. "/*path", route, unpack(chain))
  end
  function r.route(list, pattern, ...) declare(prefix .. "route", list, scope, pattern, ...) end
  function r.group(sub, ...)
    local what = prefix .. "group"
    registry.need_loading(what)
    check_pattern(what, sub)
    local fns = functions_of(what .. " " .. sub, {}, ...)
    local body = table.remove(fns)
    local inner = { prefix = scope.prefix .. sub, uses = {} }
    for _, fn in ipairs(scope.uses) do inner.uses[#inner.uses + 1] = fn end
    for _, fn in ipairs(fns) do inner.uses[#inner.uses + 1] = fn end
    body(scope_functions(inner, "r."))
  end
  return r
end

--- get post put patch delete route group, to be put into `mw`.
function M.public() return scope_functions({ prefix = "", uses = {} }, "mw.") end

--- Middleware for the routes declared after it in this file.
---@param fn mw.Middleware
function M.use(fn)
  local plugin = registry.need_loading("mw.use")
  validate.arg("mw.use", 1, "middleware", fn, "function")
  plugin.uses[#plugin.uses + 1] = fn
end

local sequence = 0

--- Middleware for every plugin's routes; lower order first.
---@param order number
---@param fn mw.Middleware
function M.use_all(order, fn)
  local plugin = registry.need_loading("mw.use_all")
  validate.arg("mw.use_all", 1, "order", order, "number")
  validate.arg("mw.use_all", 2, "middleware", fn, "function")
  if plugin.pinned then return end
  sequence = sequence + 1
  registry.use_all[#registry.use_all + 1] = { order = order, sequence = sequence, fn = fn }
end

--- Puts the use_all middleware before every plugin's chain; called once after all plugins are loaded.
function M.finish()
  table.sort(registry.use_all, function(a, b)
    if a.order ~= b.order then return a.order < b.order end
    return a.sequence < b.sequence
  end)
  for _, route in ipairs(registry.routes) do
    local chain = {}
    for _, use in ipairs(registry.use_all) do chain[#chain + 1] = use.fn end
    for _, fn in ipairs(route.chain) do chain[#chain + 1] = fn end
    route.chain = chain
  end
end

return M
