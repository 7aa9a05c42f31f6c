-- SPDX-License-Identifier: MIT
-- Starts a real Moonwatch (the program these specs run in) in a folder of its own below /tmp.
--
--   local server = require "support.server"
--   local s = server.start { plugins = { ["a.lua"] = "…" }, args = { "--workers", "2" }, config = "return { … }" }
--   s:get("/x").json(); s:write("a.lua", "…"); s:wait(function() return s:get("/x").status == 200 end, 5, "the route")
--   s:stop()
--
-- Options: plugins (name -> text), args (more for `serve`), env (name -> value), config (text of moonwatch.lua), database (URL),
-- supervised (default false: --no-supervisor), data (a folder to use again), wait_ready (default true), program
-- (default: the one these specs run in).

local dkjson = require "dkjson"
local ffi = require "ffi"
local http = require "support.http"
local posix = require "support.posix"

local M = { now = posix.now, is_alive = posix.is_alive }
local Server = {}
Server.__index = Server

-- Survives busted's insulation of spec files: what support/helper.lua kills when a file forgot to.
local registry = debug.getregistry()
registry["moonwatch.servers"] = registry["moonwatch.servers"] or {}
local live = registry["moonwatch.servers"]

-- A sanitizer makes everything several times slower.
local slowness = (os.getenv("MW_TEST_SLOW") or "") ~= "" and 6 or 1
local START_SECONDS, STOP_SECONDS = 15 * slowness, 30 * slowness

local function environment(given)
  local env = posix.environment()
  for name in pairs(env) do
    if name:match("^MOONWATCH_") or name == "DATABASE_URL" or name == "REDIS_URL" or name == "SIDECAR_TOKEN" then env[name] = nil end
  end
  env.MOONWATCH_LOG_FORMAT = "json"
  for name, value in pairs(given or {}) do env[name] = value end
  return env
end

