-- SPDX-License-Identifier: MIT

--- The scopes of keys: a closed list, one for each thing a client may be trusted with. Every built-in endpoint names the one it needs
--- ("any": every valid key will do).
--
--   scopes.parse("trigger executions:read")     -- a set, or nil and a sentence
--   scopes.stored("trigger")                     -- a set, from the database
--   scopes.text(set)                             -- "executions:read trigger"
--   scopes.allow(set, "trigger")                 -- boolean

local validate = require "mw.validate"

local M = {}

--- Names and what they let a key do, in the order people should read them.
M.list = {
  { "trigger", "start executions" },
  { "executions:read", "read executions, their inputs, results and outputs" },
  { "executions:write", "cancel, pause, resume, retry, rerun, replay, move and import executions" },
  { "signal", "send signals to executions, and end steps that a service owns" },
  { "cron", "run, pause and resume cron jobs" },
  { "plugins:read", "read plugins, workflows and load errors" },
  { "plugins:reload", "load the plugins again" },
  { "status:read", "see why the server is not ready, its version and engine" },
  { "ops", "open the dashboard" },
  { "keys", "list, create and revoke keys; with no scope the key lacks itself" },
  { "*", "everything, also what later versions add, and login links" },
}

local known = {}
for _, scope in ipairs(M.list) do known[scope[1]] = true end
M.known = known

local function names()
  local list = {}
  for i, scope in ipairs(M.list) do list[i] = scope[1] end
  return table.concat(list, ", ")
end

--- The set of scopes in a text (spaces or commas between them), or nil and a sentence.
function M.parse(text)
  local set = {}
  for name in text:gmatch("[^%s,]+") do
    if not known[name] then
      local near = validate.nearest(name, known)
      return nil, string.format("there is no scope %q; %s", name, near and string.format("did you mean %q?", near) or "there are " .. names())
    end
    set[name] = true
  end
  if next(set) == nil then return nil, "no scope is given; there are " .. names() end
  return set
end

--- The set of what was stored: a scope that a later version knows stays, and allows nothing here.
function M.stored(text)
  local set = {}
  for name in text:gmatch("%S+") do set[name] = true end
  return set
end

function M.text(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, " ")
end

--- Whether a set of scopes allows what needs `scope`.
function M.allow(set, scope) return set["*"] == true or scope == "any" or set[scope] == true end

--- A scope of `wanted` that `own` does not allow, or nil.
function M.beyond(own, wanted)
  for name in pairs(wanted) do
    if not M.allow(own, name) then return name end
  end
end

return M
