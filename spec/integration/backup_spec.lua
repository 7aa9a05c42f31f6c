-- SPDX-License-Identifier: MIT
-- A backup is taken while executions run, and restored elsewhere every execution of it finishes, without a finished step running again.

local ffi = require "ffi"
local posix = require "support.posix"
local server = require "support.server"
local upstream = require "support.upstream"

-- Each step calls out, so that the spec sees it, and leaves a row in the application's database before its result is recorded.
local plugin = [==[
  local mw = require "mw"
  local url = mw.env.APP_UPSTREAM
  local number = 0
  local function step(name)
    return { name = name, retries = 20, backoff = { initial = "50ms", max = "200ms" }, run = function(ctx)
      if name == "d" then mw.sleep("200ms") end
      mw.fetch(url .. "/" .. name, { method = "POST", json = { run = ctx.id } }):ok()
      mw.query("INSERT INTO effects (run, step) VALUES ($1, $2)", { ctx.id, name })
      return { padding = ("x"):rep(2000) }
    end }
  end
  mw.workflow("listed", { step "a", step "b", step "c", step "d" })
  mw.get("/prepare", function(_, res)
    mw.query("CREATE TABLE IF NOT EXISTS effects (run TEXT NOT NULL, step TEXT NOT NULL)")
    res:text("ok")
  end)
  mw.get("/go", function(_, res) res:json { id = mw.trigger("listed", {}).id } end)
  mw.get("/effects", function(_, res)
    res:json(mw.query("SELECT run, step FROM effects"))
  end)
]==]

local steps = { "a", "b", "c", "d" }
local after = { a = 1, b = 2, c = 3, d = 4 }

local function start(opts)
  opts.plugins = { ["work.lua"] = plugin }
  opts.args = { "--workers", "2" }
  return server.start(opts)
end

-- The steps that had surely been finished when `calls` were all there were: those after which a later one was called.
local function finished(calls)
  local reached, done = {}, {}
  for _, call in ipairs(calls) do
    local run, step = call.json.run, call.path:sub(2)
    if after[step] > (reached[run] or 0) then reached[run] = after[step] end
  end
  for run, last in pairs(reached) do
    for i = 1, last - 1 do done[run .. "/" .. steps[i]] = true end
  end
  return done
end

