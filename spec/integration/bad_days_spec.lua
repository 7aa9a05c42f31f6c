-- SPDX-License-Identifier: MIT
-- Disks that fill up, folders that cannot be written, damaged files, ports in use: each is refused or borne with one sentence that says what to
-- do, and no data is harmed.

local ffi = require "ffi"
local posix = require "support.posix"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("w", { { name = "a", run = function(ctx) return { n = ctx.input.n } end }, { name = "b", run = function() return {} end } })
  mw.post("/mine", function(req, res) res:json { id = mw.trigger("w", req:json()).id } end)
]==]

ffi.cdef [[
int unshare(int flags);
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
unsigned getuid(void);
]]

-- A mount namespace of this process's own, so that nothing is left behind whatever happens. Needs root.
local NEWNS, PRIVATE = 0x20000, 0x4000 + 0x40000
local can_mount = ffi.C.unshare(NEWNS) == 0 and ffi.C.mount(nil, "/", nil, PRIVATE, nil) == 0

local function mount_disk(dir, size)
  posix.make_dirs(dir)
  assert.equal(0, ffi.C.mount("none", dir, "tmpfs", 0, "mode=0700,size=" .. size))
end

local function fill(path)
  local file = assert(io.open(path, "w"))
  local size = 65536
  file:setvbuf("no")
  while size >= 1 do
    if not file:write(("x"):rep(size)) then size = math.floor(size / 2) end
  end
  file:close()
end

local function serve(dir, ...)
  local args = { "serve", "--listen", "127.0.0.1:0", "--plugins", dir .. "/plugins", ... }
  return server.command(args, { dir = dir })
end

