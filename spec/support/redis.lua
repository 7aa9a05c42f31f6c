-- SPDX-License-Identifier: MIT
-- A Redis server of a spec's own, on a free port of loopback and a Unix socket.
--
--   local redis = require "support.redis"
--   if not redis.can_start() then return pending("needs redis-server") end
--   local r = redis.start { password = "secret" }    -- r.url, r.unix_url, r.port
--   r:command("SET", "a", "1")                        -- over a connection of its own; replies as Lua values, errors raise
--   r:pause(); r:resume()                             -- SIGSTOP, SIGCONT
--   r:kill(); r:start_again()                         -- the same port, nothing kept
--   r:stop()                                          -- it dies with the spec process in any case
--
-- Options: password, acl (a line for ACL SETUSER), tls (true: makes an authority; r.tls_url and r.ca_file), args (more for redis-server).

local posix = require "support.posix"

local M = {}
local Server = {}
Server.__index = Server

local SIGSTOP, SIGCONT = 19, 18

function M.can_start() return os.execute("command -v redis-server >/dev/null 2>&1") == 0 end

-- ---- the protocol, for specs ----

local Client = {}
Client.__index = Client

function M.encode(...)
  local parts = { ("*%d\r\n"):format(select("#", ...)) }
  for i = 1, select("#", ...) do
    local arg = tostring((select(i, ...)))
    parts[#parts + 1] = ("$%d\r\n%s\r\n"):format(#arg, arg)
  end
  return table.concat(parts)
end

function M.connect(port)
  local fd, why = posix.connect("127.0.0.1", port)
  if not fd then return nil, why end
  return setmetatable({ fd = fd, buffer = "" }, Client)
end

function Client:more()
  local bytes, why = posix.read(self.fd, posix.now() + 10)
  if not bytes or bytes == "" then error("redis: " .. (why or "the connection ended"), 0) end
  self.buffer = self.buffer .. bytes
end

function Client:line()
  while not self.buffer:find("\r\n", 1, true) do self:more() end
  local line, rest = self.buffer:match("^(.-)\r\n(.*)$")
  self.buffer = rest
  return line
end

function Client:reply()
  local line = self:line()
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == "+" then return rest end
  if kind == "-" then return nil, rest end
  if kind == ":" then return tonumber(rest) end
  local n = tonumber(rest)
  if n < 0 then return nil end
  if kind == "*" then
    local list = {}
    for i = 1, n do list[i] = self:reply() end
    return list
  end
  while #self.buffer < n + 2 do self:more() end
  local text = self.buffer:sub(1, n)
  self.buffer = self.buffer:sub(n + 3)
  return text
end

function Client:call(...)
  assert(posix.write(self.fd, M.encode(...), posix.now() + 10))
  return self:reply()
end

function Client:close() posix.close(self.fd) end

-- ---- the server ----

local function free_port()
  local fd, port = posix.listen()
  posix.close(fd)
  return port
end

local function run(command) assert(os.execute(command .. " >/dev/null 2>&1") == 0, command) end

local function make_certificates(dir)
  run(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout %s/ca.key -out %s/ca.pem"):format(dir, dir))
  run(("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout %s/redis.key -out %s/redis.csr"):format(dir, dir))
  posix.write_file(dir .. "/ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
  run(("openssl x509 -req -in %s/redis.csr -CA %s/ca.pem -CAkey %s/ca.key -CAcreateserial -days 2 -extfile %s/ext -out %s/redis.pem"):format(
    dir, dir, dir, dir, dir))
end

local function argv_of(self)
  local opts = self.opts
  local argv = { "redis-server", "--port", tostring(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.dir,
    "--unixsocket", self.dir .. "/redis.sock", "--enable-debug-command", "yes", "--daemonize", "no" }
  local function add(...) for _, arg in ipairs { ... } do argv[#argv + 1] = arg end end
  if opts.password then add("--requirepass", opts.password) end
  if opts.tls then
    add("--tls-port", tostring(self.tls_port), "--tls-cert-file", self.dir .. "/redis.pem", "--tls-key-file", self.dir .. "/redis.key",
      "--tls-ca-cert-file", self.dir .. "/ca.pem", "--tls-auth-clients", "no")
  end
  add(unpack(opts.args or {}))
  return argv
end

local function launch(self)
  local path = io.popen("command -v redis-server"):read("*l")
  self.pid = posix.spawn(path, { argv = argv_of(self), env = posix.environment(), dir = self.dir, output = self.dir .. "/log" })
  posix.wait_until(function()
    local code = posix.wait_exit(self.pid, 0)
    if code ~= nil then error("redis-server ended:\n" .. (posix.read_file(self.dir .. "/log") or ""), 0) end
    local client = M.connect(self.port)
    if not client then return false end
    local ok, text, err = pcall(client.call, client, "PING")
    client:close()
    return ok and (text or (err and err:match("^NOAUTH")))
  end, 10, "redis-server to answer")
end

function M.start(opts)
  opts = opts or {}
  local self = setmetatable({ opts = opts, dir = posix.temp_dir(), port = free_port() }, Server)
  if opts.tls then
    self.tls_port = free_port()
    self.tls_url, self.ca_file = "rediss://localhost:" .. self.tls_port, self.dir .. "/ca.pem"
    make_certificates(self.dir)
  end
  self.address = "127.0.0.1:" .. self.port
  self.url, self.unix_url = "redis://" .. self.address, "unix://" .. self.dir .. "/redis.sock"
  launch(self)
  if opts.acl then self:command("ACL", "SETUSER", unpack(opts.acl)) end
  return self
end

---A new connection, with the password given.
function Server:client()
  local client = assert(M.connect(self.port))
  if self.opts.password then assert(client:call("AUTH", self.opts.password)) end
  return client
end

function Server:command(...)
  local client = self:client()
  local value, err = client:call(...)
  client:close()
  if err then error(err, 2) end
  return value
end

---True while it works on something and answers nobody.
function Server:is_busy()
  local client = assert(M.connect(self.port))
  posix.write(client.fd, M.encode("PING"), posix.now() + 1)
  local bytes = posix.read(client.fd, posix.now() + 0.05)
  client:close()
  return bytes == nil
end

function Server:pause() posix.kill(self.pid, SIGSTOP) end
function Server:resume() posix.kill(self.pid, SIGCONT) end

function Server:kill()
  if not self.pid then return end
  posix.kill(self.pid, SIGCONT)
  posix.kill(self.pid, posix.SIGKILL)
  posix.wait_exit(self.pid, 5)
  self.pid = nil
end

function Server:start_again() launch(self) end

function Server:stop()
  self:kill()
  posix.remove_dir(self.dir)
end

---A server that answers as `answer(bytes, client_number)` says (text, or nil for silence), for what a real one never does.
function M.fake(answer)
  local listener, port = posix.listen()
  local pid = posix.fork(function()
    local clients, count = {}, 0
    while true do
      local fds = { listener }
      for fd in pairs(clients) do fds[#fds + 1] = fd end
      for fd in pairs(posix.poll_readable(fds, 1)) do
        if fd == listener then
          count = count + 1
          clients[posix.accept(listener)] = count
        else
          local bytes = posix.read(fd, posix.now())
          local text = bytes and bytes ~= "" and answer(bytes, clients[fd])
          if text then posix.write(fd, text, posix.now() + 5) end
          if not bytes or bytes == "" or text == "" then
            posix.close(fd)
            clients[fd] = nil
          end
        end
      end
    end
  end)
  posix.close(listener)
  return { port = port, url = "redis://127.0.0.1:" .. port, stop = function()
    posix.kill(pid, posix.SIGKILL)
    posix.wait_exit(pid, 5)
  end }
end

return M
