-- SPDX-License-Identifier: MIT
-- Clients that speak HTTP badly, slowly, or on purpose wrongly, against the whole program.

local posix = require "support.posix"
local server = require "support.server"

local plugin = [==[
local mw = require "mw"
mw.get("/ping", function(_, res) res:text("pong") end)
mw.post("/echo", function(req, res) res:text(#req.body) end)
mw.post("/form", function(req, res) req:form() res:text("read") end)
mw.get("/query", function(req, res) res:text(tostring(req.query.a)) end)
mw.get("/cookies", function(req, res) local n = 0 for _ in pairs(req.cookies) do n = n + 1 end res:text(n) end)
mw.post("/stream", { stream = true, body = "1GB" }, function(req, res)
  local n = 0
  for piece in req:chunks() do n = n + #piece end
  res:text(n)
end)
mw.get("/flood", function(_, res) local piece = ("x"):rep(65536) while true do res:write(piece) end end)
]==]

local HOST = "Host: localhost\r\n"
local PING = "GET /ping HTTP/1.1\r\n" .. HOST .. "Connection: close\r\n\r\n"

describe("a client that abuses HTTP", function()
  local s

  setup(function() s = server.start { plugins = { ["a.lua"] = plugin }, args = { "--workers", "1" } } end)
  teardown(function() s:stop() end)

  -- The statuses of all answers to `bytes`, until the server closes or is quiet.
  local function statuses(bytes, seconds)
    local conn, list = s:connect(), {}
    posix.write(conn.fd, bytes, posix.now() + 5) -- it may be closed while it is sent
    while true do
      local ok, answer = pcall(conn.read_answer, conn, "GET", { timeout = seconds or 5, interim = true })
      if not ok then break end
      list[#list + 1] = answer.status
    end
    conn:close()
    return table.concat(list, " ")
  end

  local function post(headers, body) return "POST /echo HTTP/1.1\r\n" .. HOST .. headers .. "\r\n" .. (body or "") end

  local chunked = "Transfer-Encoding: chunked\r\n"
  local smuggling = {
    ["both framings"] = post("Content-Length: 3\r\n" .. chunked, "0\r\n\r\n"),
    ["a list of encodings"] = post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ["a space before the colon"] = post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    ["two lengths"] = post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
    ["a list of lengths"] = post("Content-Length: 3, 3\r\n", "abc"),
    ["a signed length"] = post("Content-Length: +3\r\n", "abc"),
    ["a length beyond 64 bits"] = post("Content-Length: 18446744073709551619\r\n", "abc"),
    ["an empty length"] = post("Content-Length: \r\n", "abc"),
    ["a signed chunk"] = post(chunked, "+3\r\nabc\r\n0\r\n\r\n"),
    ["a chunk beyond 64 bits"] = post(chunked, "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ["a chunk line that ends in LF"] = post(chunked, "3\nabc\r\n0\r\n\r\n"),
    ["a chunk without its end"] = post(chunked, "3\r\nabcXX0\r\n\r\n"),
    ["a quoted line break"] = post(chunked, "3;a=\"b\r\nc\"\r\nabc\r\n0\r\n\r\n"),
    ["a folded header"] = "GET /ping HTTP/1.1\r\n" .. HOST .. "X: a\r\n b\r\n\r\n",
    ["lines that end in LF"] = "GET /ping HTTP/1.1\nHost: localhost\n\n",
    ["lines that end in CR"] = "GET /ping HTTP/1.1\rHost: localhost\r\r\n\r\n",
    ["a NUL in a value"] = "GET /ping HTTP/1.1\r\n" .. HOST .. "X: a\0b\r\n\r\n",
    ["two hosts"] = "GET /ping HTTP/1.1\r\n" .. HOST .. HOST .. "\r\n",
    ["a host with a user"] = "GET /ping HTTP/1.1\r\nHost: evil@localhost\r\n\r\n",
    ["a target that names another host"] = "GET http://evil.example/ping HTTP/1.1\r\n" .. HOST .. "\r\n",
    ["CONNECT"] = "CONNECT localhost:80 HTTP/1.1\r\n" .. HOST .. "\r\n",
    ["two spaces"] = "GET  /ping HTTP/1.1\r\n" .. HOST .. "\r\n",
    ["HTTP/0.9"] = "GET /ping\r\n\r\n",
  }
  for name, bytes in pairs(smuggling) do
    it("is answered 400 and nothing behind it is read: " .. name, function() assert.equal("400", statuses(bytes .. PING)) end)
  end

  it("cannot turn a body into a second request", function()
    assert.equal("200 200", statuses("GET /ping HTTP/1.1\r\n" .. HOST .. "Content-Length: 3\r\n\r\nabc" .. PING))
    assert.equal("404 200", statuses("POST /none HTTP/1.1\r\n" .. HOST .. "Content-Length: " .. #PING .. "\r\n\r\n" .. PING .. PING))
    assert.equal("413", statuses(post("Content-Length: 30000000\r\n") .. PING))
    assert.equal("204", statuses("OPTIONS * HTTP/1.1\r\n" .. HOST .. "Content-Length: " .. #PING .. "\r\n\r\n" .. PING))
    assert.equal("200 200", statuses(post(chunked, "0\r\nContent-Length: 50\r\n\r\n") .. PING))
  end)

  it("is not upgraded to what the server does not speak", function()
    for _, protocol in ipairs { "h2c", "websocket" } do
      assert.equal("200 200", statuses("GET /ping HTTP/1.1\r\n" .. HOST .. "Connection: Upgrade\r\nUpgrade: " .. protocol .. "\r\n\r\n" .. PING))
    end
    assert.equal("505", statuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
  end)

  it("waits for 100 only where its body would be read", function()
    assert.equal("100", statuses(post("Expect: 100-continue\r\nContent-Length: 3\r\n"), 0.5))
    assert.equal("413", statuses(post("Expect: 100-continue\r\nContent-Length: 30000000\r\n")))
    assert.equal("417", statuses(post("Expect: more\r\nContent-Length: 3\r\n", "abc")))
    assert.equal("404", statuses("POST /none HTTP/1.1\r\n" .. HOST .. "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n" .. PING))
  end)

  it("is refused what is too much of anything", function()
    assert.equal("431", statuses("GET /" .. ("a"):rep(200000) .. " HTTP/1.1\r\n" .. HOST .. "\r\n"))
    assert.equal("431", statuses("GET /ping HTTP/1.1\r\n" .. HOST .. ("a: b\r\n"):rep(20000) .. "\r\n"))
    assert.equal("400", statuses(post(chunked, "3;" .. ("x"):rep(100000) .. "\r\nabc\r\n0\r\n\r\n")))
    assert.equal("400", statuses(post(chunked, "0\r\n" .. ("X: y\r\n"):rep(50000) .. "\r\n")))
    assert.equal("400", statuses("GET /query?" .. ("a&"):rep(3000) .. " HTTP/1.1\r\n" .. HOST .. "Connection: close\r\n\r\n"))
    local form = ("a=b&"):rep(100000)
    assert.equal("400", statuses("POST /form HTTP/1.1\r\n" .. HOST .. "Connection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
      .. #form .. "\r\n\r\n" .. form))
    assert.equal("200", statuses("GET /cookies HTTP/1.1\r\n" .. HOST .. "Connection: close\r\nCookie: " .. ("a=b; "):rep(2500) .. "\r\n\r\n"))
  end)

  it("is refused escapes that are none", function()
    for _, target in ipairs { "/%zz", "/a%00b", "/a%", "/a%2", "/query?a=%zz", "/query?a=%" } do
      assert.matches("^400", statuses("GET " .. target .. " HTTP/1.1\r\n" .. HOST .. "Connection: close\r\n\r\n"), target)
    end
  end)

  it("gets its answer though it closed its half, and none to half a request", function()
    for bytes, expected in pairs { ["GET /ping HTTP/1.1\r\n" .. HOST .. "\r\n"] = "200", [post("Content-Length: 30\r\n", "abc")] = "" } do
      local conn = s:connect()
      conn:send(bytes)
      posix.shutdown(conn.fd)
      local ok, answer = pcall(conn.read_answer, conn, "GET")
      assert.equal(expected, ok and tostring(answer.status) or "")
      conn:close()
    end
  end)

  it("is served when its body comes in the smallest chunks, or many blank lines before", function()
    assert.equal("200 200", statuses("POST /stream HTTP/1.1\r\n" .. HOST .. chunked .. "\r\n" .. ("1\r\na\r\n"):rep(50000) .. "0\r\n\r\n" .. PING, 30))
    assert.equal("200", statuses(("\r\n"):rep(100000) .. PING, 30))
  end)

  it("does not fill the error log by breaking its own request", function()
    assert.equal("400", statuses("POST /stream HTTP/1.1\r\n" .. HOST .. chunked .. "\r\n3\r\nabc\r\nzz\r\n"))
    assert.equal(200, s:get("/ping").status)
    assert.not_matches("the handler failed", s:log())
  end)

  it("cannot keep others from being served by idling, never reading, or sending half a body", function()
    local before, conns = s:memory(), {}
    local function open(count, bytes)
      for _ = 1, count do
        local conn = s:connect()
        if bytes then posix.write(conn.fd, bytes, posix.now() + 5) end
        conns[#conns + 1] = conn
      end
    end
    open(500)
    open(20, "GET /flood HTTP/1.1\r\n" .. HOST .. "\r\n")
    open(100, post("Content-Length: 900000\r\n", ("x"):rep(10000)))
    open(5, ("GET /ping HTTP/1.1\r\n" .. HOST .. "\r\n"):rep(2000))
    for _ = 1, 5 do assert.equal("pong", s:get("/ping", { timeout = 10 }).body) end
    local slow = (os.getenv("MW_TEST_SLOW") or "") ~= "" -- a sanitizer keeps what is freed
    assert.is_true(s:memory() - before < (slow and 512 or 96) * 1024 * 1024, ("%.1f MiB more"):format((s:memory() - before) / 1048576))
    for _, conn in ipairs(conns) do conn:close() end
    assert.equal("pong", s:get("/ping", { timeout = 10 }).body)
  end)
end)
