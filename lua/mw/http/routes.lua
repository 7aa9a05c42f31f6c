-- SPDX-License-Identifier: MIT

--- Builds the routes of a listener (see core/bind/bind_http.h for the entries), while a generation loads.
--
--   routes.build(0, list)       -- raises for a bad pattern, or one that is taken, with the place of the route
--
-- A chain is { middleware, …, handler }: a middleware is function(req, res, next) and goes on by calling next(), once.

local core = require "mw.core.http"
local errors = require "mw.errors"
local problem = require "mw.http.problem"
local request = require "mw.http.request"
local response = require "mw.http.response"

core.setup { req = request.metatable, res = response.metatable, on_error = problem.answer }

local M = {}

local function link(middleware, rest)
  return function(req, res)
    local called = false
    local function next()
      if called then errors.throw("invalid", "next() was called twice by one middleware") end
      called = true
      return rest(req, res)
    end
    return middleware(req, res, next)
  end
end

--- One function of a chain.
function M.compose(chain)
  local handler = chain[#chain]
  for i = #chain - 1, 1, -1 do handler = link(chain[i], handler) end
  return handler
end

function M.build(tag, list)
  local entries = {}
  for i, route in ipairs(list) do
    entries[i] = {
      methods = route.methods, pattern = route.pattern, opts = route.opts, what = route.what, where = route.where,
      on_error = route.on_error, sort = route.sort, handler = route.handler or M.compose(route.chain),
    }
  end
  core.build(tag, entries)
end

return M
