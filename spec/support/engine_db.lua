-- SPDX-License-Identifier: MIT
-- The engine's database of a running server: what the API does not show, and states that no workflow can be brought into at will.
--
--   local db = require("support.engine_db").of(s)              -- s: support.server
--   db.run("SELECT name, data FROM SIGNALS WHERE execution = ID('0192…')")      -- rows as text: columns joined by |, one a line
--   db.run("UPDATE EXECUTIONS SET status = 4 WHERE …")
--
--   db.app("SELECT count(*) FROM payments")                    -- the application's database
--   db.check_totals()                                          -- the counters of executions are what there is
--   local release = db.hold("journal")                         -- until release() nothing can be written there
--
-- Names in capitals stand for the schema's tables: EXECUTIONS, JOURNAL, SIGNALS, AUDIT, CHANGES, GROUPS, CODE, PAUSES, TOTALS, TAGS; ID('…') for an id as
-- the engine keeps it.

local ffi = require "ffi"
require "support.server" -- declares the functions of both databases

require("support.cdef").define [[
int PQnfields(const void *result);
int PQgetisnull(const void *result, int row, int column);
int sqlite3_column_count(void *stmt);
const char *sqlite3_errmsg(void *db);
]]

local M = {}

local tables = {
  EXECUTIONS = "executions", JOURNAL = "journal", SIGNALS = "signals", AUDIT = "audit", CHANGES = "changes", GROUPS = "workflow_groups", CODE = "code",
  PAUSES = "workflow_pauses", TOTALS = "execution_totals", TAGS = "execution_tags",
}

local function join(columns, rows, cell)
  local lines = {}
  for row = 0, rows - 1 do
    local cells = {}
    for column = 0, columns - 1 do cells[column + 1] = cell(row, column) end
    lines[#lines + 1] = table.concat(cells, "|")
  end
  return table.concat(lines, "\n")
end

local function run_postgres(url, sql)
  local C = ffi.load "libpq.so.5"
  local conn = C.PQconnectdb(url)
  assert(C.PQstatus(conn) == 0, ffi.string(C.PQerrorMessage(conn)))
  local result = C.PQexec(conn, sql)
  local status, why = C.PQresultStatus(result), ffi.string(C.PQerrorMessage(conn))
  local text = status == 2 and join(C.PQnfields(result), C.PQntuples(result), function(row, column)
    return C.PQgetisnull(result, row, column) == 1 and "" or ffi.string(C.PQgetvalue(result, row, column))
  end) or ""
  C.PQclear(result)
  C.PQfinish(conn)
  assert(status == 1 or status == 2, sql .. ": " .. why)
  return text
end

local function run_sqlite(path, sql)
  local C = ffi.C
  local db, stmt, lines = ffi.new("void *[1]"), ffi.new("void *[1]"), {}
  assert(C.sqlite3_open_v2(path, db, 2, nil) == 0, "open " .. path)
  C.sqlite3_busy_timeout(db[0], 5000) -- the server writes too
  local code = C.sqlite3_prepare_v2(db[0], sql, -1, stmt, nil)
  while code == 0 do
    code = C.sqlite3_step(stmt[0])
    if code ~= 100 then break end
    lines[#lines + 1] = join(C.sqlite3_column_count(stmt[0]), 1, function(_, column)
      local value = C.sqlite3_column_text(stmt[0], column)
      return value ~= nil and ffi.string(value) or ""
    end)
    code = 0
  end
  local why = ffi.string(C.sqlite3_errmsg(db[0]))
  C.sqlite3_finalize(stmt[0])
  C.sqlite3_close(db[0])
  assert(code == 101, sql .. ": " .. why)
  return table.concat(lines, "\n")
end

local function hold_postgres(url, sql)
  local C = ffi.load "libpq.so.5"
  local conn = C.PQconnectdb(url)
  C.PQclear(C.PQexec(conn, sql))
  return function() C.PQfinish(conn) end
end

local function hold_sqlite(path)
  local C = ffi.C
  local db, stmt = ffi.new("void *[1]"), ffi.new("void *[1]")
  assert(C.sqlite3_open_v2(path, db, 2, nil) == 0, "open " .. path)
  C.sqlite3_busy_timeout(db[0], 5000)
  assert(C.sqlite3_prepare_v2(db[0], "BEGIN IMMEDIATE", -1, stmt, nil) == 0)
  local code = C.sqlite3_step(stmt[0])
  C.sqlite3_finalize(stmt[0])
  assert(code == 101, "BEGIN IMMEDIATE: " .. code)
  return function() C.sqlite3_close(db[0]) end
end

function M.of(s)
  local url = s.direct or s.opts.database -- direct: where the server has a proxy before it
  local function prepare(sql)
    sql = sql:gsub("%f[%w_](%u+)%f[^%w_]", function(name)
      return tables[name] and (url and "moonwatch." or "") .. tables[name] or nil
    end)
    return (sql:gsub("ID%('([%x%-]+)'%)", function(id)
      return url and "'" .. id .. "'::uuid" or "x'" .. id:gsub("-", "") .. "'"
    end))
  end
  local db = {}
  function db.run(sql)
    sql = prepare(sql)
    if url then return run_postgres(url, sql) end
    return run_sqlite(s.data .. "/moonwatch.db", sql)
  end
  ---The only value, as text.
  db.value = db.run
  function db.app(sql)
    if url then return run_postgres(url, sql) end
    return run_sqlite(s.data .. "/app.db", sql)
  end
  ---In one statement, so that it holds while others write.
  function db.check_totals()
    local counted = "SELECT app, workflow, status, count(*) AS total FROM EXECUTIONS GROUP BY app, workflow, status"
    local kept = "SELECT app, workflow, status, total FROM TOTALS"
    local wrong = db.run(("SELECT 'counters', x.* FROM (%s EXCEPT %s) AS x UNION ALL SELECT 'executions', y.* FROM (%s EXCEPT %s) AS y"):format(kept, counted,
      counted, kept))
    assert(wrong == "", "what the counters have and what there is differ:\n" .. wrong)
  end
  ---Keeps others from writing to a table of the schema (SQLite: to the file). Returns what ends that.
  function db.hold(name)
    if url then return hold_postgres(url, "BEGIN; LOCK TABLE moonwatch." .. name .. " IN EXCLUSIVE MODE") end
    return hold_sqlite(s.data .. "/moonwatch.db")
  end
  return db
end

return M
