-- SPDX-License-Identifier: MIT

local dkjson = require "dkjson"
local http = require "support.http"
local posix = require "support.posix"
local server = require "support.server"

local plugins = { ["p.lua"] = [[
  local mw = require "mw"
  mw.get("/hello/:name", function(req, res) res:text("hello " .. req.params.name) end)
  mw.get("/fail", function() error("no") end)
  mw.get("/stream", function(_, res) res:write("one") res:write("two") res:finish() end)
  mw.get("/large", function(_, res) res:send(("x"):rep(6000000)) end)
  mw.post("/never", function(_, res) res:text("") end)
]] }

local function lines_of(text)
  local list = {}
  for line in (text or ""):gmatch("([^\n]*)\n") do list[#list + 1] = line end
  return list
end

local function start(format, opts)
  opts = opts or {}
  local dir = posix.temp_dir()
  local path = dir .. "/access.log"
  local env = { MOONWATCH_HTTP_ACCESS_LOG = path, MOONWATCH_HTTP_ACCESS_FORMAT = format }
  for name, value in pairs(opts.env or {}) do env[name] = value end
  local s = server.start { plugins = plugins, env = env, args = opts.args or { "--workers", "1" }, supervised = opts.supervised }
  s.log_dir, s.access = dir, path
  return s
end

local function finish(s)
  s:stop()
  posix.remove_dir(s.log_dir)
end

local function wait_lines(s, pattern, count)
  return s:wait(function()
    local found = {}
    for _, line in ipairs(lines_of(posix.read_file(s.access))) do
      if line:find(pattern) then found[#found + 1] = line end
    end
    return #found >= (count or 1) and found
  end, 5, "lines with " .. pattern)
end

describe("the access log", function()
  it("has a line a request: answered, failed, without a route, refused, left by the client", function()
    local s = start("json")
    local trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    s:get("/hello/ann?x=1", { headers = { ["user-agent"] = "spec", referer = "http://from/", traceparent = "00-" .. trace .. "-00f067aa0ba902b7-01" } })
    s:get("/fail")
    s:get("/nothing")
    s:get("/stream")
    s:get("/large")
    local conn = http.connect("127.0.0.1", s.port)
    conn:send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    posix.read(conn.fd, posix.now() + 5)
    conn:close()
    conn = http.connect("127.0.0.1", s.port)
    conn:send("POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    conn:close()

    local function one(pattern) return dkjson.decode(wait_lines(s, pattern)[1]) end
    local hello = one "/hello/ann"
    assert.is_true(hello.duration_ms >= 0 and hello.duration_ms < 5000)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT", hello.time)
    hello.duration_ms, hello.time = nil, nil
    assert.same({ ip = "127.0.0.1", method = "GET", target = "/hello/ann?x=1", protocol = "HTTP/1.1", status = 200, bytes = 9, route = "/hello/:name",
      trace_id = trace, host = "127.0.0.1:" .. s.port, referer = "http://from/", user_agent = "spec" }, hello)
    local failed = one '"/fail"'
    assert.equal(500, failed.status)
    assert.matches(failed.trace_id, s:log(), 1, true)
    local missing = one '"/nothing"'
    assert.equal(404, missing.status)
    assert.is_nil(missing.route)
    assert.is_true(one '"/stream"'.bytes > 6)
    assert.equal(6000000, one '"/large"'.bytes)
    assert.equal(400, one '"status":400'.status)
    local left = one '"/never"'
    assert.equal(499, left.status)
    finish(s)
  end)

  it("is combined by default, with the client that a proxy names, and cannot be forged", function()
    local s = start("combined", { env = { MOONWATCH_HTTP_TRUSTED_PROXIES = "127.0.0.1" } })
    s:get("/hello/bob", { headers = { ["x-forwarded-for"] = "203.0.113.9", ["user-agent"] = 'x" 200 0 "\t' } })
    local line = wait_lines(s, "/hello/bob")[1]
    assert.matches([[^203%.0%.113%.9 %- %- %[%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d %+0000%] "GET /hello/bob HTTP/1%.1" 200 9 "%-" "x\x22 200 0 \x22"$]], line)
    finish(s)
  end)

  it("leaves out the code of a login link", function()
    local s = start("combined")
    s:get("/ops/login?code=secret")
    assert.matches('"GET /ops/login HTTP/1.1"', wait_lines(s, "/ops/login")[1], 1, true)
    assert.is_nil(posix.read_file(s.access):find("secret", 1, true))
    finish(s)
  end)

  it("goes on in a new file after the old one was moved, and loses no line", function()
    local s = start("combined", { supervised = true, args = { "--workers", "2" } })
    local load = s:load("/hello/load", { connections = 2, seconds = 2 })
    wait_lines(s, "/hello/load", 10)
    os.rename(s.access, s.access .. ".1")
    s:wait(function() return posix.read_file(s.access) end, 5, "a new file without a signal")
    wait_lines(s, "/hello/load", 10)
    os.rename(s.access, s.access .. ".2")
    s:kill(1)
    local outcome = load:finish()
    assert.equal(0, outcome.failed, outcome.first_failure)
    s:get("/hello/last")
    wait_lines(s, "/hello/last")
    s:stop { keep = true }
    local count = 0
    for _, suffix in ipairs { "", ".1", ".2" } do
      for _, line in ipairs(lines_of(posix.read_file(s.access .. suffix))) do
        assert.matches('^127%.0%.0%.1 .* "%-" "%-"$', line)
        count = count + (line:find("/hello/load", 1, true) and 1 or 0)
      end
    end
    assert.equal(outcome.answered, count)
    s:clean()
    posix.remove_dir(s.log_dir)
  end)

  it("writes what it has when the server ends", function()
    local s = start("combined")
    for i = 1, 5 do s:get("/hello/end" .. i) end
    s:stop { keep = true }
    local text = posix.read_file(s.access)
    for i = 1, 5 do assert.matches("/hello/end" .. i, text, 1, true) end
    s:clean()
    posix.remove_dir(s.log_dir)
  end)

  it("drops lines, says how many and serves on while nobody reads it", function()
    local dir = posix.temp_dir()
    local fifo = dir .. "/fifo"
    os.execute("mkfifo " .. fifo)
    local reader = posix.fork(function()
      local file = io.open(fifo) -- holds it open and never reads
      posix.pause(30)
      file:close()
      posix.exit(0)
    end)
    local s
    posix.wait_until(function() -- the reader must be there first
      local ok, value = pcall(server.start, { plugins = plugins, env = { MOONWATCH_HTTP_ACCESS_LOG = fifo } })
      s = ok and value
      return ok
    end, 10, "the server")
    local agent = ("a"):rep(1900)
    for _ = 1, 150 do assert.equal(200, s:get("/hello/x", { headers = { ["user-agent"] = agent } }).status) end
    s:wait_log("the access log cannot be written; lines are dropped", 10)
    assert.equal(200, s:get("/hello/x").status)
    s:stop { keep = true }
    assert.matches("lines of the access log were dropped", s:log(), 1, true)
    posix.kill(reader, posix.SIGKILL)
    posix.wait_exit(reader, 5)
    s:clean()
    posix.remove_dir(dir)
  end)

  it("that finds the disk full costs no request, and the program's log says why", function()
    local s = server.start { plugins = plugins, env = { MOONWATCH_HTTP_ACCESS_LOG = "/dev/full" } }
    for _ = 1, 3 do assert.equal(200, s:get("/hello/full").status) end
    s:wait_log("the access log cannot be written; lines are dropped", 5)
    assert.matches("no space left on device", s:log():lower(), 1, true)
    assert.equal(200, s:get("/hello/full").status)
    s:stop()
  end)

  it("goes to stdout", function()
    local s = server.start { plugins = plugins, env = { MOONWATCH_HTTP_ACCESS_LOG = "stdout" } }
    s:get("/hello/out")
    s:wait_log('"GET /hello/out HTTP/1.1" 200', 5)
    s:stop()
  end)

  it("that cannot be opened, or is a slip, is refused at start", function()
    local dir = posix.temp_dir()
    local function try(env)
      return server.command({ "serve", "--no-supervisor", "--listen", "127.0.0.1:0" }, { dir = dir, env = env })
    end
    local code, text = try { MOONWATCH_HTTP_ACCESS_LOG = "/nowhere/access.log" }
    assert.equal(2, code)
    assert.matches("the access log /nowhere/access.log cannot be opened: no such file", text, 1, true)
    code, text = try { MOONWATCH_HTTP_ACCESS_LOG = "true" }
    assert.equal(2, code)
    assert.matches("http.access_log (from MOONWATCH_HTTP_ACCESS_LOG) is off, stdout or a file's path, not 'true'", text, 1, true)
    code, text = try { MOONWATCH_HTTP_ACCESS_FORMAT = "xml" }
    assert.equal(2, code)
    assert.matches("is combined or json", text, 1, true)
    posix.remove_dir(dir)
  end)
end)
