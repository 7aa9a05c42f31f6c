-- SPDX-License-Identifier: MIT

--- What the plugins of one state declared. Filled while they load, read afterwards.
--
-- registry.routes     list of { methods, pattern, opts, chain, plugin, where, what }
-- registry.workflows  by name: what lua/mw/workflow/define.lua made, with plugin, where, bundle
-- registry.crons      by name: what lua/mw/cron/init.lua made
-- registry.plugins    list of { name, file, declarations = { {kind, name, where} … }, bundle }
-- registry.bundles    by hash: { manifest = text, sources = { [hash] = text } }
-- registry.loading    the plugin being loaded: { name, file, target, uses, groups, … }, nil otherwise
--
-- A pinned bundle is loaded with a `target` of its own in which only workflows register.

local errors = require "mw.errors"

local M = { routes = {}, workflows = {}, crons = {}, plugins = {}, bundles = {}, names = {}, use_all = {} }

--- file:line of the plugin code that declares.
M.where = errors.where

--- The plugin being loaded; raises when a declaration is made at any other time.
function M.need_loading(what)
  if not M.loading then
    errors.throw("invalid", what .. " declares, so it belongs at the top level of a plugin file, not into a function that runs later")
  end
  return M.loading
end

--- Registers a declaration under a name that is unique over all plugins; raises naming both places when it is taken.
--- Returns false when the code being loaded is a pinned bundle that must not declare this kind.
function M.declare(kind, name, declaration)
  local plugin = M.need_loading("mw." .. kind)
  declaration.plugin = plugin.name
  declaration.where = declaration.where or M.where()
  if plugin.pinned then
    if kind ~= "workflow" then return false end
    plugin.workflows[name] = declaration
    declaration.bundle = plugin.pinned
    return true
  end
  local key = kind .. " " .. name
  local other = M.names[key]
  if other then
    errors.throw("exists", string.format("%s %q is declared at %s already; give one of them another name", kind, name, other.where))
  end
  M.names[key] = declaration
  if not declaration.is_internal then
    plugin.declarations[#plugin.declarations + 1] = { kind = kind, name = name, where = declaration.where }
  end
  if kind == "workflow" then
    M.workflows[name] = declaration
    plugin.workflows[name] = declaration
  end
  return true
end

return M
