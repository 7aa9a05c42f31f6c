-- SPDX-License-Identifier: MIT

--- mw.env.NAME: environment variables that plugins may see: those listed in the configuration (env = {"STRIPE_KEY"}) and those that begin
--- with APP_. Reading another raises with the line to add. An unset one is nil.

local core = require "mw.core.runtime"
local errors = require "mw.errors"

local open = {
  __index = function(_, name)
    if type(name) ~= "string" then return nil end
    local value, allowed = core.env(name)
    if allowed then return value end
    errors.throw("denied", string.format("mw.env.%s is not open to plugins; add it to moonwatch.lua: env = { %q }", name, name))
  end,
  __newindex = function() errors.throw("denied", "mw.env is read-only") end,
  __metatable = "mw.env",
}

-- One for each plugin: rawset gets past __newindex.
return { for_plugin = function() return setmetatable({}, open) end }
