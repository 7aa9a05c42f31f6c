-- SPDX-License-Identifier: MIT

--- Which runs are meant: filters as the API and the command line give them, as conditions in SQL.
--
--   local where, params = filter.conditions({ status = "failed,stuck", workflow = "checkout" })
--   -- "app = $1 AND workflow = $2 AND status IN (9, 7)", { "default", "checkout" }
--
-- All but times of an end are found by an index, also among millions; of `error` those are read that have one.
--
--   workflow        its name
--   status          one or several, joined by commas
--   group           the group's key
--   tag             one of its tags
--   error           text that its error contains, in its code or message
--   created_after   RFC 3339, or how long ago: "2h"
--   created_before  the same; finished_after and finished_before likewise
--   external_id     the name its starter gave it
--   parent          id of the execution that started it
--
-- Raises "invalid" for what cannot be. `filter.schema` describes them.

local core = require "mw.core.runtime"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

local function text(description) return { type = "string", minLength = 1, maxLength = 500, description = description } end

M.schema = {
  type = "object",
  properties = {
    workflow = text "Of this workflow", status = text "With this status; several joined by commas", group = text "Of this group", tag = text "With this tag",
    error = text "Whose error contains this text", created_after = text "RFC 3339, or how long ago: 2h", created_before = text "The same",
    finished_after = text "The same, of its end", finished_before = text "The same", external_id = text "Its own name, as its starter gave it",
    parent = text "Started by this execution",
  },
}

local UUID = "^" .. ("%x"):rep(8) .. "%-" .. (("%x"):rep(4) .. "%-"):rep(3) .. ("%x"):rep(12) .. "$"

--- Whether a value is what an execution's id looks like.
function M.is_id(value) return type(value) == "string" and value:find(UUID) ~= nil end

local function invalid(...) errors.throw("invalid", string.format(...)) end

local function status_numbers(names)
  local numbers = {}
  for name in names:gmatch("[^,]+") do
    local number = status.number(name)
    if not number then invalid("status %q is unknown; known are %s", name, table.concat(status.names, ", ")) end
    numbers[#numbers + 1] = number
  end
  if #numbers == 0 then invalid("status is empty; give one or more names, joined by commas") end
  return table.concat(numbers, ", ")
end

--- Microseconds of an RFC 3339 time, or of a duration before now; nil when it is neither.
function M.time(value)
  local ago = core.duration(value)
  if ago then return math.floor(runtime.now_us() - ago * 1e6) end
  return runtime.parse_time(value)
end

local function time_of(name, value)
  return M.time(value) or invalid("%s must be a time like 2026-03-29T03:00:00Z or a duration like 2h, got %q", name, value:sub(1, 60))
end

-- An id begins with the time of its creation, so ids bound what must be read for a time of creation: up to other nodes' clocks, and to children
-- whose id was fixed when their parent came to them, which may have been a while before.
local CLOCKS_US, LATE_US = 300e6, 86400e6

--- The smallest id that was made at that time, microseconds since 1970.
function M.id_at(us)
  local time = string.format("%012x", math.max(0, math.min(2 ^ 48 - 1, math.floor(us / 1000))))
  return { id = time:sub(1, 8) .. "-" .. time:sub(9, 12) .. "-0000-0000-000000000000" }
end

-- Those of other statuses have none.
local WITH_ERROR = ("status IN (%d, %d, %d, %d)"):format(status.BLOCKED, status.STUCK, status.FAILED, status.CANCELLED)

-- How the engine asks whether a text contains another.
local function contains(column, placeholder)
  return string.format("%s(%s, %s) > 0", store.engine() == "sqlite" and "instr" or "strpos", column, placeholder)
end

--- `params` are those that the statement has before; they are added to.
function M.conditions(given, params)
  params = params or {}
  local list = {}
  local function add(sql, value)
    params[#params + 1] = value
    list[#list + 1] = (sql:gsub("%?", "$" .. #params))
  end
  local app = "$" .. (#params + 1)
  add("app = ?", "default")
  if given.workflow then add("workflow = ?", given.workflow) end
  if given.status then list[#list + 1] = "status IN (" .. status_numbers(given.status) .. ")" end
  if given.group then add("group_key = ?", given.group) end
  -- The indexes of groups and of external ids have the workflow in front.
  if (given.group or given.external_id) and not given.workflow then list[#list + 1] = "workflow IN (SELECT workflow FROM {{schema}}.execution_totals WHERE app = " .. app .. ")" end
  if given.tag then add("id IN (SELECT execution FROM {{schema}}.execution_tags WHERE app = " .. app .. " AND tag = ?)", given.tag) end
  if given.error then add(contains("error", "?"), given.error) end
  if given.error and not given.status then list[#list + 1] = WITH_ERROR end
  if given.created_after then
    local us = time_of("created_after", given.created_after)
    add("created_us >= ?", us)
    add("id >= ?", M.id_at(us - LATE_US))
  end
  if given.created_before then
    local us = time_of("created_before", given.created_before)
    add("created_us < ?", us)
    add("id < ?", M.id_at(us + CLOCKS_US))
  end
  if given.finished_after then add("finished_us >= ?", time_of("finished_after", given.finished_after)) end
  if given.finished_before then
    local us = time_of("finished_before", given.finished_before)
    add("finished_us < ?", us)
    add("id < ?", M.id_at(us + CLOCKS_US))
  end
  if given.external_id then add("external_id = ?", given.external_id) end
  if given.parent then
    if not M.is_id(given.parent) then invalid("parent must be the id of an execution, got %q", given.parent:sub(1, 60)) end
    add("parent = ?", { id = given.parent:lower() })
  end
  return table.concat(list, " AND "), params
end

return M
