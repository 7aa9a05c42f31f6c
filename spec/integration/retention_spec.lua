-- SPDX-License-Identifier: MIT
-- Ended runs are deleted when they are older than their workflow keeps them.

local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("short", { { name = "a", run = function(ctx) if ctx.input == "bad" then error("bad") end end } }, { keep = { completed = "1h" }, retries = 0 })
  mw.workflow("plain", { { name = "a", run = function() end } })
  mw.workflow("paced", { { name = "a", run = function() end } }, { concurrency = 2 })
  mw.workflow("rare", { { name = "a", run = function() end } }, { rate = { max = 1, window = "1d" } })
  mw.workflow("asks", function(ctx) ctx:wait_for("go") end, { keep = 0 })
]==]

engines.describe("retention on ", function(engine)
  local s

  setup(function()
    s = server.start {
      plugins = { ["p.lua"] = plugin }, database = engine.fresh(), args = { "--workers", "1" },
    }
  end)
  teardown(function()
    s:stop()
    s:clean()
  end)

  local function sql(text)
    if engine.url then return server.postgres(s.opts.database, text) end
    return server.sqlite_exec(s.data .. "/moonwatch.db", text)
  end

  local function start(workflow, input) return s:post("/api/v1/executions?wait=" .. (workflow == "asks" and 0.2 or 5), { json = { workflow = workflow, input = input } }).json().id end
  local function is_there(id) return s:get("/api/v1/executions/" .. id).status == 200 end

  -- As if it had been made, and had ended, so many days ago; returns its new id.
  local function age(id, days)
    local schema = engine.url and "moonwatch." or ""
    local old = ("%012x"):format(math.floor((os.time() - days * 86400) * 1000))
    local new = old:sub(1, 8) .. "-" .. old:sub(9, 12) .. id:sub(14)
    local function text(value) return engine.url and ("'%s'"):format(value) or ("x'%s'"):format((value:gsub("-", ""))) end
    local us = (os.time() - days * 86400) * 1e6
    sql(("UPDATE %sjournal SET execution = %s WHERE execution = %s"):format(schema, text(new), text(id)))
    sql(("UPDATE %sexecution_tags SET execution = %s WHERE execution = %s"):format(schema, text(new), text(id)))
    sql(("UPDATE %sexecutions SET id = %s, created_us = %.0f, finished_us = CASE WHEN finished_us IS NULL THEN NULL ELSE %.0f END WHERE id = %s")
      :format(schema, text(new), us, us, text(id)))
    return new
  end

  it("deletes what is older than its workflow keeps it, and nothing else", function()
    local tagged = s:post("/api/v1/executions?wait=5", { json = { workflow = "plain", tags = { "old", "eu", "old" } } }).json().id
    assert.equal(1, s:get("/api/v1/executions?tag=old").json().total)
    local gone = { age(start("short"), 1), age(start("plain"), 31), age(tagged, 31) }
    local kept = { start("short"), age(start("short", "bad"), 1), age(start("plain"), 29), age(start("asks"), 400) }
    assert.equal(3, s:post("/api/v1/executions/sweep", { json = {} }).json().deleted)
    assert.equal(0, s:post("/api/v1/executions/sweep", { json = {} }).json().deleted)
    local rows = sql("SELECT count(*) FROM " .. (engine.url and "moonwatch." or "") .. "journal")
    assert.is_truthy(rows == nil or tonumber(tostring(rows):match("%d+")) == 4)
    engine_db.of(s).check_totals()
    assert.equal("0", engine_db.of(s).value "SELECT count(*) FROM TAGS WHERE execution NOT IN (SELECT id FROM EXECUTIONS)")
    for _, id in ipairs(gone) do assert.is_false(is_there(id)) end
    for _, id in ipairs(kept) do assert.is_true(is_there(id), id) end
  end)

  it("deletes groups that no run is in, and whose rate holds nobody back", function()
    local db = engine_db.of(s)
    local function start_in(workflow, group)
      local id = s:post("/api/v1/executions", { json = { workflow = workflow, group = group } }).json().id
      if workflow ~= "asks" then s:reach(id, "completed") end
    end
    for i = 1, 3 do start_in("paced", "empty-" .. i) end
    start_in("asks", "taken")
    start_in("rare", "rated")
    s:post("/api/v1/executions/sweep", { json = {} })
    assert.equal("rated\ntaken", db.run "SELECT group_key FROM GROUPS ORDER BY group_key")
    start_in("paced", "empty-1")
    assert.equal("0", db.value "SELECT running FROM GROUPS WHERE group_key = 'empty-1'")
  end)
end)
