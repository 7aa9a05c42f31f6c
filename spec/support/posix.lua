-- SPDX-License-Identifier: MIT
-- The system calls that specs need: processes, pipes, sockets, clocks. Every call raises on failure, with the call's name.

local ffi = require "ffi"

require("support.cdef").define [[
typedef int mw_spec_pid;
struct mw_spec_pollfd { int fd; short events; short revents; };
struct mw_spec_timespec { long tv_sec; long tv_nsec; };
struct mw_spec_sockaddr_in { unsigned short family; unsigned short port; unsigned char addr[4]; char zero[8]; };
struct mw_spec_sockaddr_un { unsigned short family; char path[108]; };
mw_spec_pid fork(void);
mw_spec_pid getpid(void);
mw_spec_pid waitpid(mw_spec_pid pid, int *status, int options);
int kill(mw_spec_pid pid, int sig);
void _exit(int code);
int execve(const char *path, const char *const *argv, const char *const *envp);
int chdir(const char *path);
int dup2(int from, int to);
int pipe(int fds[2]);
int close(int fd);
int open(const char *path, int flags, ...);
intptr_t read(int fd, void *bytes, size_t len);
intptr_t write(int fd, const void *bytes, size_t len);
int poll(struct mw_spec_pollfd *fds, unsigned long count, int timeout_ms);
int nanosleep(const struct mw_spec_timespec *time, struct mw_spec_timespec *left);
int clock_gettime(int clock, struct mw_spec_timespec *time);
char *mkdtemp(char *template);
int mkdir(const char *path, unsigned int mode);
int socket(int family, int type, int protocol);
int connect(int fd, const void *address, unsigned int len);
int bind(int fd, const void *address, unsigned int len);
int listen(int fd, int backlog);
int accept(int fd, void *address, unsigned int *len);
int getsockname(int fd, void *address, unsigned int *len);
int setsockopt(int fd, int level, int option, const void *value, unsigned int len);
int shutdown(int fd, int how);
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
intptr_t readlink(const char *path, char *out, size_t size);
struct mw_spec_rlimit { uint64_t soft, hard; };
int prlimit(mw_spec_pid pid, int resource, const struct mw_spec_rlimit *to, struct mw_spec_rlimit *from);
char *strerror(int number);
extern char **environ;
]]

local C = ffi.C
local M = { SIGHUP = 1, SIGINT = 2, SIGKILL = 9, SIGUSR2 = 12, SIGTERM = 15, SIGCONT = 18, SIGSTOP = 19, EINTR = 4, EAGAIN = 11 }
local PR_SET_PDEATHSIG, WNOHANG, CLOCK_MONOTONIC = 1, 1, 1
local AF_UNIX, AF_INET, SOCK_STREAM, O_CLOEXEC = 1, 2, 1, 524288
local POLLIN, POLLOUT = 1, 4

local function check(result, what)
  if result >= 0 then return result end
  error(what .. ": " .. ffi.string(C.strerror(ffi.errno())), 3)
end

-- ---- time ----

function M.now()
  local time = ffi.new("struct mw_spec_timespec")
  check(C.clock_gettime(CLOCK_MONOTONIC, time), "clock_gettime")
  return tonumber(time.tv_sec) + tonumber(time.tv_nsec) / 1e9
end

function M.pause(seconds)
  local whole = math.floor(seconds)
  C.nanosleep(ffi.new("struct mw_spec_timespec", whole, (seconds - whole) * 1e9), nil)
end

---Polls `fn` until it returns something true, which is returned; raises after `seconds`.
function M.wait_until(fn, seconds, what)
  local give_up = M.now() + (seconds or 10)
  local pause = 0.002
  while true do
    local value, why = fn()
    if value then return value end
    if M.now() > give_up then
      error(("waited %g s for %s%s"):format(seconds or 10, what or "it", why and (": " .. tostring(why)) or ""), 2)
    end
    M.pause(pause)
    pause = math.min(pause * 1.5, 0.05)
  end
end

-- ---- processes ----

local function exit_code(status)
  local signal = bit.band(status, 127)
  if signal ~= 0 then return nil, signal end
  return bit.band(bit.rshift(status, 8), 255)
end

---Runs `fn` in a child, which ends with it. It dies with the spec process.
function M.fork(fn)
  io.stdout:flush()
  io.stderr:flush()
  local pid = check(C.fork(), "fork")
  if pid > 0 then return pid end
  C.prctl(PR_SET_PDEATHSIG, M.SIGKILL, 0, 0, 0)
  local ok, err = xpcall(fn, debug.traceback)
  if not ok then io.stderr:write("in a forked child: ", tostring(err), "\n") end
  io.stdout:flush()
  io.stderr:flush()
  C._exit(ok and 0 or 1)
end

