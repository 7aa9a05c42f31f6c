-- SPDX-License-Identifier: MIT

--- The rows of cron jobs: cron_jobs has what a job's schedule was when a server last looked, and up to which tick it was dealt with;
--- cron_ticks has each tick and what became of it.
--
-- A tick belongs to whoever inserts its row. Statuses: "claimed" (somebody deals with it), "queued" (waits for the one before), "fired"
-- (`execution` is its run), "skipped" (`reason` says why), "manual" (somebody asked for a run now).

local errors = require "mw.errors"
local runtime = require "mw._runtime"
local store = require "mw.core.store"

local M = {}

local APP = "default"
--- A claimed tick that is still so after this long lost its node; another deals with it.
M.LOST_US = 10 * 1000000
--- Ticks that are kept for each job, and some.
M.KEEP = 1000

local function query(sql, params) return (errors.check(store.query("engine", sql, params))) end

local function number(value) return value ~= nil and tonumber(value) or nil end

--- Microseconds of the clock that the fleet shares: the database's, or on SQLite this machine's.
function M.now_us()
  if store.engine() == "sqlite" then return runtime.now_us() end
  return tonumber(query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now")[1].now)
end

--- Tells the database of a declared job. Returns { last_us, paused_by, paused_us }. A schedule that changed begins anew: nothing of the old one is
--- made up for.
function M.declare(job, now_us)
  local rows = query("INSERT INTO {{schema}}.cron_jobs AS j (app, name, expression, zone, workflow, last_tick_us, declared_us, seen_us)"
    .. " VALUES ($1, $2, $3, $4, $5, $6, $6, $6) ON CONFLICT (app, name) DO UPDATE SET"
    .. " last_tick_us = CASE WHEN j.expression = excluded.expression AND j.zone = excluded.zone THEN j.last_tick_us ELSE excluded.last_tick_us END,"
    .. " declared_us = CASE WHEN j.expression = excluded.expression AND j.zone = excluded.zone THEN j.declared_us ELSE excluded.declared_us END,"
    .. " expression = excluded.expression, zone = excluded.zone, workflow = excluded.workflow, seen_us = excluded.seen_us"
    .. " RETURNING last_tick_us, paused_by, paused_us", { APP, job.name, job.expression, job.zone, job.workflow, now_us })
  return { last_us = tonumber(rows[1].last_tick_us), paused_by = rows[1].paused_by, paused_us = number(rows[1].paused_us) }
end

--- Who paused the job, if it is; and up to where it was dealt with.
function M.read(name)
  local row = query("SELECT last_tick_us, paused_by FROM {{schema}}.cron_jobs WHERE app = $1 AND name = $2", { APP, name })[1]
  return row and tonumber(row.last_tick_us), row and row.paused_by
end

--- True when the tick is this caller's to deal with.
function M.claim(name, tick_us)
  local rows = query("INSERT INTO {{schema}}.cron_ticks (app, name, tick_us, status, at_us) VALUES ($1, $2, $3, 'claimed', $4) ON CONFLICT DO NOTHING",
    { APP, name, tick_us, runtime.now_us() })
  return tonumber(rows.affected) == 1
end

--- What became of a tick.
function M.settle(name, tick_us, status, reason, execution)
  query("UPDATE {{schema}}.cron_ticks SET status = $4, reason = $5, execution = $6, at_us = $7 WHERE app = $1 AND name = $2 AND tick_us = $3",
    { APP, name, tick_us, status, reason, execution and { id = execution }, runtime.now_us() })
end

--- A run that somebody asked for.
function M.add_manual(name, at_us, execution, actor)
  query("INSERT INTO {{schema}}.cron_ticks (app, name, tick_us, status, at_us, execution, reason) VALUES ($1, $2, $3, 'manual', $3, $4, $5) ON CONFLICT DO NOTHING",
    { APP, name, at_us, { id = execution }, "asked for by " .. actor })
end

--- The job is dealt with up to that tick; never goes back.
function M.advance(name, tick_us)
  query("UPDATE {{schema}}.cron_jobs SET last_tick_us = $3 WHERE app = $1 AND name = $2 AND last_tick_us < $3", { APP, name, tick_us })
  if runtime.random() > 0.02 then return end
  query("DELETE FROM {{schema}}.cron_ticks WHERE app = $1 AND name = $2 AND tick_us < (SELECT tick_us FROM {{schema}}.cron_ticks"
    .. " WHERE app = $1 AND name = $2 ORDER BY tick_us DESC LIMIT 1 OFFSET " .. M.KEEP .. ")", { APP, name })
end

--- Ticks that a node claimed and lost, and those that wait for the one before: { name, tick_us, status }, oldest first.
function M.open(now_us)
  local rows = query("SELECT name, tick_us, status FROM {{schema}}.cron_ticks WHERE app = $1 AND (status = 'queued' OR status = 'claimed' AND at_us < $2)"
    .. " ORDER BY tick_us LIMIT 1000", { APP, now_us - M.LOST_US })
  for _, row in ipairs(rows) do row.tick_us = tonumber(row.tick_us) end
  return rows
end

--- How many ticks of the job wait.
function M.count_queued(name)
  return tonumber(query("SELECT count(*) AS n FROM {{schema}}.cron_ticks WHERE app = $1 AND name = $2 AND status = 'queued'", { APP, name })[1].n)
end

--- An execution of the job that has not ended, other than that of `tick_us`; nil when there is none.
function M.unfinished(name, tick_us)
  local rows = query("SELECT t.execution FROM (SELECT tick_us, execution FROM {{schema}}.cron_ticks WHERE app = $1 AND name = $2 AND status IN ('fired', 'manual')"
    .. " ORDER BY tick_us DESC LIMIT 200) t JOIN {{schema}}.executions e ON e.id = t.execution WHERE e.status < 8 AND t.tick_us <> $3 LIMIT 1",
    { APP, name, tick_us })
  return rows[1] and rows[1].execution
end

--- The newest ticks of a job with their executions' times.
function M.ticks(name, limit, before_us)
  local rows = query("SELECT t.tick_us, t.status, t.reason, t.at_us, t.execution, e.status AS run_status, e.started_us, e.finished_us FROM {{schema}}.cron_ticks t"
    .. " LEFT JOIN {{schema}}.executions e ON e.id = t.execution WHERE t.app = $1 AND t.name = $2 AND t.tick_us < $3 ORDER BY t.tick_us DESC LIMIT $4",
    { APP, name, before_us or 9e15, limit })
  for _, row in ipairs(rows) do
    for _, field in ipairs { "tick_us", "at_us", "run_status", "started_us", "finished_us" } do row[field] = number(row[field]) end
  end
  return rows
end

--- All jobs the database knows: { name, expression, zone, workflow, last_us, declared_us, seen_us, paused_by, paused_us }.
function M.jobs()
  local rows = query("SELECT name, expression, zone, workflow, last_tick_us, declared_us, seen_us, paused_by, paused_us FROM {{schema}}.cron_jobs WHERE app = $1 ORDER BY name",
    { APP })
  for _, row in ipairs(rows) do
    row.last_us, row.declared_us, row.seen_us, row.paused_us =
      tonumber(row.last_tick_us), tonumber(row.declared_us), tonumber(row.seen_us), number(row.paused_us)
  end
  return rows
end

--- In a transaction: pauses the job, or lets it go on. nil when it was so already.
function M.set_paused(tx, name, actor, now_us)
  local where = actor and "paused_by IS NULL" or "paused_by IS NOT NULL"
  local rows, err = tx:query("UPDATE {{schema}}.cron_jobs SET paused_by = $3, paused_us = $4, last_tick_us = CASE WHEN $5 = 1 THEN last_tick_us ELSE $6 END"
    .. " WHERE app = $1 AND name = $2 AND " .. where, { APP, name, actor, actor and now_us or nil, actor and 1 or 0, now_us })
  if not rows then return nil, err end
  return tonumber(rows.affected)
end

return M
