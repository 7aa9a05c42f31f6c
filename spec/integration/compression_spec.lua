-- SPDX-License-Identifier: MIT
local curl = require "support.curl"
local posix = require "support.posix"
local server = require "support.server"
local zlib = require "support.zlib"

local plugin = [==[
local mw = require "mw"
mw.post("/body", function(req, res) res:text(#req.body .. ":" .. req.body:sub(1, 20)) end)
mw.post("/json", function(req, res) res:json(req:json()) end)
mw.post("/form", function(req, res) res:json(req:form()) end)
mw.post("/raw", { decompress = false }, function(req, res) res:send(req.body) end)
mw.post("/stream", { stream = true, body = "40MB" }, function(req, res)
  local bytes, pieces, largest = 0, 0, 0
  for piece in req:chunks() do bytes, pieces, largest = bytes + #piece, pieces + 1, math.max(largest, #piece) end
  res:json { bytes = bytes, several = pieces > 1, largest = largest }
end)
mw.post("/large", { body = "40MB" }, function(req, res) res:text(#req.body) end)
mw.post("/stream-ends", { stream = true, body = 1000000 }, function(req, res)
  local bytes = 0
  local _, err = mw.try(function() for piece in req:chunks() do bytes = bytes + #piece end end)
  mw.kv.set("ended", (err and err.code or "whole") .. " " .. (bytes <= 1000000 and "within" or "beyond"))
end)
local unit = {}
for i = 1, 2000 do unit[i] = ("%09d,"):format(i * 7919) end
unit = table.concat(unit)
local function text(n) return unit:rep(math.ceil(n / #unit)):sub(1, n) end
mw.get("/text/:n", function(req, res)
  for name, value in pairs(req.query) do res:header(name, value) end
  res:status(tonumber(req.headers["x-status"]) or 200):text(text(tonumber(req.params.n)))
end)
mw.get("/secret", { compress = false }, function(req, res) res:text(text(5000)) end)
mw.get("/noise", function(req, res)
  local t = {}
  for i = 1, 2000 do t[i] = string.char(mw.random(256) - 1) end
  res:text(table.concat(t))
end)
mw.get("/events", function(req, res)
  res:header("content-type", "text/event-stream"):header("etag", '"a"')
  for i = 1, 3 do
    res:write("data: " .. i .. "\n\n")
    while not mw.kv.get("event" .. i) do mw.sleep("5ms") end
  end
  res:finish()
end)
mw.post("/go/:key", function(req, res) mw.kv.set(req.params.key, true) res:text("ok") end)
mw.get("/large-writes", function(req, res)
  for _ = 1, 3 do res:write(text(3000000)) end
  res:finish()
end)
mw.get("/fails", function(req, res) res:write(text(5000)) error("in the middle") end)
mw.get("/ping", function(req, res) res:text("pong") end)
mw.get("/kv/:key", function(req, res) res:text(mw.kv.get(req.params.key) or "-") end)
]==]

describe("compression", function()
  local s
  setup(function() s = server.start { plugins = { ["zip.lua"] = plugin }, args = { "--workers", "1" } } end)
  teardown(function() s:stop() end)

  local function chunked(text, size)
    local parts = {}
    for at = 1, #text, size do
      local piece = text:sub(at, at + size - 1)
      parts[#parts + 1] = ("%x\r\n%s\r\n"):format(#piece, piece)
    end
    return table.concat(parts) .. "0\r\n\r\n"
  end

  local function post(path, body, encoding, headers)
    headers = headers or {}
    headers["content-encoding"] = encoding
    return s:post(path, { body = body, headers = headers, timeout = 30 })
  end

  describe("of a request", function()
    it("is undone before the handler sees the body", function()
      local text = ("some text, "):rep(2000)
      local expected = #text .. ":" .. text:sub(1, 20)
      for encoding, format in pairs { gzip = "gzip", ["x-gzip"] = "gzip", deflate = "zlib", Deflate = "raw" } do
        assert.equal(expected, post("/body", zlib.deflate(text, format), encoding).body, encoding)
      end
      assert.equal(expected, post("/body", text, "identity").body)
      assert.same({ a = 1 }, post("/json", zlib.deflate('{"a":1}', "gzip"), "gzip", { ["content-type"] = "application/json" }).json())
      assert.same({ a = "b" }, post("/form", zlib.deflate("a=b", "gzip"), "gzip", { ["content-type"] = "application/x-www-form-urlencoded" }).json())
    end)

    it("is undone for curl, which sends what gzip made", function()
      if not curl.exists() then return pending("needs curl") end
      posix.write_file(s.dir .. "/text", ("line of a log\n"):rep(5000))
      os.execute(("gzip -kf '%s/text'"):format(s.dir))
      for _, extra in ipairs { "X-A: b", "Transfer-Encoding: chunked", "Expect: 100-continue" } do
        local answer = curl(s, "/body", "--data-binary", "@" .. s.dir .. "/text.gz", "-H", "Content-Encoding: gzip", "-H", extra)
        assert.equal("70000:line of a log\nline o", answer.body, extra .. (answer.log or ""))
      end
    end)

    it("is undone in chunks, cut anywhere, and the connection goes on", function()
      local packed = zlib.deflate(("x"):rep(100000), "gzip")
      local conn = s:connect()
      for _, size in ipairs { 1, 7, 100000 } do
        local head = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        local plain = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nplain"
        local counted = ("POST /body HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"):format(#packed)
        conn:send(head .. chunked(packed, size) .. plain .. counted .. packed .. plain)
        for _, expected in ipairs { "100000:xxxxxxxxxxxxxxxxxxxx", "5:plain", "100000:xxxxxxxxxxxxxxxxxxxx", "5:plain" } do
          assert.equal(expected, conn:read_answer("POST", {}).body)
        end
      end
      conn:close()
    end)

    it("is undone piece by piece on a streaming route", function()
      local packed = zlib.deflate(("y"):rep(20000000), "gzip", 9)
      local conn = s:connect()
      conn:send(("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"):format(#packed) .. packed ..
        "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
      assert.same({ bytes = 20000000, several = true, largest = 32768 }, conn:read_answer("POST", { timeout = 30 }).json())
      assert.equal(2, conn:read_answer("POST", {}).json().bytes)
      conn:close()
    end)

    it("is undone also when the client has ended its side, whole or not", function()
      local noise = {}
      for i = 1, 600000 do noise[i] = string.char((i * 7919 + math.floor(i / 251) * 31) % 256) end
      local packed = zlib.deflate(table.concat(noise):rep(3) .. ("z"):rep(20000000), "gzip", 1)
      local head = ("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"):format(#packed)
      for _, path in ipairs { "/stream", "/large" } do
        local conn = s:connect()
        conn:send(head:gsub("/stream", path) .. packed)
        posix.shutdown(conn.fd)
        local answer = conn:read_answer("POST", { timeout = 30 })
        assert.is_truthy(answer.body:find("21800000", 1, true), answer.body)
        conn:close()
        conn = s:connect()
        conn:send(head:gsub("/stream", path) .. packed:sub(1, -10))
        posix.shutdown(conn.fd)
        assert.is_true(conn:is_closed(10))
        conn:close()
      end
    end)

    it("leaves a bomb no memory: 413 at the route's limit", function()
      local before = s:memory()
      local bomb = zlib.deflate(("\0"):rep(200000000), "gzip", 9)
      for _, path in ipairs { "/body", "/stream" } do
        local answer = post(path, bomb, "gzip")
        assert.equal(413, answer.status)
        assert.matches("once it is decompressed", answer.json().detail)
      end
      assert.equal(200, post("/body", zlib.deflate(("\0"):rep(1048576), "gzip"), "gzip").status)
      assert.equal(413, post("/body", zlib.deflate(("\0"):rep(1048577), "gzip"), "gzip").status)
      assert.is_true(s:memory() - before < 30000000)
    end)

    it("tells a streaming handler that a body is too large or damaged", function()
      post("/stream-ends", zlib.deflate(("\0"):rep(9000000), "gzip"), "gzip")
      s:wait(function() return s:get("/kv/ended").body == "limit within" end, 5, "the end by the limit")
      post("/stream-ends", zlib.deflate(("\0"):rep(900000), "gzip"):sub(1, -5), "gzip")
      s:wait(function() return s:get("/kv/ended").body == "protocol within" end, 5, "the end by the damage")
    end)

    it("must be whole: 400 says what is wrong", function()
      local packed = zlib.deflate("text", "gzip")
      for sentence, body in pairs {
        ["the compressed body ends too early"] = packed:sub(1, -2),
        ["something follows the end of the compressed body"] = packed .. "x",
        ["the compressed body is damaged: incorrect header check"] = "plain text",
      } do
        for _, path in ipairs { "/body", "/stream" } do
          local answer = post(path, body, "gzip")
          assert.same({ 400, sentence }, { answer.status, answer.json().detail })
        end
      end
    end)

    it("must be one that is read here: 415 says which are", function()
      for _, encoding in ipairs { "br", "zstd", "gzip, gzip", "compress", "gzip;q=1" } do
        local answer = post("/body", "x", encoding)
        assert.same({ 415, "gzip, deflate" }, { answer.status, answer.headers["accept-encoding"] }, encoding)
        assert.matches("send it as gzip", answer.json().detail)
      end
    end)

    it("is left alone where a route says so, and where there is no body", function()
      local packed = zlib.deflate("text", "gzip")
      assert.equal(packed, post("/raw", packed, "gzip").body)
      assert.equal("br it is", post("/raw", "br it is", "br").body)
      assert.equal("0:", post("/body", "", "gzip").body)
      assert.equal(404, post("/nowhere", packed, "gzip").status)
    end)
  end)

  local unit = {}
  for i = 1, 2000 do unit[i] = ("%09d,"):format(i * 7919) end
  unit = table.concat(unit)
  local function text(n) return unit:rep(math.ceil(n / #unit)):sub(1, n) end

  describe("of an answer", function()
    local function get(path, accept, headers)
      headers = headers or {}
      headers["accept-encoding"] = accept or "gzip"
      return s:get(path, { headers = headers, timeout = 60 })
    end

    it("is what the client takes", function()
      local gzip, deflate, plain = get("/text/5000"), get("/text/5000", "gzip;q=0.1, deflate"), get("/text/5000", "br")
      assert.same({ "gzip", "deflate" }, { gzip.headers["content-encoding"], deflate.headers["content-encoding"] })
      assert.is_nil(plain.headers["content-encoding"])
      assert.equal(text(5000), zlib.inflate(gzip.body, "gzip"))
      assert.equal(text(5000), zlib.inflate(deflate.body, "zlib"))
      assert.equal(text(5000), plain.body)
      for _, answer in ipairs { gzip, deflate, plain } do
        assert.equal("Accept-Encoding", answer.headers.vary)
        assert.equal(tostring(#answer.body), answer.headers["content-length"])
        assert.equal("text/plain; charset=utf-8", answer.headers["content-type"])
      end
      assert.is_nil(s:get("/text/5000").headers["content-encoding"])
      assert.is_nil(get("/text/5000", "identity;q=0").headers["content-encoding"])
    end)

    it("is read by curl, short, long and streamed", function()
      if not curl.exists() then return pending("needs curl") end
      for _, path in ipairs { "/text/5000", "/text/3000000", "/large-writes" } do
        for _, how in ipairs { "--http1.1", "--http1.0" } do
          local answer = curl(s, path, "--compressed", how)
          assert.same({ 0, 200, "gzip" }, { answer.exit, answer.status, answer.headers["content-encoding"] }, path)
          local expected = path == "/large-writes" and text(3000000):rep(3) or text(tonumber(path:match("%d+")))
          assert.is_true(answer.body == expected, path .. how)
        end
      end
      assert.not_equal(0, curl(s, "/fails", "--compressed").exit)
    end)

    it("is left out where it gains nothing or is not wanted", function()
      for _, path in ipairs { "/text/1020", "/noise", "/secret", "/text/5000?content-type=image/png", "/text/5000?content-encoding=br",
        "/text/5000?cache-control=private,%20no-transform", "/text/5000?repr-digest=x" } do
        assert.is_true(get(path).headers["content-encoding"] ~= "gzip", path)
      end
      assert.equal("gzip", get("/text/1030").headers["content-encoding"])
      assert.is_nil(get("/text/1020").headers.vary)
      assert.is_nil(get("/secret").headers.vary)
      assert.is_nil(get("/text/5000", "gzip", { ["x-status"] = "206" }).headers["content-encoding"])
      assert.equal("gzip", get("/text/5000", "gzip", { ["x-status"] = "404" }).headers["content-encoding"])
    end)

    it("weakens a strong ETag, and says Vary once", function()
      assert.equal('W/"a"', get("/text/5000?etag=%22a%22").headers.etag)
      assert.equal('W/"a"', get("/text/5000?etag=W/%22a%22").headers.etag)
      assert.equal('"a"', get("/text/5000?etag=%22a%22", "br").headers.etag)
      assert.equal("Origin, Accept-Encoding", get("/text/5000?vary=Origin").headers.vary)
      assert.equal("Origin, accept-encoding", get("/text/5000?vary=Origin,%20accept-encoding").headers.vary)
      assert.equal("*", get("/text/5000?vary=*").headers.vary)
      assert.is_nil(get("/text/5000?accept-ranges=bytes").headers["accept-ranges"])
    end)

    it("gives HEAD the headers of GET", function()
      for _, path in ipairs { "/text/5000", "/text/500", "/text/3000000", "/large-writes" } do
        local head, get_ = s:request("HEAD", path, { headers = { ["accept-encoding"] = "gzip" } }), get(path)
        for _, name in ipairs { "content-encoding", "content-length", "transfer-encoding", "vary", "content-type" } do
          assert.equal(get_.headers[name], head.headers[name], path .. " " .. name)
        end
        assert.equal("", head.body)
      end
    end)

    it("does not hold up a stream of events", function()
      local conn = s:connect()
      conn:send("GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
      local seen = ""
      local function events()
        local body = ""
        local rest = seen:match("\r\n\r\n(.*)") or ""
        while true do
          local size, after = rest:match("^(%x+)\r\n()")
          if not size or #rest < after + tonumber(size, 16) then break end
          body = body .. rest:sub(after, after + tonumber(size, 16) - 1)
          rest = rest:sub(after + tonumber(size, 16) + 2)
        end
        return (zlib.inflate(body, "gzip"))
      end
      for i = 1, 3 do
        while not events():find("data: " .. i, 1, true) do
          conn:fill(posix.now() + 5)
          seen, conn.rest = seen .. conn.rest, ""
        end
        assert.is_nil(events():find("data: " .. (i + 1), 1, true))
        s:post("/go/event" .. i)
      end
      conn:close()
      assert.matches("[Cc]ontent%-[Ee]ncoding: gzip", seen)
      assert.matches('[Ee][Tt]ag: W/"a"', seen)
    end)

    it("keeps the connection, also between long answers that are pipelined", function()
      local conn = s:connect()
      local one = "GET /text/2000000 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"
      local two = "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"
      conn:send((one .. two):rep(3))
      for _ = 1, 3 do
        local body, left, ended = zlib.inflate(conn:read_answer("GET", { timeout = 30 }).body, "gzip")
        assert.is_true(body == text(2000000) and left == "" and ended)
        assert.equal("pong", conn:read_answer("GET", {}).body)
      end
      conn:close()
    end)

    it("of a long one leaves the loop to others meanwhile", function()
      local results = s:concurrently {
        function()
          local began = posix.now()
          local answer = get("/text/40000000")
          local seconds = posix.now() - began
          return { whole = text(40000000) == zlib.inflate(answer.body, "gzip"), seconds = seconds }
        end,
        function()
          local conn, worst, give_up = s:connect { timeout = 60 }, 0, posix.now() + 1
          while posix.now() < give_up do
            local began = posix.now()
            assert.equal("pong", conn:request("GET", "/ping").body)
            worst = math.max(worst, posix.now() - began)
          end
          conn:close()
          return worst
        end,
      }
      local long, worst = results[1], results[2]
      assert.is_true(long.whole)
      assert.is_true(worst < long.seconds / 2, ("a short request waited %g s beside one that took %g s"):format(worst, long.seconds))
    end)
  end)

  it("can be switched off", function()
    local other = server.start { plugins = { ["zip.lua"] = plugin }, config = "return { http = { compress = false } }" }
    local answer = other:get("/text/5000", { headers = { ["accept-encoding"] = "gzip" } })
    other:stop()
    assert.same({ text(5000), nil, nil }, { answer.body, answer.headers["content-encoding"], answer.headers.vary })
  end)

  it("begins where, and is as thorough as, the configuration says", function()
    local other = server.start { plugins = { ["zip.lua"] = plugin }, config = "return { http = { compress_min = 100, compress_level = 9 } }" }
    local with = { headers = { ["accept-encoding"] = "gzip" } }
    local short, long = other:get("/text/110", with), other:get("/text/50000", with)
    other:stop()
    assert.equal("gzip", short.headers["content-encoding"])
    assert.is_true(#long.body < #s:get("/text/50000", with).body)
  end)
end)
