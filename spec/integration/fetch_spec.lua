-- SPDX-License-Identifier: MIT
-- mw.fetch in a real server: plugins that ask an outside server, and each other.

local server = require "support.server"
local upstream = require "support.upstream"
local zlib = require "support.zlib"

local plugin = [[
  local mw = require "mw"
  local UP = mw.env.APP_UPSTREAM

  mw.post("/forward", function(req, res)
    local answer = mw.fetch(UP .. "/charges", { json = req:json(), headers = { ["X-From"] = "moonwatch" } }):ok()
    res:json { n = answer:json().n, type = answer.headers["content-TYPE"], status = answer.status }
  end)

  mw.get("/self", function(req, res)
    local answer = mw.fetch("http://" .. req.headers.host .. "/leaf"):ok()
    res:json(answer:json())
  end)
  mw.get("/leaf", function(_, res) res:json { leaf = true } end)
  mw.get("/missing", function(req, res) mw.fetch("http://" .. req.headers.host .. "/nowhere"):ok() end)

  mw.get("/three", function(_, res)
    local got = mw.all {
      a = function() return mw.fetch(UP .. "/a").status end,
      b = function() return mw.fetch(UP .. "/b").status end,
      c = function() return mw.fetch(UP .. "/c").status end,
    }
    res:json(got)
  end)

  mw.get("/impatient", function(_, res)
    local answer, err = mw.try(mw.fetch, UP .. "/slow", { timeout = "200ms" })
    res:json { code = err.code, retryable = err.retryable, message = err.message }
  end)

  local packed = {}
  mw.post("/pack", { decompress = false }, function(req, res)
    packed.bytes, packed.coding = req.body, req.headers["x-coding"]
    res:text("kept")
  end)
  mw.get("/packed", function(_, res) res:header("content-encoding", packed.coding):send(packed.bytes) end)
  mw.get("/long", function(req, res) res:header("x-accept", req.headers["accept-encoding"] or "-"):text(("a long text, "):rep(20000)) end)
  mw.get("/unpack", function(req, res)
    local opts = { max_bytes = tonumber(req.query.max), headers = { range = req.query.range, ["accept-encoding"] = req.query.accept }, method = req.query.method }
    local answer, err = mw.try(mw.fetch, "http://" .. req.headers.host .. req.query.path, opts)
    if not answer then return res:json { code = err.code, message = err.message } end
    res:json { body = mw.crypto.sha256(answer.body), size = #answer.body, coding = answer.headers["content-encoding"], length = answer.headers["content-length"],
      accept = answer.headers["x-accept"] }
  end)

  mw.get("/refused", function()
    mw.fetch("http://127.0.0.1:1/private?token=secret")
  end)
]]

describe("mw.fetch", function()
  local s, up
  setup(function()
    up = upstream.start()
    s = server.start { plugins = { ["fetch.lua"] = plugin }, args = { "--workers", "1" }, env = { APP_UPSTREAM = up.url } }
  end)
  teardown(function()
    s:stop()
    up:stop()
  end)

  it("sends JSON to another server and reads its answer", function()
    local res = s:post("/forward", { json = { amount = 42 } })
    assert.are.equal(200, res.status)
    assert.are.same({ n = 1, type = "application/json", status = 200 }, res.json())
    local call = up:calls()[1]
    assert.are.same({ "POST", "/charges", { amount = 42 } }, { call.method, call.path, call.json })
    assert.are.equal("moonwatch", call.headers["x-from"])
    assert.are.equal("application/json", call.headers["content-type"])
    assert.is_nil(call.headers["idempotency-key"])
  end)

  it("reaches a route of the same worker", function()
    assert.are.same({ leaf = true }, s:get("/self").json())
  end)

  it("raises http_status from ok() for what is no success", function()
    local res = s:get("/missing")
    assert.is_true(res.status >= 400, "status " .. res.status)
    assert.are.equal("http_status", res.json().code)
  end)

  it("waits for several answers at once", function()
    up:set_delay(0.3)
    local started = server.now()
    local res = s:get("/three")
    local took = server.now() - started
    up:set_delay(0)
    assert.are.same({ a = 200, b = 200, c = 200 }, res.json())
    assert.is_true(took < 0.8, ("three answers of 0.3 s each took %.2f s"):format(took))
  end)

  it("gives up after its timeout, and others are served meanwhile", function()
    up:set_delay(5)
    local results = s:concurrently {
      function() return s:get("/impatient") end,
      function() return s:get("/leaf") end,
    }
    up:set_delay(0)
    local failure = results[1].json()
    assert.are.equal("timeout", failure.code)
    assert.is_true(failure.retryable)
    assert.is_truthy(failure.message:find("no answer after 0.2 seconds", 1, true))
    assert.are.equal(200, results[2].status)
  end)

  it("names the plugin's line when no answer came, and never the query", function()
    local res = s:get("/refused")
    assert.are.equal(500, res.status)
    assert.are.equal("ECONNREFUSED", res.json().code)
    s:wait_log("plugins/fetch.lua:%d+")
    assert.is_nil(s:log():find("token=secret", 1, true))
  end)

  describe("of a compressed answer", function()
    local function unpack_of(query) return s:get("/unpack?path=" .. query).json() end
    local function pack(bytes, coding) assert.equal(200, s:post("/pack", { body = bytes, headers = { ["x-coding"] = coding } }).status) end

    it("asks for it and gives what is in it", function()
      assert.same({ "gzip, deflate", 260000, nil, nil }, (function(a) return { a.accept, a.size, a.coding, a.length } end)(unpack_of("/long")))
      for coding, format in pairs { gzip = "gzip", deflate = "raw" } do
        pack(zlib.deflate(("x"):rep(50000), format), coding)
        assert.equal(50000, unpack_of("/packed").size)
      end
      pack("as it is", "br")
      assert.same({ 8, "br" }, (function(a) return { a.size, a.coding } end)(unpack_of("/packed")))
      pack("", "gzip")
      assert.equal(0, unpack_of("/packed").size)
      assert.equal(0, unpack_of("/long&method=HEAD").size)
    end)

    it("gives the bytes as they came to who asks for codings or a part himself", function()
      pack(zlib.deflate(("x"):rep(50000), "gzip"), "gzip")
      for _, query in ipairs { "/packed&accept=gzip", "/packed&range=bytes=0-" } do
        local answer = unpack_of(query)
        assert.equal("gzip", answer.coding)
        assert.is_true(answer.size < 1000)
      end
    end)

    it("fails when it is damaged, cut off, goes on, or is more than max_bytes", function()
      local packed = zlib.deflate(("\0"):rep(900000), "gzip")
      for bytes, why in pairs { [packed:sub(1, -2)] = "ends too early", [packed .. "x"] = "something follows", ["nothing of it"] = "is damaged" } do
        pack(bytes, "gzip")
        local answer = unpack_of("/packed")
        assert.equal("protocol", answer.code)
        assert.matches("the answer cannot be read: .*" .. why, answer.message)
      end
      pack(packed, "gzip")
      assert.equal("limit", unpack_of("/packed&max=899999").code)
      assert.equal(900000, unpack_of("/packed&max=900000").size)
    end)
  end)
end)
