-- SPDX-License-Identifier: MIT

--- Pauses of a workflow, or of everything: its runs stop at their next step, and none begins; starts are accepted and queued. What waits goes on
-- waiting, and signals are taken down. Kept in the database, so that they hold over restarts and on every node.
--
--   pauses.set(who, "checkout", true)      -- { workflow, paused, changed }; "*": everything
--   pauses.start()                         -- when the engine begins: serve --paused, and what is in the database
--   pauses.load()                          -- reads them into this worker's engine
--   pauses.list()                          -- { { workflow, actor, at_us }, … }
--
-- A node hears of a change at once (store.notify), or when it looks after five seconds.

local audit = require "mw.audit"
local engine = require "mw.workflow.engine"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local store = require "mw.core.store"

local M = {}

--- What tell_control and store.notify say for a change of these.
M.SIGN = "*"

local APP = "default"
local INSERT = "INSERT INTO {{schema}}.workflow_pauses (app, workflow, actor, at_us) VALUES ($1, $2, $3, $4) ON CONFLICT (app, workflow) DO NOTHING"
local DELETE = "DELETE FROM {{schema}}.workflow_pauses WHERE app = $1 AND workflow = $2"
local UNCHANGED = {}

function M.list()
  local rows = errors.check(store.query("engine", "SELECT workflow, actor, at_us FROM {{schema}}.workflow_pauses WHERE app = $1 ORDER BY workflow", { APP }))
  for _, row in ipairs(rows) do row.at_us = tonumber(row.at_us) end
  return rows
end

function M.load()
  local paused = {}
  for _, row in ipairs(M.list()) do paused[row.workflow] = true end
  engine.set_paused(paused)
end

local asked = false

--- Before the engine begins: with `serve --paused` everything is paused first, once a process.
function M.start()
  if not asked and runtime.config("paused") and runtime.generation() == 1 then M.set({ actor = "serve --paused" }, "*", true) end
  asked = true
  M.load()
end

-- All workers of this node, and the others.
local function tell()
  M.load()
  runtime.tell_control(M.SIGN)
  store.notify(M.SIGN)
  runtime.wake_engines(0)
  store.notify()
end

local function change(who, workflow, is_paused)
  local note = { actor = who.actor, action = is_paused and "workflow.paused" or "workflow.resumed", subject = "workflow " .. workflow }
  return audit.change(note, function(tx)
    local rows
    if is_paused then rows = errors.check(tx:query(INSERT, { APP, workflow, who.actor, math.floor(runtime.now_us()) }))
    else rows = errors.check(tx:query(DELETE, { APP, workflow })) end
    if rows.affected == 0 then error(UNCHANGED, 0) end
    return true
  end)
end

--- Pauses it, or takes that back; doing it twice is the same as once.
function M.set(who, workflow, is_paused)
  local ok, err = errors.pcall(change, who, workflow, is_paused)
  if not ok and err ~= UNCHANGED then error(err, 0) end
  if ok then tell() end
  return { workflow = workflow, paused = is_paused, changed = ok }
end

return M
