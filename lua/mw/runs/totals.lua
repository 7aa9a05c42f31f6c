-- SPDX-License-Identifier: MIT

--- How many executions there are.
--
--   totals.list { workflow = "checkout" }          -- {{ workflow = "checkout", status = 9, total = 3 }, …}, by workflow and status
--   local n, is_part = totals.count { status = "failed" }
--
-- Of a workflow, a status, or both, the numbers come from counters that each commit keeps (migrations/*/0007_counts.up.sql): exact, and as fast with
-- ten million executions as with ten. With any other filter they are counted, up to a million: is_part says that there are more.
--
-- Raises "invalid" for a filter that cannot be, and the errors of a query. Yields.

local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local store = require "mw.core.store"

local M = {}

local COUNTED = 1000000

local function select(sql, params) return (errors.check(store.query("engine", sql, params, 30))) end

local counters_know = { workflow = true, status = true }

local function is_counted(given)
  for name in pairs(filter.schema.properties) do
    if given[name] ~= nil and not counters_know[name] then return false end
  end
  return true
end

function M.list(given)
  local where, params = filter.conditions { workflow = given.workflow, status = given.status }
  local rows = select("SELECT workflow, status, total FROM {{schema}}.execution_totals WHERE " .. where .. " ORDER BY workflow, status", params)
  for i, row in ipairs(rows) do rows[i] = { workflow = row.workflow, status = tonumber(row.status), total = tonumber(row.total) } end
  return rows
end

function M.count(given)
  if is_counted(given) then
    local total = 0
    for _, row in ipairs(M.list(given)) do total = total + row.total end
    return total
  end
  local where, params = filter.conditions(given)
  local sql = string.format("SELECT count(*) AS n FROM (SELECT 1 FROM {{schema}}.executions WHERE %s LIMIT %d) AS counted", where, COUNTED + 1)
  local n = tonumber(select(sql, params)[1].n)
  return math.min(n, COUNTED), n > COUNTED
end

return M
