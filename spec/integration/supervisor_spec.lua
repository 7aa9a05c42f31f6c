-- SPDX-License-Identifier: MIT
local http = require "support.http"
local posix = require "support.posix"
local server = require "support.server"

local plugin = [[
  local mw = require "mw"
  mw.get("/up", function(_, res) res:text("up") end)
  mw.get("/slow", function(_, res) mw.sleep("700ms") res:text("slow") end)
  mw.get("/stuck", function(_, res) mw.sleep("60s") res:text("never") end)
]]

describe("the supervisor", function()
  local s
  local function start(opts)
    opts = opts or {}
    opts.plugins = { ["p.lua"] = plugin }
    opts.supervised = opts.supervised == nil or opts.supervised
    opts.args = opts.args or { "--workers", "2" }
    s = server.start(opts)
    return s
  end
  after_each(function()
    if s and s.pid then s:stop() end
  end)

  it("runs the server in a child and starts it again on the same port when it dies", function()
    start()
    local child, port = s:server_pid(), s.port
    assert.not_equal(s.pid, child)
    s:kill_server(9)
    s:wait(function()
      local now = posix.children(s.pid)[1]
      return now and now ~= child
    end, 5, "another server")
    local answer = s:wait(function() return (http.try_request("127.0.0.1", port, "GET", "/up", { timeout = 5 })) end, 10, "an answer")
    assert.equal("up", answer.body)
    assert.truthy(s:log():find("ended unexpectedly", 1, true))
  end)

  it("lets connections wait while no server runs", function()
    start()
    s:kill_server(9)
    local answer = http.request("127.0.0.1", s.port, "GET", "/up", { timeout = 15 })
    assert.equal(200, answer.status)
  end)

  it("pauses longer with every crash in a row", function()
    start()
    for round = 1, 3 do
      local child = s:server_pid()
      s:kill_server(9)
      s:wait(function()
        local now = posix.children(s.pid)[1]
        return now and now ~= child
      end, 10, "server " .. round)
    end
    assert.truthy(s:log():find('"pause_ms":0', 1, true))
    assert.truthy(s:log():find('"pause_ms":100', 1, true))
    assert.truthy(s:log():find('"pause_ms":200', 1, true))
  end)

  it("drains on SIGTERM: a request under way is answered, then both processes end with 0", function()
    start()
    local child = s:server_pid()
    local results = s:concurrently {
      function() return s:get("/slow") end,
      function()
        posix.pause(0.2)
        posix.kill(s.pid, posix.SIGTERM)
      end,
    }
    assert.equal("slow", results[1].body)
    assert.equal(0, (posix.wait_exit(s.pid, 20)))
    assert.is_false(posix.is_alive(child))
    s.pid = nil
    s:clean()
  end)

  it("is not ready for drain_delay before it drains, answers all the same, and says Connection: close", function()
    start { env = { MOONWATCH_DRAIN_DELAY = "1s" } }
    local conn = s:connect()
    assert.is_nil(conn:request("GET", "/up").headers.connection)
    local asked = posix.now()
    s:kill(posix.SIGTERM)
    s:wait(function() return s:get("/readyz").status == 503 end, 5, "/readyz to say no")
    assert.matches("stopping", s:control("GET", "/readyz").body, 1, true)
    assert.equal("close", conn:request("GET", "/up").headers.connection)
    assert.is_true(conn:is_closed(2))
    assert.equal("up", s:get("/up").body)
    assert.equal(0, (posix.wait_exit(s.pid, 20)))
    assert.is_true(posix.now() - asked >= 1)
    s.pid = nil
    s:clean()
  end)

  it("closes idle connections when it drains, and the server ends at once when nothing is under way", function()
    start()
    local conn = s:connect()
    conn:request("GET", "/up")
    s:kill(posix.SIGTERM)
    assert.is_true(conn:is_closed(5))
    assert.equal(0, (posix.wait_exit(s.pid, 10)))
    s.pid = nil
    s:clean()
  end)

  it("answers a request on a connection that was idle a moment ago while it drains", function()
    start { supervised = false }
    local conn, busy = s:connect(), s:connect()
    conn:request("GET", "/up")
    busy:send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    s:kill(posix.SIGTERM)
    s:wait(function() return not http.try_connect("127.0.0.1", s.port) end, 5, "the listeners to be closed")
    local answer = conn:request("GET", "/up")
    assert.equal("up", answer.body)
    assert.equal("close", answer.headers.connection)
    assert.equal("slow", busy:read_answer("GET").body)
    assert.equal(0, (posix.wait_exit(s.pid, 10)))
    s.pid = nil
    s:clean()
  end)

  it("ends at once when it is asked twice without a supervisor", function()
    start { supervised = false }
    local conn = s:connect()
    conn:send("GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.1)
    s:kill(posix.SIGTERM)
    s:wait_log("stopping", 5)
    s:kill(posix.SIGTERM)
    assert.equal(1, (posix.wait_exit(s.pid, 5)))
    conn:close()
    s.pid = nil
    s:clean()
  end)

  it("says that SIGUSR2 needs the supervisor, and goes on", function()
    start { supervised = false }
    s:kill(posix.SIGUSR2)
    s:wait_log("SIGUSR2 needs the supervisor", 5)
    assert.equal("up", s:get("/up").body)
  end)

  it("cuts off what does not end within the drain time", function()
    start { env = { MOONWATCH_DRAIN_TIMEOUT = "300ms" } }
    local conn = s:connect()
    conn:send("GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.1)
    local before = posix.now()
    posix.kill(s.pid, posix.SIGTERM)
    assert.is_not_nil(posix.wait_exit(s.pid, 15))
    assert.is_true(posix.now() - before < 10)
    conn:close()
    s.pid = nil
    s:clean()
  end)

  it("refuses connections while it drains, rather than let them wait for nobody", function()
    start { env = { MOONWATCH_DRAIN_TIMEOUT = "4s" } }
    local conn = s:connect()
    conn:send("GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.1)
    s:kill(posix.SIGTERM)
    s:wait(function()
      local other = http.try_connect("127.0.0.1", s.port)
      if other then other:close() end
      return not other
    end, 3, "a refusal")
    assert.is_true(posix.is_alive(s.pid))
    conn:close()
    assert.equal(0, (posix.wait_exit(s.pid, 15)))
    s.pid = nil
    s:clean()
  end)

  it("kills at once when it is asked twice", function()
    start()
    local conn = s:connect()
    conn:send("GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.1)
    posix.kill(s.pid, posix.SIGINT)
    s:wait_log("draining", 5)
    posix.kill(s.pid, posix.SIGINT)
    assert.equal(1, (posix.wait_exit(s.pid, 10)))
    conn:close()
    s.pid = nil
    s:clean()
  end)

  it("passes SIGHUP on, which reloads", function()
    start()
    local before = s:generation()
    s:kill(posix.SIGHUP)
    s:wait(function() return s:generation() > before end, 10, "a new generation")
  end)

  it("dies and the server drains and exits, and the next start succeeds at once", function()
    start()
    local child = s:server_pid()
    s:kill(9)
    s:restart()
    assert.equal(200, s:get("/up").status)
    s:wait(function() return not posix.is_alive(child) end, 25, "the old server to exit")
  end)

  it("ends cleanly when it is stopped at any moment of its start", function()
    local dir = posix.temp_dir()
    posix.write_file(dir .. "/plugins/p.lua", plugin)
    for i = 1, 25 do
      local pid = posix.spawn("/proc/self/exe", {
        argv = { "moonwatch", "serve", "--no-supervisor", "--listen", "127.0.0.1:0", "--workers", "2" }, dir = dir,
        env = posix.environment(), output = dir .. "/log",
      })
      posix.pause(i * 0.004)
      posix.kill(pid, posix.SIGTERM)
      local code, signal = posix.wait_exit(pid, 30)
      if code ~= 0 and signal ~= posix.SIGTERM then error(("exit %s, signal %s:\n%s"):format(code, signal, posix.read_file(dir .. "/log"))) end
    end
    posix.remove_dir(dir)
  end)

  it("ends with the server's exit code when it cannot serve as configured", function()
    local dir = posix.temp_dir()
    posix.write_file(dir .. "/data", "a file where the data folder should be")
    local code, text = server.command({ "serve", "--listen", "127.0.0.1:0" }, { dir = dir })
    assert.equal(1, code, text)
    assert.matches("data", text, 1, true)
    posix.remove_dir(dir)
  end)

  it("says that a port is taken, and by which option", function()
    start { supervised = false }
    local dir = posix.temp_dir()
    local code, text = server.command({ "serve", "--listen", "127.0.0.1:" .. s.port }, { dir = dir })
    assert.equal(1, code)
    assert.matches("in use by process", text, 1, true)
    assert.matches("--listen", text, 1, true)
    posix.remove_dir(dir)
  end)

  it("does not show the token to other users of the machine", function()
    start { args = { "--workers", "1" }, env = { MOONWATCH_TOKEN = "very-secret" } }
    local seen = (posix.read_file("/proc/" .. s:server_pid() .. "/cmdline") or "")
    assert.is_nil(seen:find("very-secret", 1, true))
    assert.is_nil(s:log():find("very-secret", 1, true))
  end)

  it("answers new connections while a worker is stuck in a plugin's Lua", function()
    start { args = { "--workers", "2" }, env = { MOONWATCH_LUA_SOFT_LIMIT = "40s", MOONWATCH_LUA_HARD_LIMIT = "60s" } }
    s:write("stuck.lua", [[
      local mw = require "mw"
      mw.get("/calm", function(_, res) res:text("calm") end)
      mw.get("/spin", function(_, res)
        local stop = os.clock() + 2
        while os.clock() < stop do end
        res:text("done")
      end)
    ]])
    s:wait(function() return s:get("/calm").status == 200 end, 15, "the route")
    local conn = s:connect { timeout = 60 }
    conn:send("GET /spin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.05)
    for _ = 1, 30 do assert.equal("up", s:get("/up", { timeout = 60 }).body) end -- half of them come to the stuck worker's socket
    assert.is_nil(posix.poll_readable({ conn.fd }, 0)[conn.fd], "all were answered while it was stuck")
    assert.equal("done", conn:read_answer("GET").body)
    for _ = 1, 20 do assert.equal("up", s:get("/up").body) end -- and both serve again
  end)
end)
