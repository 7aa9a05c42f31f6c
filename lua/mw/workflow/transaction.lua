-- SPDX-License-Identifier: MIT

--- ctx:transaction: a step whose SQL on the application database happens exactly once.
--
--   local fn = transaction.once(strand, key, function(ctx, tx) … end, timeout)     -- what the step's attempts call
--
-- The user's statements and the step's result commit together, the result as a row of `moonwatch_results` in the application database. The
-- row is written first: whoever comes second (after a kill between that commit and the journal, or a node that lost the run and does not know
-- yet) waits for it, finds it, and gives the result without calling the function. Where application and engine share a PostgreSQL, the commit
-- also needs the run to be still ours: its row is locked and its fence compared last of all.
--
-- A row is of use until the journal has the result. Those of a run that completed are deleted at its end; those of other ended runs stay until
-- the run is removed, because an operator may retry it. `sweep` finds what was left over.

local core = require "mw.core.task"
local db = require "mw.db"
local errors = require "mw.errors"
local json = require "mw.core.json"
local own = require "mw.db.own"
local payload = require "mw.workflow.payload"
local runtime = require "mw._runtime"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

local TABLE = "moonwatch_results"
local DDL = {
  "CREATE TABLE IF NOT EXISTS " .. TABLE .. " (execution text NOT NULL, step text NOT NULL, result text, at_us bigint NOT NULL,"
    .. " PRIMARY KEY (execution, step))",
}
local AWAY_S = 0.5
local SWEEP_EVERY_S = 600
local PAGE = 200
local GONE_US = 24 * 3600 * 1e6 -- a run that is not there may be one of a database that is being restored

-- After these nobody knows whether a COMMIT came to be.
local is_open = { unavailable = true, timeout = true, closed = true, io = true }

-- The step's place among the results: a step whose result an operator had forgotten is another.
local function name_of(strand, key)
  local again = strand.state and strand.state.again
  return again and again[key] and key .. "@" .. again[key] or key
end

-- True when the step has not been done; then this transaction does it.
local function claim(tx, execution, step)
  local function query(sql, params) return tx:query(sql, params) end
  local ok, rows = errors.pcall(function()
    own.ensure(query, TABLE, DDL)
    return tx:query("INSERT INTO " .. TABLE .. " (execution, step, at_us) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
      { execution, step, runtime.now_us() })
  end)
  if ok then return rows.affected == 1 end
  own.forget(TABLE)
  error(rows, 0)
end

local function result_of(tx, execution, step)
  local row = tx:one("SELECT result FROM " .. TABLE .. " WHERE execution = $1 AND step = $2", { execution, step })
  return row and row.result
end

-- Another owner has the run: nothing of this may happen.
local function check_owner(tx, run)
  local schema = store.app_schema()
  if not schema then return end
  local row = tx:one("SELECT 1 AS ours FROM \"" .. schema .. "\".executions WHERE id = $1 AND fence = $2 AND status = 2 FOR SHARE",
    { run.id, run.fence })
  if row then return end
  errors.throw("stale", string.format("execution %s went to another owner; the transaction is rolled back", run.id))
end

local NOT_DONE = "not_done"

-- A result as it was stored, byte for byte.
local function boxed(text) return text and json.box(text) or nil end

-- Whether the step's transaction has committed; waits for one that is about to. Returns true, result's JSON, or false.
local function ask(execution, step)
  local text
  local ok, err = errors.pcall(db.transaction, function(tx)
    if claim(tx, execution, step) then errors.throw(NOT_DONE, "the transaction has not committed") end
    text = result_of(tx, execution, step)
  end)
  if ok then return true, text end
  if errors.from(err).code == NOT_DONE then return false end
  error(err, 0)
end

-- The connection was lost in COMMIT: asks until the database answers; the attempt's timeout ends that.
local function settle(execution, step, lost)
  while true do
    local ok, done, text = errors.pcall(ask, execution, step)
    if ok and done then return boxed(text) end
    if ok then error(lost, 0) end
    if not is_open[errors.from(done).code] then error(done, 0) end
    local slept, why = core.sleep(AWAY_S)
    if slept == nil then error(why, 0) end
  end
end

--- The function of a step's attempts. `timeout`: of the transaction, seconds (nil: as mw.transaction).
function M.once(strand, key, fn, timeout)
  local execution, step = strand.id, name_of(strand, key)
  strand.root.has_results = true
  return function(ctx)
    local known, text, value = false, nil, nil
    local at_commit = false
    local ok, err = errors.pcall(db.transaction, function(tx)
      if not claim(tx, execution, step) then
        known, text = true, result_of(tx, execution, step)
        return
      end
      value = fn(ctx, tx)
      local refused
      text, refused = payload.encode(value, "result")
      if refused then
        refused.final = true
        error(refused, 0)
      end
      tx:query("UPDATE " .. TABLE .. " SET result = $3 WHERE execution = $1 AND step = $2", { execution, step, text })
      check_owner(tx, strand.root)
      at_commit = true
    end, { timeout = timeout })
    if not ok then
      if at_commit and is_open[errors.from(err).code] then return settle(execution, step, err) end
      error(err, 0)
    end
    own.note(TABLE)
    M.is_used = true
    if known then return boxed(text) end
    return value
  end
end

-- ---- forgetting ----

-- Statuses of the runs of a page of rows, by id; nothing for those that are gone.
local function statuses(rows)
  local marks, ids, found = {}, {}, {}
  for i, row in ipairs(rows) do marks[i], ids[i] = "$" .. i, { id = row.execution } end
  if #rows == 0 then return found end
  local sql = "SELECT id, status FROM {{schema}}.executions WHERE id IN (" .. table.concat(marks, ", ") .. ")"
  for _, run in ipairs(errors.check(store.query("engine", sql, ids))) do found[run.id] = tonumber(run.status) end
  return found
end

local function is_over(row, number)
  if number then return number == status.COMPLETED end
  return tonumber(row.at_us) < runtime.now_us() - GONE_US
end

--- A run has completed. In a task; best effort: what is left is swept.
function M.forget(id)
  errors.pcall(db.query, "DELETE FROM " .. TABLE .. " WHERE execution = $1", { id })
end

local function sweep()
  local last = ""
  while own.exists(TABLE) do
    local rows = errors.check(store.query("app",
      "SELECT execution, max(at_us) AS at_us FROM " .. TABLE .. " WHERE execution > $1 GROUP BY execution ORDER BY execution LIMIT " .. PAGE, { last }))
    local known = statuses(rows)
    for _, row in ipairs(rows) do
      last = row.execution
      if is_over(row, known[last]) then errors.check(store.query("app", "DELETE FROM " .. TABLE .. " WHERE execution = $1", { last })) end
    end
    if #rows < PAGE then return end
  end
end

local swept_at

--- Deletes what is of no use any more, in small statements: at the start, and while there are transactions every ten minutes. In a task.
function M.sweep()
  if not (M.is_used or (runtime.worker() == 0 and not swept_at)) then return end
  if swept_at and runtime.mono() < swept_at + SWEEP_EVERY_S then return end
  swept_at = runtime.mono()
  local ok, err = errors.pcall(sweep)
  if ok then return end
  err = errors.from(err)
  if err.code == "cancelled" then error(err, 0) end
  if err.code == "unavailable" then return end
  own.forget(TABLE)
  runtime.log("warn", "workflow", "old results of transactions could not be deleted: " .. err.message)
end

return M
