-- SPDX-License-Identifier: MIT

--- A run's history as one JSON document: to keep it, to show it to somebody, to look at it on another server. export gives it, import takes it.
--
--   history.export(id, { code = true })                -- JSON text
--   history.import(who, text, { resume = false })      -- { id, created, status }
--
--   { "format": "moonwatch.execution", "version": 1, "exported_at": "…",
--     "execution": { "id": …, "workflow": …, "status": "failed", "input": …, … },       times are microseconds since 1970
--     "journal": [ { "number": 1, "at_us": …, "data": "1\n{…}" } ],
--     "signals": [ { "id": …, "name": …, "data": "{…}", "sent_us": …, "actor": …, "taken_us": … } ],
--     "code": { HASH: "…" } }                             the bundle it is pinned to, and its sources
--
-- An imported run keeps its id, since its random numbers and those of its children come from it. One that is here already, the same by its
-- seed, stays as it is. What had ended is history; what had not lands paused, so that nothing runs twice by surprise: `resume` lets it go on at
-- once. history_check.lua tests every part of a document before anything is stored.

local audit = require "mw.audit"
local actions = require "mw.runs.actions"
local change = require "mw.runs.change"
local check = require "mw.runs.history_check"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local json = require "mw.core.json"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local scopes = require "mw.access.scopes"
local status = require "mw.workflow.status"
local store = require "mw.core.store"

local M = {}

M.FORMAT, M.VERSION = "moonwatch.execution", 1
--- Largest document, either way.
M.MAX_BYTES = 15 * 1024 * 1024

local PAGE = 200
local COLUMNS = "id, workflow, external_id, status, due_us, priority, group_key, group_slots, tags, state, waits, parent, parent_key, bundle, api_level, seed,"
  .. " input, output, error, created_us, started_us, finished_us, fence"
local NUMBERS = { "due_us", "priority", "group_slots", "api_level", "created_us", "started_us", "finished_us" }
local TEXTS = { "tags", "state", "input", "output", "error" } -- JSON, kept byte for byte
local NEVER_US = 2 ^ 62

local function select(sql, params) return (errors.check(store.query("engine", sql, params, 30))) end

-- ---- export ----

local function boxed(text) return text ~= nil and json.box(text) or nil end

local function shown(row)
  local out = {}
  for name, value in pairs(row) do out[name] = value end
  for _, name in ipairs(NUMBERS) do out[name] = row[name] ~= nil and tonumber(row[name]) or nil end
  for _, name in ipairs(TEXTS) do out[name] = boxed(row[name]) end
  out.status, out.fence = status.name(tonumber(row.status)), nil
  if out.due_us and out.due_us >= NEVER_US then out.due_us = nil end
  return out
end

local function too_large(size)
  errors.throw("limit", string.format("the history is more than %d MiB, which is the most a document holds", size / 1024 / 1024))
end