local function tail(text, lines)
  local list = {}
  for line in (text or ""):gmatch("[^\n]+") do list[#list + 1] = line end
  return table.concat(list, "\n", math.max(1, #list - (lines or 15) + 1))
end

-- ---- starting and stopping ----

local function check_running(self)
  if not self.pid then return end -- the spec killed it
  local code, signal = posix.wait_exit(self.pid, 0)
  if code == nil then return end
  self.pid, live[self] = nil, nil
  self.exit_code = code
  error(("the server ended (%s):\n%s"):format(code and ("exit code " .. code) or ("signal " .. tostring(signal)), tail(self:log())), 0)
end

-- Waits for the server to come up; says what it logged last when it does not.
local function wait_up(self, fn, what)
  local ok, value = pcall(posix.wait_until, function()
    check_running(self)
    return fn()
  end, START_SECONDS, what)
  if ok then return value end
  error(tostring(value) .. "\n" .. tail(self:log()), 0)
end

local function read_addresses(self)
  local text = posix.read_file(self.data .. "/addresses")
  if not text then return nil end
  self.addresses, self.ports = {}, {}
  for name, address in text:gmatch("(%w+) (%S+)") do
    self.addresses[name], self.ports[name] = address, tonumber(address:match(":(%d+)$"))
  end
  self.port, self.app_port = self.ports.main, self.ports.app
  return self.port
end

---Starts it (again) with the same folder and options.
function Server:restart(opts)
  for name, value in pairs(opts or {}) do self.opts[name] = value end
  opts = self.opts
  os.remove(self.data .. "/addresses")
  local argv = { "moonwatch", "serve", "--listen", "127.0.0.1:0", "--data", self.data, "--plugins", self.plugins }
  if not opts.supervised then argv[#argv + 1] = "--no-supervisor" end
  if opts.database then
    argv[#argv + 1] = "--database"
    argv[#argv + 1] = opts.database
  end
  for _, arg in ipairs(opts.args or {}) do argv[#argv + 1] = arg end
  self.pid = posix.spawn(opts.program or "/proc/self/exe", { argv = argv, env = environment(opts.env), dir = self.dir, output = self.log_path })
  live[self] = true
  wait_up(self, function() return read_addresses(self) end, "the server to listen")
  if opts.wait_ready ~= false then
    wait_up(self, function()
      local answer, why = http.try_request("127.0.0.1", self.port, "GET", "/readyz", { timeout = 2 })
      if answer and answer.status == 200 then return true end
      return false, answer and answer.body or why
    end, "the server to be ready")
  end
  return self
end

---@return table server
function M.start(opts)
  opts = opts or {}
  local dir = posix.temp_dir()
  local self = setmetatable({ opts = opts, dir = dir, data = opts.data or (dir .. "/data"), plugins = dir .. "/plugins",
    log_path = dir .. "/log" }, Server)
  posix.make_dirs(self.plugins)
  posix.make_dirs(self.data)
  for name, text in pairs(opts.plugins or {}) do self:write(name, text) end
  if opts.config then posix.write_file(dir .. "/moonwatch.lua", opts.config) end
  local ok, err = pcall(self.restart, self)
  if ok then return self end
  self:kill_all()
  self:clean()
  error(err, 2)
end

---Stops it with SIGTERM and checks that it drained. opts.keep leaves the folder.
function Server:stop(opts)
  if self.pid then
    posix.kill(self.pid, posix.SIGTERM)
    local code, signal = posix.wait_exit(self.pid, STOP_SECONDS)
    local log = self:log()
    if code == nil then self:kill_all() end
    self.pid, live[self] = nil, nil
    if code ~= 0 then
      self:clean()
      error(("the server did not drain: %s\n%s"):format(
        code == nil and "still running" or code and ("exit code " .. code) or ("signal " .. tostring(signal)), tail(log)), 2)
    end
  end
  if not (opts and opts.keep) then self:clean() end
end

---Sends a signal (default SIGKILL) to the process that was started.
function Server:kill(signal)
  posix.kill(self.pid, signal or posix.SIGKILL)
  if (signal or posix.SIGKILL) ~= posix.SIGKILL then return end
  posix.wait_exit(self.pid, STOP_SECONDS)
  self.pid, live[self] = nil, nil
end

function Server:kill_server(signal) posix.kill(self:server_pid(), signal or posix.SIGKILL) end

---kill -9 of supervisor and server together.
function Server:kill_all()
  if not self.pid then return end
  local pids = posix.children(self.pid)
  posix.kill(self.pid, posix.SIGKILL)
  for _, pid in ipairs(pids) do posix.kill(pid, posix.SIGKILL) end
  posix.wait_exit(self.pid, STOP_SECONDS)
  for _, pid in ipairs(pids) do posix.wait_until(function() return not posix.is_alive(pid) end, 10, "the kill") end
  self.pid, live[self] = nil, nil
end

function Server:clean() posix.remove_dir(self.dir) end

---The process that serves: the supervisor's child, or the one that was started.
function Server:server_pid()
  if not self.opts.supervised then return self.pid end
  return posix.wait_until(function() return posix.children(self.pid)[1] end, 10, "the server process")
end

---Resident bytes of the serving process.
function Server:memory()
  local status = posix.read_file("/proc/" .. self:server_pid() .. "/status") or ""
  return tonumber(status:match("VmRSS:%s*(%d+)")) * 1024
end

-- ---- talking ----

---opts: headers, body, json, timeout, port. A connection of its own.
function Server:request(method, path, opts)
  return http.request("127.0.0.1", opts and opts.port or self.port, method, path, opts)
end

function Server:get(path, opts) return self:request("GET", path, opts) end
function Server:post(path, opts) return self:request("POST", path, opts) end
---An execution as the API tells it. `opts`: more for the request, as its headers.
function Server:execution(id, opts) return self:get("/api/v1/executions/" .. id, opts).json() end
---Waits until it has a status; returns its id.
function Server:reach(id, status, opts)
  self:wait(function() return self:execution(id, opts).status == status end, 10, "the run to be " .. status)
  return id
end
---A request over the control socket.
function Server:control(method, path, opts) return http.request(self.data .. "/moonwatch.sock", nil, method, path, opts) end
---A connection that is kept.
function Server:connect(opts) return http.connect("127.0.0.1", opts and opts.port or self.port, opts and opts.timeout) end

---Runs the command line against this server; returns exit code and everything printed.
function Server:command(...) return M.command({ ... }, { dir = self.dir, env = self.opts.env }) end

-- ---- watching ----

function Server:wait(fn, seconds, what)
  return posix.wait_until(function()
    check_running(self)
    return fn()
  end, (seconds or 10) * slowness, what)
end

function Server:pause(seconds) posix.pause(seconds) end
function Server:log() return posix.read_file(self.log_path) or "" end

function Server:wait_log(pattern, seconds)
  return self:wait(function() return self:log():match(pattern) end, seconds, "the log line " .. pattern)
end

function Server:write(name, text) posix.write_file(self.plugins .. "/" .. name, text) end
function Server:remove(name) assert(os.remove(self.plugins .. "/" .. name)) end
function Server:generation() return self:control("GET", "/api/v1/plugins").json().generation end

function Server:wait_generation(n, seconds)
  return self:wait(function() return self:generation() >= n end, seconds, "generation " .. n)
end

-- ---- several at once ----

local function read_all(fd)
  local parts = {}
  while true do
    local bytes, why = posix.read(fd)
    if not bytes then error("read from a child: " .. why) end
    if bytes == "" then break end
    parts[#parts + 1] = bytes
  end
  posix.close(fd)
  return table.concat(parts)
end

-- Runs fn in a child; its result (an answer, or plain values) comes back through a pipe.
local function in_child(fn)
  local from, to = posix.pipe()
  local pid = posix.fork(function()
    posix.close(from)
    local ok, value = pcall(fn)
    if type(value) == "table" and value.json then value = { status = value.status, headers = value.headers, body = value.body } end
    if not ok then value = tostring(value) end
    posix.write(to, dkjson.encode { ok = ok, value = value })
    posix.exit(0)
  end)
  posix.close(to)
  return function()
    local text = read_all(from)
    posix.wait_exit(pid, 10)
    local result = dkjson.decode(text)
    if not result then error("a child ended without a result", 0) end
    if not result.ok then error(result.value, 0) end
    local value = result.value
    return type(value) == "table" and value.status and value.body and http.answer(value) or value
  end
end

---Runs the functions at once, each in a process of its own; returns their results in order.
function Server:concurrently(list)
  local pending, results = {}, {}
  for i, fn in ipairs(list) do pending[i] = in_child(fn) end
  for i, finish in ipairs(pending) do results[i] = finish() end
  return results
end

-- Between two requests of a client. Clients that never rest keep both cores of a small machine in loopback traffic, and then the writes of its disk
-- are not seen to complete: beside them fsync was measured to take 15 s, beside these 1 ms.
local REST_S = 0.002

-- One keep-alive connection that asks until the time is over. A connection that the server closes between two requests is opened
-- again, as any client does; a request that was sent and got no answer is a failure.
local function load_loop(self, path, seconds, until_file)
  local outcome = { answered = 0, failed = 0 }
  local give_up = posix.now() + seconds
  local conn
  while posix.now() < give_up and not (until_file and posix.read_file(until_file)) do
    local why, answer
    if not conn then conn, why = http.try_connect("127.0.0.1", self.port) end
    if conn then answer, why = conn:try_request("GET", path) end
    if answer and answer.status == 200 then outcome.answered = outcome.answered + 1
    else
      outcome.failed = outcome.failed + 1
      outcome.first_failure = outcome.first_failure or (answer and (answer.status .. " " .. answer.body) or why)
    end
    if conn and (not answer or (answer.headers.connection or ""):lower() == "close") then
      conn:close()
      conn = nil
    end
    posix.pause(REST_S)
  end
  return outcome
end

---Asks for `path` from opts.connections clients for opts.seconds, or until the file opts.until_file is there, in the background; `:finish()` waits for the outcome.
function Server:load(path, opts)
  local pending = {}
  for i = 1, opts.connections do
    pending[i] = in_child(function() return load_loop(self, path, opts.seconds, opts.until_file) end)
  end
  return {
    finish = function()
      local sum = { answered = 0, failed = 0 }
      for _, finish in ipairs(pending) do
        local one = finish()
        sum.answered, sum.failed = sum.answered + one.answered, sum.failed + one.failed
        sum.first_failure = sum.first_failure or one.first_failure
      end
      return sum
    end,
  }
end

-- ---- without a server ----

---Runs `moonwatch ARGS…` to its end; returns exit code (or nil) and everything printed.
function M.command(args, opts)
  opts = opts or {}
  local dir = opts.dir or "/tmp"
  local output = os.tmpname()
  local argv = { "moonwatch" }
  for _, arg in ipairs(args) do argv[#argv + 1] = arg end
  local pid = posix.spawn("/proc/self/exe", { argv = argv, env = environment(opts.env), dir = dir, output = output })
  local code = posix.wait_exit(pid, (opts.timeout or 20) * slowness)
  if code == nil then posix.kill(pid, posix.SIGKILL) end
  local text = posix.read_file(output)
  os.remove(output)
  return code, text
end

require("support.cdef").define [[
void *PQconnectdb(const char *conninfo);
int PQstatus(const void *conn);
char *PQerrorMessage(const void *conn);
void *PQexec(void *conn, const char *sql);
int PQresultStatus(const void *result);
int PQntuples(const void *result);
char *PQgetvalue(const void *result, int row, int column);
void PQclear(void *result);
void PQfinish(void *conn);
int sqlite3_open_v2(const char *path, void **db, int flags, const char *vfs);
int sqlite3_busy_timeout(void *db, int ms);
int sqlite3_exec(void *db, const char *sql, int (*each)(void *, int, char **, char **), void *arg, char **err);
int sqlite3_prepare_v2(void *db, const char *sql, int len, void **stmt, const char **rest);
int sqlite3_step(void *stmt);
const char *sqlite3_column_text(void *stmt, int column);
int sqlite3_finalize(void *stmt);
int sqlite3_close(void *db);
]]

---Makes an empty database on the PostgreSQL server of `url`; returns its URL.
function M.fresh_database(url)
  local C = ffi.load "libpq.so.5"
  local name = ("spec_%d_%d"):format(ffi.C.getpid(), math.floor(posix.now() * 1e6) % 1e12)
  local conn = C.PQconnectdb(url)
  assert(C.PQstatus(conn) == 0, ffi.string(C.PQerrorMessage(conn)))
  local result = C.PQexec(conn, "CREATE DATABASE " .. name)
  assert(C.PQresultStatus(result) == 1, ffi.string(C.PQerrorMessage(conn)))
  C.PQclear(result)
  C.PQfinish(conn)
  local made = url:gsub("^(%w+://[^/?]+)/?[^?]*", "%1/" .. name)
  return made
end

---First column of the first row of a query on a PostgreSQL database.
function M.postgres(url, sql)
  local C = ffi.load "libpq.so.5"
  local conn = C.PQconnectdb(url)
  assert(C.PQstatus(conn) == 0, ffi.string(C.PQerrorMessage(conn)))
  local result = C.PQexec(conn, sql)
  local status, why = C.PQresultStatus(result), ffi.string(C.PQerrorMessage(conn))
  local text = status == 2 and C.PQntuples(result) > 0 and ffi.string(C.PQgetvalue(result, 0, 0)) or nil
  C.PQclear(result)
  C.PQfinish(conn)
  assert(status == 1 or status == 2, sql .. ": " .. why)
  return text
end

---First column of the first row of a query on a SQLite file.
function M.sqlite(path, sql)
  local C = ffi.C
  local db, stmt = ffi.new("void *[1]"), ffi.new("void *[1]")
  assert(C.sqlite3_open_v2(path, db, 2, nil) == 0, "open " .. path)
  assert(C.sqlite3_prepare_v2(db[0], sql, -1, stmt, nil) == 0, sql)
  local value = C.sqlite3_step(stmt[0]) == 100 and C.sqlite3_column_text(stmt[0], 0) or nil
  local text = value ~= nil and ffi.string(value) or nil
  C.sqlite3_finalize(stmt[0])
  C.sqlite3_close(db[0])
  return text
end

---Changes a SQLite file.
function M.sqlite_exec(path, sql)
  local db = ffi.new("void *[1]")
  assert(ffi.C.sqlite3_open_v2(path, db, 2, nil) == 0, "open " .. path)
  ffi.C.sqlite3_busy_timeout(db[0], 5000) -- the server writes too
  local code = ffi.C.sqlite3_exec(db[0], sql, nil, nil, nil)
  ffi.C.sqlite3_close(db[0])
  assert(code == 0, sql)
end

---"ok" when SQLite finds nothing wrong with the file.
function M.integrity(path) return M.sqlite(path, "PRAGMA integrity_check") end

return M