describe("a full disk", function()
  local dir, s
  before_each(function()
    dir = posix.temp_dir()
    if can_mount then mount_disk(dir .. "/disk", "40m") end
  end)
  after_each(function()
    if s and s.pid then s:kill_all() end
    if can_mount then ffi.C.umount2(dir .. "/disk", 2) end
    if s then s:clean() end
    posix.remove_dir(dir)
  end)

  local function trigger(n, path)
    return s:post(path or "/api/trigger", { json = path and { n = n, text = ("z"):rep(3000) }
      or { name = "w", input = { n = n, text = ("z"):rep(3000) } } })
  end

  it("makes triggers answer 503 with a sentence and turns readiness off, until it has room; nothing acknowledged is lost", function()
    if not can_mount then return pending("needs root, to mount a small disk") end
    s = server.start { plugins = { ["w.lua"] = plugin }, data = dir .. "/disk/data", args = { "--workers", "2" } }
    local ids = {}
    for n = 1, 20 do ids[n] = trigger(n).json().executionId end
    fill(dir .. "/disk/filler")
    local refused
    s:wait(function()
      local answer = trigger(#ids + 1)
      if answer.status == 200 then
        ids[#ids + 1] = answer.json().executionId
        return false, "it is still stored"
      end
      refused = answer
      return true
    end, 20, "a refusal")
    assert.equal(503, refused.status, refused.body)
    assert.matches("the disk is full: nothing was written to .*moonwatch.db; free some space, and it goes on by itself", refused.body)
    assert.equal(503, trigger(0, "/mine").status)
    local ready = s:control("GET", "/readyz")
    assert.equal(503, ready.status)
    assert.matches("the disk is full", ready.json().reasons[1])
    assert.equal(200, s:get("/livez").status)
    assert.equal(200, s:get("/api/v1/executions/" .. ids[1]).status)

    assert(os.remove(dir .. "/disk/filler"))
    s:wait(function() return s:control("GET", "/readyz").status == 200 end, 10, "readiness without any request")
    ids[#ids + 1] = trigger(1000).json().executionId
    s:wait(function()
      for _, id in ipairs(ids) do
        local status = s:get("/api/v1/executions/" .. id).json().status
        if status ~= "completed" then return false, id .. " is " .. status end
      end
      return true
    end, 20, "every acknowledged execution")
    assert.equal(1, select(2, s:log():gsub("the database cannot be written; what needs it", "")))
    s:stop { keep = true }
    assert.equal("ok", server.integrity(dir .. "/disk/data/moonwatch.db"))
    local stored = tonumber(server.sqlite(dir .. "/disk/data/moonwatch.db", "SELECT count(*) FROM executions"))
    assert.equal(#ids, stored)
  end)

  it("at the start is refused with a sentence, and a later start goes on with what was there", function()
    if not can_mount then return pending("needs root, to mount a small disk") end
    s = server.start { plugins = { ["w.lua"] = plugin }, data = dir .. "/disk/data" }
    local id = trigger(1).json().executionId
    s:stop { keep = true }
    fill(dir .. "/disk/filler")
    local code, text = serve(s.dir, "--data", s.data, "--no-supervisor")
    assert.equal(1, code)
    assert.matches("the disk is full", text)
    assert(os.remove(dir .. "/disk/filler"))
    s:restart()
    s:wait(function() return s:get("/api/v1/executions/" .. id).json().status == "completed" end, 10, "the execution")
    s:stop { keep = true }
  end)

  it("keeps a schema and its data as they are when there is no room for the copy before a migration", function()
    if not can_mount then return pending("needs root, to mount a small disk") end
    s = server.start { plugins = { ["w.lua"] = plugin }, data = dir .. "/disk/data" }
    for _ = 1, 100 do s:post("/api/trigger", { json = { name = "w", input = { text = ("z"):rep(30000) } } }) end
    s:stop { keep = true }
    local file = s.data .. "/moonwatch.db"
    local count, version = "SELECT count(*) FROM executions", "SELECT max(version) FROM schema_migrations"
    local known = server.sqlite(file, version)
    posix.write_file(dir .. "/disk/spare", ("x"):rep(1500000))
    fill(dir .. "/disk/filler")
    assert(os.remove(dir .. "/disk/spare"))
    local code, text = server.command { "migrate", "down", "--data", s.data }
    assert.equal(1, code)
    assert.matches("the schema is not changed, because the database cannot be copied beside itself first", text)
    assert.is_nil(posix.read_file(file .. ".before-migration.new"))
    assert(os.remove(dir .. "/disk/filler"))
    assert.equal(known, server.sqlite(file, version))
    assert.equal("100", server.sqlite(file, count))
    assert.equal("ok", server.integrity(file))
  end)

  it("makes a backup fail with what to do, and keeps the backup before", function()
    if not can_mount then return pending("needs root, to mount a small disk") end
    s = server.start { plugins = { ["w.lua"] = plugin } }
    for n = 1, 20 do trigger(n) end
    local file = dir .. "/disk/b.tar"
    assert.equal(0, (s:command("backup", file, "--data", s.data)))
    local before = posix.read_file(file)
    fill(dir .. "/disk/filler")
    local code, text = s:command("backup", file, "--data", s.data)
    assert.equal(1, code)
    assert.matches("free some space, or write to another disk", text)
    assert.equal(before, posix.read_file(file))
    s:stop { keep = true }
  end)
end)

describe("a data folder", function()
  local dir
  before_each(function()
    dir = posix.temp_dir()
    posix.make_dirs(dir .. "/plugins")
  end)
  after_each(function() posix.remove_dir(dir) end)

  it("that others can enter holds databases that they cannot read", function()
    assert.equal(0, os.execute(("mkdir -m 755 %s/open"):format(dir)))
    local opened = server.start { data = dir .. "/open" }
    opened:get("/livez")
    opened:stop()
    local pipe = io.popen(("stat -c '%%a %%n' %s/open/*.db"):format(dir))
    local text = pipe:read "*a"
    pipe:close()
    assert.matches("600 [^\n]*moonwatch%.db", text)
    assert.is_nil(text:find("644", 1, true), text)
  end)

  it("that is a file is refused", function()
    posix.write_file(dir .. "/data", "")
    local code, text = serve(dir)
    assert.equal(1, code)
    assert.matches("the data folder data is a file: move it away, or choose another folder with %-%-data", text)
  end)

  it("on a file system mounted read-only is refused", function()
    if not can_mount then return pending("needs root, to mount a small disk") end
    mount_disk(dir .. "/disk", "4m")
    posix.make_dirs(dir .. "/disk/data")
    assert.equal(0, ffi.C.mount(nil, dir .. "/disk", nil, 0x21, nil)) -- remount, read-only
    local code, text = serve(dir, "--data", dir .. "/disk/data")
    assert.equal(1, code)
    assert.matches("is on a file system that is mounted read%-only: mount it for writing", text)
    code, text = serve(dir, "--data", dir .. "/disk/new")
    assert.equal(1, code)
    assert.matches("the file system is mounted read%-only", text)
    ffi.C.umount2(dir .. "/disk", 2)
  end)

  it("of another user is refused", function()
    if ffi.C.getuid() ~= 0 then return pending("needs root, to become another user") end
    posix.make_dirs(dir .. "/data")
    os.execute(("chmod 755 %s && chmod 700 %s/data"):format(dir, dir))
    local pipe = io.popen(("exe=$(readlink -f /proc/%d/exe); cd %s && setpriv --reuid 65534 --clear-groups $exe serve --listen 127.0.0.1:0 --data %s/data 2>&1")
      :format(ffi.C.getpid(), dir, dir))
    local text = pipe:read("*a")
    pipe:close()
    if text:find("ermission denied") and not text:find("cannot be written") then return pending("the program cannot be run by other users here") end
    assert.matches("cannot be written by user 65534: chown it to that user, or choose another with %-%-data", text)
  end)

  it("with a damaged database is refused with how to mend it, and left as it is", function()
    assert.equal(0, (server.command({ "migrate", "up" }, { dir = dir })))
    local bytes = ("no database "):rep(3000)
    posix.write_file(dir .. "/data/moonwatch.db", bytes)
    local code, text = serve(dir)
    assert.equal(1, code)
    assert.matches("moonwatch.db is damaged .*restore the last backup with `moonwatch restore`", text)
    assert.equal(bytes, posix.read_file(dir .. "/data/moonwatch.db"))
  end)

  it("that a server uses is refused to commands that need it alone, which name the server", function()
    local s = server.start { plugins = {} }
    local code, text = server.command { "migrate", "up", "--data", s.data }
    assert.equal(1, code)
    assert.matches("in use by process " .. s.pid .. ": stop it, or choose another with %-%-data", text)
    s:stop()
  end)

  it("that fails to be written while a server runs turns readiness off until it can be written", function()
    local s = server.start { plugins = { ["w.lua"] = plugin }, wait_ready = false,
      env = { MW_FAULTS = "sqlite_write=error:EIO,after=600,times=10" } } -- beyond what the migrations write
    if not s:log():find("fault", 1, true) then
      s:stop()
      return pending("needs a build with fault points")
    end
    local refused
    s:wait(function()
      local answer = s:post("/api/trigger", { json = { name = "w", input = { n = 1 } } })
      if answer.status == 503 and answer.body:find("I/O error") then refused = answer end
      return refused
    end, 15, "a refusal")
    assert.matches("moonwatch.db: disk I/O error.*look for errors of the disk in the kernel's log", refused.body)
    s:wait(function() return s:control("GET", "/readyz").status == 200 end, 20, "readiness")
    s:stop()
  end)
end)

describe("a port in use", function()
  it("is refused with the process that has it", function()
    local s = server.start { plugins = {} }
    local dir = posix.temp_dir()
    local code, text = server.command({ "serve", "--listen", "127.0.0.1:" .. s.port, "--data", dir .. "/data" }, { dir = dir })
    assert.equal(1, code)
    assert.matches("127.0.0.1:" .. s.port .. " is in use by process " .. s.pid .. " %(moonwatch%): stop it or listen elsewhere", text)
    posix.remove_dir(dir)
    s:stop()
  end)
end)

describe("an unknown key of the configuration", function()
  it("is refused with the one that was meant", function()
    local dir = posix.temp_dir()
    posix.write_file(dir .. "/moonwatch.lua", "return { http = { max_boddy = '1MB' } }")
    local code, text = server.command({ "serve", "--listen", "127.0.0.1:0" }, { dir = dir })
    assert.equal(2, code)
    assert.matches("no option 'http.max_boddy'; did you mean 'http.max_body'", text)
    posix.remove_dir(dir)
  end)
end)
