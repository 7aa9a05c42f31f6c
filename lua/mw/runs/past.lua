-- SPDX-License-Identifier: MIT

--- What an operator's action must know of a run's journal, read in the action's own transaction; and the rows that actions add to it.
--
--   past.fold(tx, id)                   -- the whole of it: what lua/mw/workflow/fold.lua makes of it
--   past.is_compensating(tx, id)        -- whether undoing has begun
--   past.children(tx, id)               -- child id -> "cancel" or "leave", as the journal says
--   past.forget_outcomes(tx, run)       -- what services said of steps, whose attempts are counted anew
--   past.add(tx, run, row)              -- adds a row with the fence that the run has by then

local errors = require "mw.errors"
local fold = require "mw.workflow.fold"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local store = require "mw.core.store"

local M = {}

local PAGE = 500

-- Rows that contain one of the texts, which may be in a payload as well; all rows without texts. In pages, since payloads may be large.
local function read(tx, id, texts)
  local params, tests = { { id = id }, 0 }, {}
  local find = store.engine() == "sqlite" and "instr" or "strpos"
  for i, text in ipairs(texts or {}) do
    params[i + 2] = text
    tests[i] = string.format("%s(data, $%d) > 0", find, i + 2)
  end
  local sql = "SELECT number, data FROM {{schema}}.journal WHERE execution = $1 AND number > $2"
    .. (tests[1] and " AND (" .. table.concat(tests, " OR ") .. ")" or "") .. " ORDER BY number LIMIT " .. PAGE
  local all = {}
  repeat
    local rows = errors.check(tx:query(sql, params))
    for _, row in ipairs(rows) do
      row.number = tonumber(row.number)
      all[#all + 1] = row
    end
    params[2] = #rows > 0 and all[#all].number
  until #rows < PAGE
  return all
end

local function folded(rows) return errors.check(fold.rows(rows)) end

function M.fold(tx, id) return folded(read(tx, id)) end

function M.is_compensating(tx, id) return folded(read(tx, id, { '{"n":[', '{"R":[' })).undo ~= nil end

function M.children(tx, id)
  local policies = {}
  for _, op in ipairs(folded(read(tx, id, { '{"c":[', '{"t":[' })).order) do
    if op.id then policies[op.id] = op.on_cancel end
  end
  return policies
end

--- Microseconds since the run's virtual start, for a row that comes after `state`.
function M.now(run, state)
  return math.max(state.at, math.floor(runtime.now_us() - R.start_of(run.seed, run.created_us)))
end

function M.forget_outcomes(tx, run)
  errors.check(tx:query("DELETE FROM {{schema}}.signals WHERE execution = $1 AND name LIKE '$step:%'", { { id = run.id } }))
end

function M.add(tx, run, data)
  errors.check(tx:query("INSERT INTO {{schema}}.journal (execution, number, fence, at_us, data)"
    .. " SELECT $1, coalesce(max(number), 0) + 1, CAST($2 AS bigint), CAST($3 AS bigint), CAST($4 AS text) FROM {{schema}}.journal WHERE execution = $1",
    { { id = run.id }, run.fence, math.floor(runtime.now_us()), data }))
end

return M
