-- SPDX-License-Identifier: MIT

--- tx:trigger: a run that exists only if the rows of the plugin's transaction do.
--
-- The start is a row of the table moonwatch_outbox in the application's database, with the run's id fixed in it, written in the user's transaction.
-- After the commit it is passed on to the engine at once, and at the next start, or within a minute by any node, when the server was
-- killed in between. Passing it on twice creates one run, because the id is the same.

local core = require "mw.core.task"
local errors = require "mw.errors"
local options = require "mw.workflow.trigger"
local payload = require "mw.workflow.payload"
local registry = require "mw._registry"
local runtime = require "mw._runtime"
local store = require "mw.core.store"
local validate = require "mw.validate"

local M = {
  every_s = 60, -- for what another server left; mw.testing has none
}

local BATCH = 100
local SETTLED_US = 5e6 -- younger ones are their own server's to pass on

-- Made in the transaction that first needs it: on SQLite nobody else may write meanwhile.
local TABLE = [[CREATE TABLE IF NOT EXISTS moonwatch_outbox (
  id TEXT NOT NULL PRIMARY KEY, workflow TEXT NOT NULL, input TEXT, external_id TEXT, group_key TEXT, priority INTEGER, tags TEXT, due_us BIGINT,
  at_us BIGINT NOT NULL)]]
local is_there = false

--- Writes the start into the transaction `query` belongs to. Returns {id = …}; raises as mw.trigger does.
function M.add(query, name, input, opts)
  validate.arg("tx:trigger", 1, "name", name, "string")
  opts = options.check("tx:trigger", validate.options("tx:trigger", opts, options.options))
  if not registry.workflows[name] then
    local near = validate.nearest(name, registry.workflows)
    errors.throw("not_found", "workflow not found: " .. name, { hint = near and string.format("did you mean %q?", near) or nil })
  end
  local text, err = payload.encode(input, "input")
  if err then errors.throw("invalid", "tx:trigger: " .. err.message) end
  local id = runtime.uuid()
  if not is_there then query(TABLE) end
  query("INSERT INTO moonwatch_outbox (id, workflow, input, external_id, group_key, priority, tags, due_us, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    { id, name, text, opts.id, opts.group, opts.priority, opts.tags, opts.due_us and math.floor(opts.due_us), math.floor(runtime.now_us()) })
  return { id = id }
end

local COLUMNS = "id, workflow, input, external_id, group_key, priority, tags, due_us"

local function pass_on(row)
  local made, err = require("mw.workflow").create(row.workflow, row.input, {
    child_id = row.id, id = row.external_id, group = row.group_key, priority = tonumber(row.priority), tags = row.tags, due_us = tonumber(row.due_us),
  })
  if not made and err.retryable then errors.raise(err) end
  if not made then
    runtime.log("error", "workflow", string.format("execution %s of %q, which a transaction started, cannot be: %s", row.id, row.workflow, err.message))
    if err.code == "not_found" then return false end -- its plugin may come back
  end
  errors.check(store.query("app", "DELETE FROM moonwatch_outbox WHERE id = $1", { row.id }))
  return true
end

--- Passes on the starts of a transaction that has just committed. What fails is done later.
function M.flush(ids)
  is_there = true
  for _, id in ipairs(ids) do
    local rows = store.query("app", "SELECT " .. COLUMNS .. " FROM moonwatch_outbox WHERE id = $1", { id })
    if not rows then return end
    if rows[1] and not errors.pcall(pass_on, rows[1]) then return end
  end
end

local function sweep()
  local rows = store.query("app", "SELECT " .. COLUMNS .. " FROM moonwatch_outbox WHERE at_us < $1 ORDER BY at_us LIMIT " .. BATCH,
    { math.floor(runtime.now_us() - SETTLED_US) })
  for _, row in ipairs(rows or {}) do
    local ok, err = errors.pcall(pass_on, row)
    if not ok and errors.from(err).code == "cancelled" then error(err, 0) end
  end
end

local parked, stopped

--- Passes on what was left, now and then, until `stop`; in a task, on one worker.
function M.start()
  while core.is_current() and not stopped do
    sweep() -- without the table it finds nothing
    if stopped then return end
    parked = core.token()
    local _, err = core.park("outbox", M.every_s)
    parked = nil
    if err and err.code ~= "timeout" then return end
  end
end

function M.stop()
  stopped = true
  if parked then core.wake(parked) end
end

return M
