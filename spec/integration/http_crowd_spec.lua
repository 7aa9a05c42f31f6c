-- SPDX-License-Identifier: MIT
-- Clients by the thousand, and clients that take their time: what they hold is bounded, and others are served meanwhile.

local posix = require "support.posix"
local server = require "support.server"

local plugin = [==[
local mw = require "mw"
mw.get("/ping", function(_, res) res:text("pong") end)
mw.post("/echo", function(req, res) res:text(#req.body) end)
mw.get("/flood", function(_, res) local piece = ("x"):rep(65536) while true do res:write(piece) end end)
]==]

local MIB = 1024 * 1024
local IDLE = 5000
local slow = (os.getenv("MW_TEST_SLOW") or "") ~= "" -- a sanitizer keeps what is freed
local HEAD = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"

describe("a crowd of clients", function()
  local s, conns, limit_before

  setup(function() limit_before = posix.limit_descriptors(0, 20000) end)
  teardown(function() posix.limit_descriptors(0, limit_before) end)
  before_each(function() conns = {} end)
  after_each(function()
    for _, conn in ipairs(conns) do conn:close() end
    s:stop()
  end)

  local function start(options)
    s = server.start { plugins = { ["a.lua"] = plugin }, args = { "--workers", "1" }, config = "return { http = {" .. (options or "") .. "} }" }
  end

  local function open(count, bytes)
    for _ = 1, count do
      local conn = s:connect()
      if bytes then conn:send(bytes) end
      conns[#conns + 1] = conn
    end
  end

  local function ping() return s:get("/ping", { timeout = 10 }).body end

  -- The status it gets, "closed", or "open" when nothing comes in time.
  local function fate(conn, seconds)
    local ok, answer = pcall(conn.read_answer, conn, "POST", { timeout = seconds })
    if ok then return answer.status end
    return type(answer) == "table" and answer.why == "timeout" and "open" or "closed"
  end

  it("may idle by the thousand at the cost of a few kilobytes each", function()
    start()
    assert.equal("pong", ping())
    local before = s:memory()
    open(IDLE)
    s:wait(function() return #posix.descriptors(s:server_pid()) > IDLE end, 20, "all to be accepted")
    local idle = (s:memory() - before) / IDLE
    for _ = 1, 5 do assert.equal("pong", ping()) end
    assert.is_true(idle < (slow and 32768 or 4096), ("%d bytes a connection"):format(idle))
    for i = 1, IDLE, 500 do -- and each is still served when it wakes up
      conns[i]:send("GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.equal("pong", conns[i]:read_answer("GET").body)
    end
  end)

  it("finds a server that took all the descriptors it may have", function()
    posix.limit_descriptors(0, 1024)
    start()
    posix.limit_descriptors(0, 20000)
    local hard = posix.read_file("/proc/" .. s:server_pid() .. "/limits"):match("Max open files%s+%d+%s+(%d+)")
    assert.equal(tonumber(hard), posix.limit_descriptors(s:server_pid(), tonumber(hard)))
  end)

  it("is closed when it dribbles its headers, however steadily", function()
    start [[header_timeout = "1s", body_timeout = "1s"]]
    open(50, "POST /echo HTTP/1.1\r\n")
    local since, answers = posix.now(), {}
    s:wait(function()
      for i, conn in ipairs(conns) do
        if not answers[i] then
          posix.write(conn.fd, "X: y\r\n", posix.now() + 1)
          local got = fate(conn, 0)
          if got ~= "open" then answers[i] = got end
        end
      end
      return #answers == #conns
    end, 10, "all of them to be answered")
    assert.is_true(posix.now() - since >= 0.9, "they had their second")
    for _, answer in ipairs(answers) do assert.is_true(answer == 408 or answer == "closed", tostring(answer)) end
    assert.equal("pong", ping())
  end)

  it("is closed when its body stops coming, and at ten times that when it dribbles", function()
    start [[body_timeout = "300ms"]]
    open(2, HEAD .. "\r\n")
    local since, stalled, dribbling = posix.now(), nil, nil
    s:wait(function()
      if not dribbling then posix.write(conns[2].fd, "x", posix.now() + 1) end
      stalled = stalled or (fate(conns[1], 0) ~= "open" and posix.now() - since)
      dribbling = dribbling or (fate(conns[2], 0) ~= "open" and posix.now() - since)
      return stalled and dribbling
    end, 15, "both to be answered")
    assert.is_true(stalled >= 0.3 and dribbling >= 3, ("after %.1f and %.1f seconds"):format(stalled, dribbling))
  end)

  it("cannot fill the memory by never reading", function()
    start [[write_timeout = "1s"]]
    local before = s:memory()
    open(50, "GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ = 1, 5 do assert.equal("pong", ping()) end
    assert.is_true(s:memory() - before < (slow and 400 or 64) * MIB, ("%.1f MiB more"):format((s:memory() - before) / MIB))
    s:wait(function() return #posix.descriptors(s:server_pid()) < 50 end, 15, "them to be cut after a second without progress")
  end)

  it("waits in the line while the server is out of descriptors, and is served afterwards", function()
    start()
    local room = posix.limit_descriptors(s:server_pid(), #posix.descriptors(s:server_pid()) + 20)
    open(100)
    s:wait_log("cannot accept connections", 10)
    conns[1]:send("GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n") -- who is in is served
    assert.equal("pong", conns[1]:read_answer("GET").body)
    for i = 1, 60 do conns[i]:close() end
    conns[100]:send("GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.limit_descriptors(s:server_pid(), room)
    assert.equal("pong", conns[100]:read_answer("GET").body)
    assert.equal("pong", ping())
  end)

  it("is let in as far as http.max_connections says, and the next when one leaves", function()
    start "max_connections = 10"
    open(11, "GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for i = 1, 10 do assert.equal("pong", conns[i]:read_answer("GET").body) end
    assert.equal("open", fate(conns[11], 0.3))
    conns[3]:close()
    assert.equal("pong", conns[11]:read_answer("GET").body)
  end)
end)
