-- SPDX-License-Identifier: MIT
-- The engine's database of a running server, by the database's own command line: what the API does not show, and states that no workflow
-- can be brought into at will.
--
--   local db = require("support.engine_db").of(s)              -- s: support.server
--   db.value("SELECT status FROM EXECUTIONS WHERE id = ID('0192…')")
--   db.run("UPDATE EXECUTIONS SET status = 4 WHERE …")
--
-- Names in capitals stand for the schema's tables: EXECUTIONS, JOURNAL, SIGNALS, AUDIT, CHANGES, GROUPS; ID('…') for an id as the engine keeps it.

local M = {}

local tables = {
  EXECUTIONS = "executions", JOURNAL = "journal", SIGNALS = "signals", AUDIT = "audit", CHANGES = "changes", GROUPS = "workflow_groups", CODE = "code",
}

local function read(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo \"=$?\""))
  local text = pipe:read("*a")
  pipe:close()
  local out, code = text:match("^(.-)=(%d+)\n$")
  assert(code == "0", "the database refused: " .. tostring(out))
  return (out:gsub("\n$", ""))
end

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

---True when the client program that `url` (nil: SQLite) needs is there.
function M.is_there(url) return os.execute("command -v " .. (url and "psql" or "sqlite3") .. " >/dev/null 2>&1") == 0 end

function M.of(s)
  local url = s.opts.database
  local function prepare(sql)
    sql = sql:gsub("%f[%w_](%u+)%f[^%w_]", function(name)
      return tables[name] and (url and "moonwatch." or "") .. tables[name] or nil
    end)
    return (sql:gsub("ID%('([%x%-]+)'%)", function(id)
      return url and "'" .. id .. "'::uuid" or "x'" .. id:gsub("-", "") .. "'"
    end))
  end
  local db = {}
  ---The rows as text, columns joined by `|`, one a line.
  function db.run(sql)
    sql = prepare(sql)
    if url then return read("psql -XAtq -v ON_ERROR_STOP=1 -c " .. quote(sql) .. " " .. quote(url)) end
    return read("sqlite3 -cmd '.timeout 5000' " .. quote(s.data .. "/moonwatch.db") .. " " .. quote(sql))
  end
  ---The only value, as text.
  db.value = db.run
  return db
end

return M
