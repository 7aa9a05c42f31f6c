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
mw.post("/stream-ends", { stream = true, body = 1000000 }, function(req, res)
  local bytes = 0
  local _, err = mw.try(function() for piece in req:chunks() do bytes = bytes + #piece end end)
  mw.kv.set("ended", (err and err.code or "whole") .. " " .. (bytes <= 1000000 and "within" or "beyond"))
end)
mw.get("/kv/:key", function(req, res) res:text(mw.kv.get(req.params.key) or "-") end)
]==]

describe("compression", function()
  local s
  setup(function() s = server.start { plugins = { ["zip.lua"] = plugin } } end)
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
end)
