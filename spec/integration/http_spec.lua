-- SPDX-License-Identifier: MIT
local server = require "support.server"

local plugin = [==[
local mw = require "mw"
mw.get("/facts/:name", function(req, res)
  res:json {
    method = req.method, path = req.path, name = req.params.name, q = req.query.q, all = req.query_all.q, any_case = req.headers["X-Custom"],
    exact = req.headers["x-custom"], cookie = req.cookies.a, ip = req.ip, trace_id = req.trace_id, absent = req.headers["x-absent"] == nil,
  }
end)
mw.post("/json", function(req, res) res:json { got = req:json() } end)
mw.post("/form", function(req, res) res:json(req:form()) end)
mw.post("/body", function(req, res) res:text(#req.body .. ":" .. req.body:sub(1, 5)) end)
mw.post("/small", { body = 8 }, function(req, res) res:text(req.body) end)
mw.post("/upload", { stream = true, body = "64MB" }, function(req, res)
  local bytes, pieces = 0, 0
  for piece in req:chunks() do bytes, pieces = bytes + #piece, pieces + 1 end
  res:json { bytes = bytes, several = pieces > 1 }
end)
mw.post("/upload-ends", { stream = true }, function(req, res)
  local ok, err = mw.try(function() for _ in req:chunks() do end end)
  mw.kv.set("upload", err and err.code or "whole")
end)
mw.get("/status", function(req, res) res:status(201):header("X-A", "1"):header("x-a", "2"):cookie("s", "v", { max_age = "1h" }):text("made") end)
mw.get("/nothing", function(req, res) res:status(204) end)
mw.get("/silent", function(req, res) end)
mw.get("/html", function(req, res) res:html("<p>") end)
mw.get("/go", function(req, res) res:redirect("/html", 303) end)
mw.get("/typed", function(req, res) res:header("content-type", "text/csv"):text("a,b") end)
mw.get("/split", function(req, res) res:header("x-a", "1\r\nx-b: 2"):text("never") end)
mw.get("/twice", function(req, res)
  res:text("first")
  local _, err = mw.try(function() res:text("second") end)
  mw.kv.set("twice", err.message)
end)
mw.get("/after", function(req, res)
  res:text("early")
  mw.kv.set("after", req.path .. " " .. req.headers.host:match("^[^:]+") .. " " .. req.ip)
end)
mw.get("/kept", function(req, res)
  if kept then
    local _, err = mw.try(function() return kept.headers end)
    return res:text(tostring(err.message))
  end
  rawset(_G, "kept", req)
  res:text("kept")
end)
mw.get("/stream", function(req, res)
  for i = 1, tonumber(req.query.n) do res:write(("%d,"):format(i):rep(tonumber(req.query.times or 1))) end
  res:finish()
end)
mw.get("/half", function(req, res) res:write("half") error("in the middle") end)
mw.get("/late", { timeout = 0.2 }, function(req, res)
  mw.try(mw.sleep, 30)
  res:text("too late")
end)
mw.get("/boom", function(req, res) error("a secret detail") end)
mw.get("/deny", function(req, res) error(mw.error("denied", "not you")) end)
mw.get("/teapot", function(req, res) error(mw.error("short", "I am one", { status = 418 })) end)
mw.get("/limited", function(req, res) error(mw.error("rate_limited", "slow down", { retry_after = 7.2 })) end)
mw.get("/value", function(req, res) error({ odd = true }) end)
mw.get("/kv/:key", function(req, res) res:text(mw.kv.get(req.params.key) or "-") end)
mw.get("/gone", function(req, res)
  mw.kv.set("gone", "began")
  mw.sleep(0.3)
  mw.kv.set("gone", "finished")
  res:text("nobody")
end)
mw.get("/endless", function(req, res)
  mw.kv.set("endless", "began")
  local _, err = mw.try(function() while true do res:write(("x"):rep(65536)) end end)
  mw.kv.set("endless", err and err.code or "?")
end)

local function outer(req, res, next) req.trail = "outer " next() mw.kv.set("trail", req.trail .. "done") end
local function guard(req, res, next) if req.query.key ~= "k" then return res:status(401):text("no key") end req.trail = req.trail .. "guard " next() end
mw.get("/guarded", outer, guard, function(req, res) req.trail = req.trail .. "handler " mw.sleep(0.01) res:text(req.trail) end)
mw.get("/again", function(req, res, next) next() next() end, function(req, res) res:text("x") end)
]==]

describe("http", function()
  local s
  setup(function() s = server.start { plugins = { ["http.lua"] = plugin }, env = { MOONWATCH_ENVIRONMENT = "production" } } end)
  teardown(function() s:stop() end)

  local function kv(key) return s:get("/kv/" .. key).body end

  it("shows a handler what was asked", function()
    local trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    local answer = s:get("/facts/a%20b%2Fc?q=1&q=%32&x", {
      headers = { ["X-Custom"] = "yes", cookie = "a=1; b=2", traceparent = "00-" .. trace .. "-00f067aa0ba902b7-01" } })
    assert.equal(200, answer.status)
    assert.same({ method = "GET", path = "/facts/a b/c", name = "a b/c", q = "2", all = { "1", "2" }, any_case = "yes", exact = "yes",
      cookie = "1", ip = "127.0.0.1", trace_id = trace, absent = true }, answer.json())
    assert.equal(trace, answer.headers["x-trace-id"])
  end)

  it("makes a trace id when none, or a bad one, came", function()
    for _, header in ipairs { "", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
      "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01" } do
      local id = s:get("/nothing", { headers = { traceparent = header } }).headers["x-trace-id"]
      assert.matches("^%x+$", id)
      assert.equal(32, #id)
      assert.not_matches("4bf92f3577b34da6a3ce929d0e0e4736", id:lower())
    end
  end)

  it("answers with status, headers and cookies, and the type that was set", function()
    local answer = s:get("/status")
    assert.same({ 201, "made", "2", "text/plain; charset=utf-8" },
      { answer.status, answer.body, answer.headers["x-a"], answer.headers["content-type"] })
    assert.equal("s=v; Path=/; Max-Age=3600; SameSite=Lax; HttpOnly", answer.headers["set-cookie"])
    assert.equal("text/csv", s:get("/typed").headers["content-type"])
    assert.equal("text/html; charset=utf-8", s:get("/html").headers["content-type"])
    local go = s:get("/go")
    assert.same({ 303, "/html" }, { go.status, go.headers.location })
    assert.equal(204, s:get("/nothing").status)
  end)

  it("says so when a handler ends without an answer", function()
    local answer = s:get("/silent")
    assert.equal(500, answer.status)
    assert.equal("the handler ended without an answer", answer.json().detail)
  end)

  it("reads JSON bodies and refuses others by kind", function()
    assert.same({ a = { 1, 2 } }, s:post("/json", { json = { a = { 1, 2 } } }).json().got)
    local function refused(body, kind)
      local answer = s:post("/json", { body = body, headers = { ["content-type"] = kind } })
      assert.equal("application/problem+json", answer.headers["content-type"])
      assert.equal(answer.headers["x-trace-id"], answer.json().trace_id)
      return answer.status, answer.json().detail
    end
    assert.same({ 415, "the content type is text/plain; send application/json" }, { refused("{}", "text/plain") })
    local status, detail = refused('{"a":', "application/json")
    assert.equal(400, status)
    assert.matches("the body is not valid JSON: line 1, column 6", detail)
    assert.equal(400, (refused("", "application/json")))
    assert.equal(200, s:post("/json", { body = "{}", headers = { ["content-type"] = "application/vnd.x+json; charset=utf-8" } }).status)
  end)

  it("reads urlencoded forms", function()
    local urlencoded = { ["content-type"] = "application/x-www-form-urlencoded" }
    assert.same({ a = "1", ["b c"] = "d&e" }, s:post("/form", { body = "a=1&b+c=d%26e", headers = urlencoded }).json())
    assert.equal(400, s:post("/form", { body = "a=%", headers = urlencoded }).status)
    assert.equal(415, s:post("/form", { body = "x", headers = { ["content-type"] = "text/plain" } }).status)
  end)

  it("keeps to the body limit of each route", function()
    assert.equal("12345678", s:post("/small", { body = "12345678" }).body)
    assert.equal(413, s:post("/small", { body = "123456789" }).status)
    assert.equal("1000000:xxxxx", s:post("/body", { body = ("x"):rep(1000000) }).body)
    assert.equal(413, s:post("/body", { body = ("x"):rep(1100000) }).status)
  end)

  it("streams a body to a handler that asks for it", function()
    assert.same({ bytes = 20000000, several = true }, s:post("/upload", { body = ("u"):rep(20000000), timeout = 30 }).json())
    assert.same({ bytes = 0, several = false }, s:post("/upload", { body = "" }).json())
  end)

  it("tells a streaming handler when the rest never comes", function()
    local conn = s:connect()
    conn:send("POST /upload-ends HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nabc")
    conn:close()
    s:wait(function() return kv("upload") ~= "-" end, 5, "the end of the upload")
    assert.equal("closed", kv("upload"))
  end)

  it("streams an answer in chunks to a slow reader", function()
    local conn = s:connect()
    conn:send("GET /stream?n=300&times=20000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    s:pause(0.1)
    local answer = conn:read_answer("GET", { timeout = 30 })
    assert.equal("chunked", answer.headers["transfer-encoding"])
    local size = 0
    for i = 1, 300 do size = size + #("%d,"):format(i) * 20000 end
    assert.equal(size, #answer.body)
    assert.equal("300,", answer.body:sub(-4))
    assert.equal(200, conn:request("GET", "/html").status) -- the connection is kept
    conn:close()
  end)

  it("cuts a streamed answer whose handler fails, so that nobody takes it for whole", function()
    local conn = s:connect()
    conn:send("GET /half HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert.is_false((pcall(conn.read_answer, conn, "GET", { timeout = 5 })))
    conn:close()
  end)

  it("makes response splitting impossible", function()
    local answer = s:get("/split")
    assert.equal(400, answer.status)
    assert.is_nil(answer.headers["x-b"])
    assert.matches("control characters", answer.json().detail)
  end)

  it("refuses a second answer", function()
    assert.equal("first", s:get("/twice").body)
    assert.matches("answered already", kv("twice"))
  end)

  it("lets a handler read the request after it answered", function()
    assert.equal("early", s:get("/after").body)
    s:wait(function() return kv("after") == "/after 127.0.0.1 127.0.0.1" end, 5, "what ran after the answer")
  end)

  it("runs middleware around the handler, and lets it stop there", function()
    assert.equal("outer guard handler ", s:get("/guarded?key=k").body)
    s:wait(function() return kv("trail") == "outer guard handler done" end, 5, "what runs after next()")
    local refused = s:get("/guarded")
    assert.same({ 401, "no key" }, { refused.status, refused.body })
    assert.equal(200, s:get("/again").status)
    s:wait_log("next%(%) was called twice", 5)
  end)

  it("answers what was raised, and keeps unexpected words to the log in production", function()
    local boom = s:get("/boom")
    assert.equal(500, boom.status)
    assert.not_matches("secret", boom.body)
    s:wait_log("plugins/http.lua:%d+: a secret detail", 5)
    local denied = s:get("/deny").json()
    assert.same({ 403, "not you", "denied" }, { denied.status, denied.detail, denied.code })
    assert.equal(418, s:get("/teapot").status)
    local limited = s:get("/limited")
    assert.same({ 429, "8" }, { limited.status, limited.headers["retry-after"] })
    assert.equal(500, s:get("/value").status)
  end)

  it("answers for a handler that is late, and drops what it says then", function()
    local conn = s:connect()
    local answer = conn:request("GET", "/late")
    assert.equal(503, answer.status)
    assert.matches("did not answer in time", answer.json().detail)
    conn:close()
  end)

  it("lets a handler finish what it does when its client has gone", function()
    local conn = s:connect()
    conn:send("GET /gone HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    s:wait(function() return kv("gone") == "began" end, 5, "the handler")
    conn:close()
    s:wait(function() return kv("gone") == "finished" end, 5, "the end of the handler")
  end)

  it("ends a handler that writes to a client that has gone", function()
    local conn = s:connect()
    conn:send("GET /endless HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    s:wait(function() return kv("endless") == "began" end, 5, "the handler")
    conn:close()
    s:wait(function() return kv("endless") == "closed" end, 5, "the end of the handler")
  end)

  it("answers also when what it quotes is no text", function()
    local answer = s:post("/json", { body = "{}", headers = { ["content-type"] = "a\255b" } })
    assert.same({ 415, "the content type is a?b; send application/json" }, { answer.status, answer.json().detail })
    assert.equal(404, s:get("/nowhere%ff").status)
    assert.equal(404, s:get("/nowhere%ff").json().status)
  end)

  it("answers 404 and 405 as problems", function()
    assert.equal("no route answers GET /nowhere", s:get("/nowhere").json().detail)
    local answer = s:request("DELETE", "/json")
    assert.same({ 405, "POST" }, { answer.status, answer.headers.allow })
  end)

  it("keeps a connection over many requests, pipelined ones too", function()
    local conn = s:connect()
    for i = 1, 50 do assert.equal("/facts/" .. i, conn:request("GET", "/facts/" .. i).json().path) end
    local requests = {}
    for i = 1, 20 do requests[i] = ("GET /facts/p%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):format(i) end
    conn:send(table.concat(requests))
    for i = 1, 20 do assert.equal("/facts/p" .. i, conn:read_answer("GET", {}).json().path) end
    conn:close()
  end)

  it("refuses smuggling through the whole program", function()
    local forms = {
      ["both lengths"] = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      ["space before the colon"] = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
      ["obs-fold"] = "GET /html HTTP/1.1\r\nHost: a\r\nX: 1\r\n\tb\r\n\r\n",
      ["two Hosts"] = "GET /html HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
      ["listed lengths"] = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
      ["bare LF"] = "GET /html HTTP/1.1\nHost: a\n\n",
      ["bare CR"] = "GET /html HTTP/1.1\r\nHost: a\r\nX: a\rb: c\r\n\r\n",
      ["bad chunk size"] = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    }
    for name, bytes in pairs(forms) do
      local conn = s:connect()
      conn:send(bytes .. "GET /html HTTP/1.1\r\nHost: a\r\n\r\n")
      local answer = conn:read_answer("GET", {})
      assert.equal(400, answer.status, name)
      assert.matches("^%x+$", answer.json().trace_id)
      assert.is_true(conn:is_closed(5), name)
      conn:close()
    end
  end)
end)