local function executions(s)
  local list, cursor = {}, nil
  repeat
    local page = s:get("/api/v1/executions?limit=100" .. (cursor and "&cursor=" .. cursor or "")).json()
    for _, one in ipairs(page.items) do list[#list + 1] = one end
    cursor = page.next
  until not cursor
  return list
end

local function check_finished_elsewhere(copy, up, done)
  local list
  copy:wait(function()
    list = executions(copy)
    for _, one in ipairs(list) do
      if one.status ~= "completed" then return false, one.id .. " is " .. one.status end
    end
    return true
  end, 40, "every execution of the backup to complete")
  for _, call in ipairs(up:calls()) do
    local key = call.json.run .. call.path
    assert.is_nil(done[key], key .. " had been finished and ran again")
  end
  local rows = {}
  for _, row in ipairs(copy:get("/effects").json()) do rows[row.run .. "/" .. row.step] = true end
  for _, one in ipairs(list) do
    for _, step in ipairs(steps) do
      assert.is_true(rows[one.id .. "/" .. step], ("the effect of step %s of %s is not in the application's database"):format(step, one.id))
    end
  end
  return #list
end

local function sh(line)
  local ok = os.execute("(" .. line .. ") >/dev/null 2>&1")
  return ok == true or ok == 0
end

describe("backup", function()
  local up, dir
  before_each(function()
    up = upstream.start { delay = 0.02 }
    dir = posix.temp_dir()
  end)
  after_each(function()
    up:stop()
    posix.remove_dir(dir)
  end)

  local function env() return { APP_UPSTREAM = "http://127.0.0.1:" .. up.port } end

  it("under load is restored into another folder, where every execution finishes and no finished step runs again", function()
    local s = start { env = env() }
    s:get("/prepare")
    local load = s:load("/go", { connections = 2, seconds = 1.5 })
    s:wait(function() return #up:calls() > 60 end, 20, "executions under way")
    local done = finished(up:calls())
    local code, text = s:command("backup", dir .. "/b.tar", "--data", s.data)
    assert.equal(0, code, text)
    local outcome = load.finish()
    assert.equal(0, outcome.failed, outcome.first_failure)
    s:kill_all()
    up:stop()
    s:clean()

    up = upstream.start { delay = 0.001 }
    code, text = server.command { "restore", dir .. "/b.tar", "--data", dir .. "/data" }
    assert.equal(0, code, text)
    assert.equal("ok", server.integrity(dir .. "/data/moonwatch.db"))
    local copy = start { env = env(), data = dir .. "/data" }
    assert.is_true(check_finished_elsewhere(copy, up, done) > 10)
    copy:stop()
  end)

  it("on PostgreSQL is made and restored by the lines that it prints", function()
    local url = os.getenv("MW_TEST_DATABASE_URL")
    if not url then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
    if not sh "command -v pg_dump && command -v pg_restore" then return pending("needs pg_dump and pg_restore") end
    local from, to = server.fresh_database(url), server.fresh_database(url)
    local function run_lines(...)
      local password = url:match("://[^:]+:([^@]+)@")
      local code, text = server.command { ... }
      assert.equal(2, code, text)
      assert.matches("PGPASSWORD", text)
      assert.is_nil(text:find(password, 1, true))
      posix.write_file(dir .. "/lines", text:gsub("moonwatch %w+: .*", ""))
      local ok = os.execute(("PGPASSWORD=%s sh -e %s/lines >%s/out 2>&1"):format(password, dir, dir))
      assert.is_true(ok == true or ok == 0, text .. (posix.read_file(dir .. "/out") or ""))
    end
    local s = start { env = env(), database = from }
    s:get("/prepare")
    local load = s:load("/go", { connections = 2, seconds = 1 })
    s:wait(function() return #up:calls() > 40 end, 20, "executions under way")
    local done = finished(up:calls())
    run_lines("backup", dir .. "/it's.dump", "--database", from)
    assert.equal(0, load.finish().failed)
    s:kill_all()
    up:stop()
    s:clean()

    up = upstream.start { delay = 0.001 }
    run_lines("restore", dir .. "/it's.dump", "--database", to)
    local copy = start { env = env(), database = to }
    assert.is_true(check_finished_elsewhere(copy, up, done) > 10)
    copy:stop()
  end)
end)

describe("a backup file", function()
  local s, dir, file
  setup(function()
    dir = posix.temp_dir()
    file = dir .. "/b.tar"
    s = server.start { plugins = { ["a.lua"] = [[
      local mw = require "mw"
      mw.workflow("w", { { name = "a", run = function() return {} end } })
    ]] } }
    for i = 1, 20 do s:post("/api/trigger", { json = { name = "w", input = { text = ("y"):rep(1000), i = i } } }) end
    assert.equal(0, (s:command("backup", file, "--data", s.data)))
  end)
  teardown(function()
    if s.pid then s:stop() end
    posix.remove_dir(dir)
  end)

  local function restore(...)
    local code, text = server.command { "restore", ... }
    return code, text
  end

  it("is a tar archive that tar lists, readable by its owner alone", function()
    assert.is_true(sh("tar tf " .. file .. " | tr \"\\n\" : | grep -x manifest.json:moonwatch.db:app.db:"))
    assert.is_true(sh(("test $(stat -c %%a %s) = 600"):format(file)))
    assert.is_nil(posix.read_file(file .. ".part/moonwatch.db"))
  end)

  it("is not worked on in a folder that another made, nor through a link, and nothing of others is deleted", function()
    local function backup(name) return s:command("backup", dir .. "/" .. name, "--data", s.data) end
    posix.write_file(dir .. "/precious/moonwatch.db", "precious")
    assert.is_true(sh(("chmod 700 %s/precious && ln -s precious %s/link.tar.part"):format(dir, dir)))
    local code, text = backup "link.tar"
    assert.equal(1, code)
    assert.matches("link%.tar%.part is needed as a folder of this user alone", text)
    assert.equal("precious", posix.read_file(dir .. "/precious/moonwatch.db"))
    assert.is_true(sh(("mkdir -m 777 %s/open.tar.part"):format(dir)))
    code, text = backup "open.tar"
    assert.equal(1, code)
    assert.matches("open%.tar%.part is needed as a folder of this user alone", text)
    posix.write_file(dir .. "/own.tar.part/notes", "mine")
    posix.write_file(dir .. "/own.tar.part/moonwatch.db", "left by a killed backup")
    assert.is_true(sh(("chmod 700 %s/own.tar.part"):format(dir)))
    code, text = backup "own.tar"
    assert.equal(0, code, text)
    assert.equal("mine", posix.read_file(dir .. "/own.tar.part/notes"))
    assert.is_nil(posix.read_file(dir .. "/own.tar.part/moonwatch.db"))
  end)

  it("goes through pipes", function()
    local exe = ("/proc/%d/exe"):format(ffi.C.getpid())
    assert.is_true(sh(("%s backup - --data %s | gzip | gzip -d | %s restore - --data %s/piped"):format(exe, s.data, exe, dir)))
    assert.equal("ok", server.integrity(dir .. "/piped/moonwatch.db"))
  end)

  it("is refused when a byte of it differs, when it is cut short, and when it is something else", function()
    local bytes = posix.read_file(file)
    local at = #bytes - 3000
    posix.write_file(dir .. "/bent", bytes:sub(1, at) .. string.char((bytes:byte(at + 1) + 1) % 256) .. bytes:sub(at + 2))
    local code, text = restore(dir .. "/bent", "--data", dir .. "/bent.data")
    assert.equal(1, code)
    assert.matches("damaged: the SHA%-256 differs", text)
    assert.is_nil(posix.read_file(dir .. "/bent.data/moonwatch.db"))
    posix.write_file(dir .. "/short", bytes:sub(1, 40000))
    code, text = restore(dir .. "/short", "--check")
    assert.equal(1, code)
    assert.matches("cut short", text)
    posix.write_file(dir .. "/other", ("no archive at all\n"):rep(100))
    code, text = restore(dir .. "/other", "--data", dir .. "/other.data")
    assert.equal(1, code)
    assert.matches("no tar archive", text)
  end)

  it("of a newer schema or format is refused with what to do", function()
    local function forge(name, from, to)
      assert.is_true(sh(("cd %s && rm -rf x && mkdir x && tar xf b.tar -C x && sed -i \"s/%s/%s/\" x/manifest.json && "
        .. "tar cf %s -C x --format=ustar manifest.json moonwatch.db app.db"):format(dir, from, to, name)))
      return restore(dir .. "/" .. name, "--data", dir .. "/" .. name .. ".data")
    end
    local code, text = forge("schema", "schema.: [0-9]*", "schema\\\": 999")
    assert.equal(1, code)
    assert.matches("schema 999, and this program knows schemas up to %d+: restore it with that version or a newer one", text)
    code, text = forge("format", "format.: 1", "format\\\": 2")
    assert.equal(1, code)
    assert.matches("in a format that this program does not know", text)
  end)

  it("is not restored into a folder in use, nor over databases unless forced, and then moves them aside", function()
    local code, text = restore(file, "--data", s.data)
    assert.equal(1, code)
    assert.matches("in use by process " .. s.pid, text)
    local data = dir .. "/twice"
    assert.equal(0, (restore(file, "--data", data)))
    posix.write_file(data .. "/moonwatch.db-wal", "an old log")
    posix.write_file(data .. "/node.id", "old")
    code, text = restore(file, "--data", data)
    assert.equal(1, code)
    assert.matches("give %-%-force to move the old files aside", text)
    code, text = restore(file, "--data", data, "--force")
    assert.equal(0, code, text)
    local aside = text:match("are in (%S+)")
    assert.equal("an old log", posix.read_file(aside .. "/moonwatch.db-wal"))
    assert.is_nil(posix.read_file(data .. "/moonwatch.db-wal"))
    assert.is_nil(posix.read_file(data .. "/node.id"))
  end)

  it("whose restore was cut short keeps a server from starting, until it is restored again", function()
    local data = dir .. "/half"
    assert.equal(0, (restore(file, "--data", data)))
    posix.write_file(data .. "/restore.unfinished", "")
    local code, text = server.command({ "serve", "--data", data, "--listen", "127.0.0.1:0" }, { dir = dir })
    assert.equal(1, code)
    assert.matches("cut short.*run `moonwatch restore` again", text)
    code, text = restore(file, "--data", data)
    assert.equal(0, code, text)
    assert.is_nil(posix.read_file(data .. "/restore.unfinished"))
  end)

  it("whose restore is killed between any two renames is restored by the next one, and no old file is lost", function()
    local has_faults, crashes = true, 0
    for after = 0, 7 do
      local data = ("%s/crash%d"):format(dir, after)
      assert.equal(0, (server.command { "migrate", "up", "--data", data }))
      server.sqlite(data .. "/moonwatch.db", "INSERT INTO apps VALUES ('old', 1)")
      local code = server.command({ "restore", file, "--data", data, "--force" },
        { env = { MW_FAULTS = ("file_rename=crash,after=%d"):format(after) } })
      if after == 0 and code == 0 then has_faults = false break end
      if code ~= 0 then
        crashes = crashes + 1
        local refused, text = server.command({ "serve", "--data", data, "--listen", "127.0.0.1:0" }, { dir = dir })
        assert.equal(1, refused)
        assert.matches("run `moonwatch restore` again", text)
        code = server.command { "restore", file, "--data", data }
        assert.equal(0, code)
      end
      assert.equal("20", server.sqlite(data .. "/moonwatch.db", "SELECT count(*) FROM executions"))
      assert.is_nil(posix.read_file(data .. "/node.id"))
      local found = 0
      for old in io.popen("ls " .. data .. "/before-restore-*/moonwatch.db"):lines() do
        found = found + tonumber(server.sqlite(old, "SELECT count(*) FROM apps WHERE name = 'old'"))
      end
      assert.equal(1, found)
    end
    if not has_faults then return pending("needs a build with fault points") end
    assert.is_true(crashes >= 5)
  end)

  it("that is there is kept when the next backup fails", function()
    local before = posix.read_file(file)
    local code, text = server.command { "backup", file, "--data", dir .. "/nothing" }
    assert.equal(1, code)
    assert.matches("there is no database in", text)
    assert.equal(before, posix.read_file(file))
  end)
end)
