-- SPDX-License-Identifier: MIT

--- Running a run again: a new one of the same workflow on the code that serves now, with the same input or an edited one. It belongs to no
-- parent, keeps group, priority and tags, and has the tag "rerun_of:ID".
--
--   rerun.run(who, id, { input = JSON text, key = Idempotency-Key })     -- { id, created, rerun_of }; input absent: the same

local audit = require "mw.audit"
local change = require "mw.runs.change"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local json = require "mw.core.json"
local store = require "mw.core.store"
local workflow = require "mw.workflow"

local M = {}

M.TAG = "rerun_of:"

local function find(id)
  if not filter.is_id(id) then change.not_found(id) end
  local rows = errors.check(store.query("engine", "SELECT workflow, input, priority, group_key, tags FROM {{schema}}.executions WHERE app = $1 AND id = $2",
    { "default", { id = id:lower() } }))
  return rows[1] or change.not_found(id)
end

local function tags_of(row, id)
  local list = json.array {}
  for _, tag in ipairs(row.tags and json.decode(row.tags) or {}) do
    if tostring(tag):sub(1, #M.TAG) ~= M.TAG then list[#list + 1] = tag end
  end
  list[#list + 1] = M.TAG .. id
  return json.encode(list)
end

function M.run(who, id, opts)
  opts = opts or {}
  local row = find(id)
  id = id:lower()
  local priority = tonumber(row.priority)
  local new, created = workflow.create(row.workflow, opts.input or row.input, {
    key = opts.key, group = row.group_key, priority = priority ~= 0 and priority or nil, tags = tags_of(row, id),
  })
  if not new then errors.raise(created) end
  if created then
    audit.change({ actor = who.actor, action = "execution.rerun", subject = "execution " .. id, after = { execution = new, edited = opts.input ~= nil } },
      function() return true end)
  end
  return { id = new, created = created, rerun_of = id }
end

return M
