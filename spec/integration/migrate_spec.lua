-- SPDX-License-Identifier: MIT
-- The schema of a used database goes down and up again: what an older version knows keeps its rows, on both engines.

local dkjson = require "dkjson"
local posix = require "support.posix"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("w", { { name = "a", run = function(ctx) return { n = ctx.input.n } end }, { name = "b", run = function() return {} end } })
]==]

-- What each engine answers to the same questions.
local engines = {
  {
    name = "SQLite",
    open = function(dir) return { args = { "--data", dir .. "/data" }, data = dir .. "/data", file = dir .. "/data/moonwatch.db" } end,
    ask = function(db, sql) return server.sqlite(db.file, sql) end,
    tables = "SELECT group_concat(name) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
    columns = "SELECT group_concat(name) FROM pragma_table_info('%s')",
    rows = function(name, columns)
      local quoted = {}
      for i, column in ipairs(columns) do quoted[i] = ("quote(%s)"):format(column) end
      return ("SELECT group_concat(t, '\n') FROM (SELECT %s AS t FROM %s ORDER BY 1)"):format(table.concat(quoted, "||','||"), name)
    end,
    prefix = "",
  },
  {
    name = "PostgreSQL",
    open = function(dir)
      local url = os.getenv("MW_TEST_DATABASE_URL")
      if not url then return nil end
      url = server.fresh_database(url)
      return { args = { "--data", dir .. "/data", "--database", url }, data = dir .. "/data", url = url }
    end,
    ask = function(db, sql) return server.postgres(db.url, sql) end,
    tables = "SELECT string_agg(table_name, ',') FROM information_schema.tables WHERE table_schema = 'moonwatch' AND table_type = 'BASE TABLE'",
    columns = "SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_schema = 'moonwatch' AND table_name = '%s'",
    rows = function(name, columns)
      return ("SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM (SELECT %s FROM moonwatch.%s) t"):format(table.concat(columns, ", "), name)
    end,
    prefix = "moonwatch.",
  },
}

for _, engine in ipairs(engines) do
  describe("migrate on " .. engine.name, function()
    local dir, db
    before_each(function()
      dir = posix.temp_dir()
      db = engine.open(dir)
    end)
    after_each(function() posix.remove_dir(dir) end)

    local function migrate(...)
      local args = { "migrate", ... }
      for _, arg in ipairs(db.args) do args[#args + 1] = arg end
      return server.command(args, { dir = dir })
    end

    local function applied()
      local code, text = migrate("status", "--json")
      assert.equal(0, code, text)
      local count, list = 0, dkjson.decode(text)
      for _, one in ipairs(list) do count = count + (one.applied and 1 or 0) end
      return count, #list
    end

    local function list(sql)
      local items = {}
      for item in (engine.ask(db, sql) or ""):gmatch("[^,]+") do items[#items + 1] = item end
      table.sort(items)
      return items
    end

    -- Table -> its columns.
    local function shape()
      local found = {}
      for _, name in ipairs(list(engine.tables)) do
        if name ~= "schema_migrations" then found[name] = list(engine.columns:format(name)) end
      end
      return found
    end

    -- Rows of the tables and columns in `of`.
    local function content(of)
      local all = {}
      for name, columns in pairs(of) do all[name] = engine.ask(db, engine.rows(name, columns)) or "" end
      return all
    end

    -- A database as a server leaves it behind.
    local function use()
      local s = server.start { plugins = { ["w.lua"] = plugin }, data = db.data, database = db.url }
      for i = 1, 20 do s:post("/api/trigger", { json = { name = "w", input = { n = i } }, headers = { ["idempotency-key"] = "k" .. i } }) end
      s:wait(function() return s:get("/api/v1/executions?status=completed").json().total == 20 end, 20, "the executions")
      s:stop()
    end

    it("goes down a step and up again, and keeps the rows that both versions know", function()
      if not db then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
      use()
      local count, known = applied()
      assert.equal(known, count)
      for steps = 1, known - 1 do
        local before_shape = shape()
        local whole = content(before_shape)
        local code, text = migrate("down", "--steps", tostring(steps))
        assert.equal(0, code, text)
        assert.equal(known - steps, (applied()))
        local older = shape()
        for name in pairs(older) do assert.is_table(before_shape[name], "table " .. name .. " appeared by going down") end
        local kept = content(older)
        assert.is_true(#kept.executions > 100)
        code, text = migrate "up"
        assert.equal(0, code, text)
        assert.same(before_shape, shape())
        assert.same(kept, content(older))
        if steps == 1 then
          for name, rows in pairs(kept) do
            if #older[name] == #before_shape[name] then assert.equal(whole[name], rows, "rows of " .. name) end
          end
        end
      end
      local s = server.start { plugins = { ["w.lua"] = plugin }, data = db.data, database = db.url }
      assert.equal(20, s:get("/api/v1/executions?status=completed").json().total)
      s:stop()
    end)

    it("goes all the way down and up to an empty database that serves", function()
      if not db then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
      use()
      local known = applied()
      local code, text = migrate("down", "--steps", "1000")
      assert.equal(0, code, text)
      assert.same({}, shape())
      if db.file then assert.equal("20", server.sqlite(db.file .. ".before-migration", "SELECT count(*) FROM executions")) end
      assert.equal(0, (migrate "up"))
      assert.equal(known, (applied()))
      use()
    end)

    it("is refused, as serving is, when the schema is newer than the program", function()
      if not db then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
      assert.equal(0, (migrate "up"))
      engine.ask(db, ("INSERT INTO %sschema_migrations VALUES (9999, 'future', 'x', 1)"):format(engine.prefix))
      for _, how in ipairs { "up", "down" } do
        local code, text = migrate(how)
        assert.equal(1, code)
        assert.matches("at version 9999 and this program knows versions up to %d+: use the newer program", text)
      end
      local args = { "serve", "--listen", "127.0.0.1:0" }
      for _, arg in ipairs(db.args) do args[#args + 1] = arg end
      local code, text = server.command(args, { dir = dir })
      assert.equal(1, code)
      assert.matches("use the newer program", text)
    end)

    it("by several processes at once applies each step once", function()
      if not db then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
      local pending_, done = {}, 0
      for i = 1, 4 do
        local from, to = posix.pipe()
        pending_[i] = { from = from, pid = posix.fork(function()
          local code, text = migrate "up"
          posix.write(to, (code == 0 or text:find("in use by process", 1, true)) and "y" or text)
          posix.exit(code)
        end) }
        posix.close(to)
      end
      for _, one in ipairs(pending_) do
        local text = posix.read(one.from)
        posix.close(one.from)
        if posix.wait_exit(one.pid, 30) == 0 then done = done + 1 end
        assert.equal("y", text)
      end
      assert.is_true(done >= 1)
      local count, known = applied()
      assert.equal(known, count)
    end)
  end)
end