-- A NULL-ended array; it only points at the strings of `list`.
local function string_array(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, text in ipairs(list) do array[i - 1] = text end
  array[#list] = nil
  return array
end

---Starts a program. opts: argv, env (a table), dir, output (a file for both streams, appended).
function M.spawn(path, opts)
  local argv = string_array(opts.argv)
  local env = {}
  for name, value in pairs(opts.env) do env[#env + 1] = name .. "=" .. value end
  local envp = string_array(env)
  local O_WRONLY_CREAT_APPEND = 1 + 64 + 1024
  return M.fork(function()
    C.prctl(PR_SET_PDEATHSIG, M.SIGKILL, 0, 0, 0)
    if opts.dir then check(C.chdir(opts.dir), opts.dir) end
    if opts.output then
      local fd = check(C.open(opts.output, O_WRONLY_CREAT_APPEND, ffi.cast("int", 420)), opts.output)
      C.dup2(fd, 1)
      C.dup2(fd, 2)
    end
    C.dup2(C.open("/dev/null", 0), 0)
    C.execve(path, argv, envp)
    assert(env and opts.argv) -- the arrays above only point at these
    error("exec " .. path .. ": " .. ffi.string(C.strerror(ffi.errno())))
  end)
end

---Returns nil while it runs, else its exit code, or false and the signal that ended it.
function M.wait_exit(pid, seconds)
  local status = ffi.new("int[1]")
  local give_up = M.now() + (seconds or 0)
  repeat
    local got = C.waitpid(pid, status, WNOHANG)
    if got == pid then
      local code, signal = exit_code(status[0])
      if code then return code end
      return false, signal
    end
    if got < 0 and not M.is_alive(pid) then return false, 0 end -- not our child (we are in a fork), and gone
    if M.now() < give_up then M.pause(0.003) end
  until M.now() >= give_up
  return nil
end

function M.kill(pid, signal) return C.kill(pid, signal) == 0 end

---True while a process of that id runs (a zombie does not).
function M.is_alive(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return false end
  local state = (file:read("*a") or ""):match("%) (%a)")
  file:close()
  return state ~= nil and state ~= "Z" and state ~= "X"
end

function M.children(pid)
  local list = {}
  local file = io.open(("/proc/%d/task/%d/children"):format(pid, pid))
  if not file then return list end
  for child in (file:read("*a") or ""):gmatch("%d+") do list[#list + 1] = tonumber(child) end
  file:close()
  return list
end

---What a symbolic link points at, or nil.
function M.link(path)
  local target = ffi.new("char[512]")
  local len = tonumber(C.readlink(path, target, 512))
  return len > 0 and ffi.string(target, len) or nil
end

---What the open descriptors of a process point at ("socket:[123]", paths …).
function M.descriptors(pid)
  local list, target = {}, ffi.new("char[512]")
  local pipe = io.popen("ls /proc/" .. pid .. "/fd")
  for fd in pipe:read("*a"):gmatch("%d+") do
    local len = tonumber(C.readlink(("/proc/%d/fd/%s"):format(pid, fd), target, 512))
    if len > 0 then list[#list + 1] = ffi.string(target, len) end
  end
  pipe:close()
  return list
end

---Bounds the descriptors a process may have (its soft limit; 0: this process); returns the bound before.
function M.limit_descriptors(pid, count)
  local limit, RLIMIT_NOFILE = ffi.new("struct mw_spec_rlimit[1]"), 7
  check(C.prlimit(pid, RLIMIT_NOFILE, nil, limit), "prlimit")
  local before = tonumber(limit[0].soft)
  limit[0].soft = math.min(count, tonumber(limit[0].hard))
  check(C.prlimit(pid, RLIMIT_NOFILE, limit, nil), "prlimit")
  return before
end

function M.environment()
  local env, i = {}, 0
  while C.environ[i] ~= nil do
    local name, value = ffi.string(C.environ[i]):match("^([^=]*)=(.*)$")
    if name then env[name] = value end
    i = i + 1
  end
  return env
end

-- ---- files ----

function M.temp_dir(prefix)
  local template = ffi.new("char[?]", 64)
  ffi.copy(template, (prefix or "/tmp/moonwatch-spec-") .. "XXXXXX")
  if C.mkdtemp(template) == nil then error("mkdtemp failed", 2) end
  return ffi.string(template)
end

---Makes a folder and its parents.
function M.make_dirs(path)
  for at in path:gmatch("()/") do
    if at > 1 then C.mkdir(path:sub(1, at - 1), 493) end
  end
  C.mkdir(path, 493)
end

function M.remove_dir(path)
  assert(path:match("^/tmp/."), "only below /tmp")
  os.execute("rm -rf '" .. path .. "'")
end

---Returns the content of a file, or nil.
function M.read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

---Replaces a file at once, as editors do.
function M.write_file(path, text)
  M.make_dirs(path:match("^(.*)/"))
  local file = assert(io.open(path .. ".new~", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new~", path))
end

-- ---- descriptors ----

function M.close(fd) C.close(fd) end
function M.exit(code) C._exit(code) end

function M.pipe()
  local fds = ffi.new("int[2]")
  check(C.pipe(fds), "pipe")
  return fds[0], fds[1]
end

local function poll(fd, events, give_up)
  local poll_fd = ffi.new("struct mw_spec_pollfd[1]")
  while true do
    poll_fd[0].fd, poll_fd[0].events = fd, events
    local left = give_up and math.max(0, math.ceil((give_up - M.now()) * 1000)) or -1
    local ready = C.poll(poll_fd, 1, left)
    if ready > 0 then return true end
    if ready == 0 then return false end
    if ffi.errno() ~= M.EINTR then return false end
  end
end

local chunk = ffi.new("char[65536]")

---Returns some bytes, "" at the end, or nil and "timeout" or the error.
function M.read(fd, give_up)
  while true do
    if not poll(fd, POLLIN, give_up) then return nil, "timeout" end
    local n = C.read(fd, chunk, 65536)
    if n >= 0 then return ffi.string(chunk, n) end
    local number = ffi.errno()
    if number ~= M.EINTR and number ~= M.EAGAIN then return nil, ffi.string(C.strerror(number)) end
  end
end

---Returns true, or nil and the error.
function M.write(fd, bytes, give_up)
  local at = 0
  while at < #bytes do
    if not poll(fd, POLLOUT, give_up) then return nil, "timeout" end
    local n = C.write(fd, ffi.cast("const char *", bytes) + at, #bytes - at)
    if n > 0 then at = at + tonumber(n)
    elseif n < 0 and ffi.errno() ~= M.EINTR and ffi.errno() ~= M.EAGAIN then
      return nil, ffi.string(C.strerror(ffi.errno()))
    end
  end
  return true
end

local function inet(host, port)
  local address = ffi.new("struct mw_spec_sockaddr_in")
  address.family = AF_INET
  address.port = bit.bor(bit.lshift(bit.band(port, 255), 8), bit.rshift(port, 8))
  local a, b, c, d = host:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  address.addr[0], address.addr[1], address.addr[2], address.addr[3] = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return address, ffi.sizeof(address)
end

---Connects to host and port, or to a Unix socket's path. Returns a descriptor, or nil and the error.
function M.connect(host, port)
  local address, len
  if port then address, len = inet(host, port)
  else
    address = ffi.new("struct mw_spec_sockaddr_un")
    address.family = AF_UNIX
    ffi.copy(address.path, host)
    len = ffi.sizeof(address)
  end
  local fd = check(C.socket(port and AF_INET or AF_UNIX, SOCK_STREAM + O_CLOEXEC, 0), "socket")
  if C.connect(fd, address, len) == 0 then return fd end
  local why = ffi.string(C.strerror(ffi.errno()))
  C.close(fd)
  return nil, why
end

---Listens on a free port of loopback; returns descriptor and port.
function M.listen()
  local fd = check(C.socket(AF_INET, SOCK_STREAM + O_CLOEXEC, 0), "socket")
  local address, len = inet("127.0.0.1", 0)
  check(C.bind(fd, address, len), "bind")
  check(C.listen(fd, 512), "listen")
  check(C.getsockname(fd, address, ffi.new("unsigned int[1]", len)), "getsockname")
  local port = address.port
  return fd, bit.bor(bit.lshift(bit.band(port, 255), 8), bit.rshift(port, 8))
end

---Takes datagrams at a Unix path; returns the descriptor.
function M.listen_datagrams(path)
  local SOCK_DGRAM = 2
  local fd = check(C.socket(AF_UNIX, SOCK_DGRAM + O_CLOEXEC, 0), "socket")
  local address = ffi.new("struct mw_spec_sockaddr_un")
  address.family = AF_UNIX
  ffi.copy(address.path, path)
  check(C.bind(fd, address, ffi.sizeof(address)), "bind")
  return fd
end

function M.accept(fd) return check(C.accept(fd, nil, nil), "accept") end
function M.shutdown(fd, how) C.shutdown(fd, how or 1) end

---Waits until one of the descriptors is readable; returns a set of them.
function M.poll_readable(fds, seconds)
  local set = ffi.new("struct mw_spec_pollfd[?]", #fds)
  for i, fd in ipairs(fds) do set[i - 1].fd, set[i - 1].events = fd, POLLIN end
  local ready = {}
  if C.poll(set, #fds, seconds and math.ceil(seconds * 1000) or -1) > 0 then
    for i, fd in ipairs(fds) do ready[fd] = set[i - 1].revents ~= 0 or nil end
  end
  return ready
end

return M