local function read_journal(id, budget)
  local list, last, bytes = json.array {}, 0, 0
  repeat
    local rows = select("SELECT number, at_us, data FROM {{schema}}.journal WHERE execution = $1 AND number > $2 ORDER BY number LIMIT " .. PAGE,
      { { id = id }, last })
    for _, row in ipairs(rows) do
      last, bytes = tonumber(row.number), bytes + #row.data
      list[#list + 1] = { number = last, at_us = tonumber(row.at_us), data = row.data }
    end
    if bytes > budget then too_large(budget) end
  until #rows < PAGE
  return list
end

local function read_signals(id)
  local list = json.array {}
  for i, row in ipairs(select("SELECT id, name, data, sent_us, actor, taken_us FROM {{schema}}.signals WHERE execution = $1 ORDER BY sent_us, id", { { id = id } })) do
    row.sent_us, row.taken_us = tonumber(row.sent_us), row.taken_us and tonumber(row.taken_us) or nil
    list[i] = row
  end
  return list
end

-- The manifest and its sources; what is not in the code store is left out.
local function read_code(bundle)
  local code = {}
  local text = errors.check(store.get_code(bundle))
  if not text then return code end
  code[bundle] = text
  local manifest = json.decode(text)
  for _, hash in pairs(type(manifest) == "table" and manifest.files or {}) do code[hash] = errors.check(store.get_code(hash)) end
  return code
end

function M.export(id, opts)
  if not filter.is_id(id) then change.not_found(id) end
  id = id:lower()
  local row = select("SELECT " .. COLUMNS .. " FROM {{schema}}.executions WHERE app = $1 AND id = $2", { "default", { id = id } })[1]
  if not row then change.not_found(id) end
  local text = errors.check(json.encode({
    format = M.FORMAT, version = M.VERSION, exported_at = runtime.format_time(runtime.now_us()), execution = shown(row),
    journal = read_journal(id, M.MAX_BYTES), signals = read_signals(id), code = opts.code and read_code(row.bundle) or {},
  }, { sort = true, name = "the history" }))
  if #text > M.MAX_BYTES then too_large(M.MAX_BYTES) end
  return text
end

-- ---- import ----

-- What the code store lacks of the document's code. Code runs when the run goes on, so new code is taken only from whom may do everything.
local function store_code(who, doc)
  local missing = {}
  for hash, text in pairs(doc.code) do
    if not errors.check(store.get_code(hash)) then missing[#missing + 1] = { hash = hash, text = text } end
  end
  if #missing == 0 then return end
  if not scopes.allow(who.scopes, "*") then
    errors.throw("denied", "the document has code that this server does not have, which only a key with every scope may bring", {
      status = 403, hint = "import it with the server's token or on the socket, or export it without its code",
    })
  end
  errors.check(store.put_code(missing))
end

local function insert_rows(tx, sql, columns, rows, values_of)
  for first = 1, #rows, PAGE do
    local params, places = {}, {}
    for i = first, math.min(#rows, first + PAGE - 1) do
      local values, marks = values_of(rows[i]), {}
      for k = 1, columns do
        params[(i - first) * columns + k] = values[k] == nil and json.null or values[k]
        marks[k] = "$" .. (i - first) * columns + k
      end
      places[#places + 1] = "(" .. table.concat(marks, ", ") .. ")"
    end
    errors.check(tx:query(sql .. " VALUES " .. table.concat(places, ", "), params))
  end
end

local function insert_run(tx, run, to)
  errors.check(tx:query("INSERT INTO {{schema}}.executions (id, app, workflow, external_id, status, fence, due_us, priority, group_key, group_slots, tags,"
    .. " state, waits, parent, parent_key, bundle, api_level, seed, input, output, error, created_us, started_us, finished_us, control, signalled)"
    .. " VALUES ($1, 'default', $2, $3, $4, 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, 1)", {
      { id = run.id }, run.workflow, run.external_id, to, run.due_us or 0, run.priority or 0, run.group_key, run.group_slots, run.tags, run.state, run.waits,
      run.parent and { id = run.parent }, run.parent_key, run.bundle, run.api_level or 1, run.seed, run.input, run.output, run.error, run.created_us,
      run.started_us, run.finished_us, status.is_final(to) and 0 or R.PAUSE,
    }))
end

local function insert(tx, doc, to)
  local run = doc.execution
  insert_run(tx, run, to)
  insert_rows(tx, "INSERT INTO {{schema}}.journal (execution, number, fence, at_us, data)", 5, doc.journal, function(row)
    return { { id = run.id }, row.number, 1, row.at_us, row.data }
  end)
  if status.is_final(to) then return end -- a run's signals go with its end
  insert_rows(tx, "INSERT INTO {{schema}}.signals (execution, id, name, data, sent_us, actor, taken_us)", 7, doc.signals, function(row)
    return { { id = run.id }, row.id, row.name, row.data, row.sent_us, row.actor, row.taken_us }
  end)
end

local function conflict(...) errors.throw("conflict", string.format(...)) end

-- The run when it is here already.
local function find(run)
  local row = select("SELECT seed, status FROM {{schema}}.executions WHERE id = $1", { { id = run.id } })[1]
  if row and row.seed ~= run.seed then conflict("another execution has the id %s here", run.id) end
  if row then return { id = run.id, created = false, status = status.name(tonumber(row.status)) } end
  if not run.external_id then return nil end
  row = select("SELECT id FROM {{schema}}.executions WHERE app = 'default' AND workflow = $1 AND external_id = $2", { run.workflow, run.external_id })[1]
  if row then conflict("execution %s of %q has the id %q of yours here", row.id, run.workflow, run.external_id) end
end

function M.import(who, text, opts)
  if #text > M.MAX_BYTES then errors.throw("limit", string.format("the document is more than %d MiB", M.MAX_BYTES / 1024 / 1024)) end
  local doc = check.document(text)
  local run = doc.execution
  local there = find(run)
  if there then return there end
  store_code(who, doc)
  local to = status.is_final(run.status) and run.status or status.PAUSED
  local note = { actor = who.actor, action = "execution.imported", subject = "execution " .. run.id, after = { was = status.name(run.status), status = status.name(to) } }
  audit.change(note, function(tx)
    insert(tx, doc, to)
    return true
  end)
  if opts.resume and not status.is_final(to) then return { id = run.id, created = true, status = actions.resume(who, run.id).status } end
  return { id = run.id, created = true, status = status.name(to) }
end

return M
