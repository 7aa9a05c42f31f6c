-- SPDX-License-Identifier: MIT

local dkjson = require "dkjson"
local ffi = require("support.cdef")("http/access_log.h", "base/buf.h")
local C = ffi.C

local anchor = {}

local function line(format, fields)
  local entry, out = ffi.new("mw_access_entry"), ffi.new("mw_buf")
  entry.wall_us, entry.minor = 1795622426123456LL, 1 -- 2026-11-25T16:00:26.123456Z
  for name, value in pairs(fields) do
    if type(value) == "string" then
      anchor[#anchor + 1] = value
      entry[name].ptr, entry[name].len = value, #value
    else
      entry[name] = value
    end
  end
  C.mw_access_format_line(format, entry, out)
  local text = ffi.string(out.ptr, out.len)
  C.mw_buf_deinit(out)
  return text
end

local request = { ip = "203.0.113.9", peer = "203.0.113.9", method = "GET", target = "/a?b=c", status = 200, bytes = 17, referer = "https://x.example/",
  user_agent = "curl/8", route = "/:name", trace_id = ("ab"):rep(16), tls = "TLSv1.3", host = "shop.example", duration_ns = 1234567 }

local function with(changes)
  local fields = {}
  for name, value in pairs(request) do fields[name] = value end
  for name, value in pairs(changes) do fields[name] = value end
  return fields
end

describe("a combined line", function()
  it("is what Apache and nginx write", function()
    assert.equal('203.0.113.9 - - [25/Nov/2026:16:00:26 +0000] "GET /a?b=c HTTP/1.1" 200 17 "https://x.example/" "curl/8"\n', line(0, request))
  end)
  it("has a dash for what is not there", function()
    assert.equal('- - - [25/Nov/2026:16:00:26 +0000] "-" 400 0 "-" "-"\n', line(0, { status = 400 }))
  end)
  it("stays one line with its fields apart, whatever a client sends", function()
    local text = line(0, with { user_agent = 'a"b\\c\r\n1.2.3.4 - - "GET\t\0\127\27[31m\195\164', method = 'G"', target = "/\n" })
    assert.equal(1, select(2, text:gsub("\n", "")))
    assert.matches([["a\x22b\x5Cc\x0D\x0A1.2.3.4 - - \x22GET\x09\x00\x7F\x1B[31m\xC3\xA4"]], text, 1, true)
    assert.matches([["G\x22 /\x0A HTTP/1.1"]], text, 1, true)
  end)
  it("cuts fields that are too long, and leaves out a query that is secret", function()
    assert.is_true(#line(0, with { user_agent = ("x"):rep(30000), target = "/" .. ("y"):rep(30000) }) < 5000)
    assert.matches('"GET /a HTTP/1.1"', line(0, with { hides_query = true }), 1, true)
  end)
end)

describe("a JSON line", function()
  it("has route, trace, duration and TLS as well", function()
    assert.same({ time = "2026-11-25T16:00:26.123456Z", ip = "203.0.113.9", method = "GET", target = "/a?b=c", protocol = "HTTP/1.1", status = 200, bytes = 17,
      duration_ms = 1.235, route = "/:name", trace_id = ("ab"):rep(16), tls = "TLSv1.3", host = "shop.example", referer = "https://x.example/",
      user_agent = "curl/8" }, dkjson.decode(line(1, request)))
  end)
  it("names the proxy when the client is another, and leaves out what is not there", function()
    assert.same({ time = "2026-11-25T16:00:26.123456Z", ip = "203.0.113.9", peer = "10.0.0.7", protocol = "HTTP/1.0", status = 499, bytes = 0,
      duration_ms = 0 }, dkjson.decode(line(1, { ip = "203.0.113.9", peer = "10.0.0.7", status = 499, minor = 0 })))
  end)
  it("is valid, whatever a client sends", function()
    for _, text in ipairs { "\0\1\n\r\"\\", "\255\254", "\237\160\128", ("\195"):rep(3000) } do
      local out = line(1, with { user_agent = text, target = text })
      assert.equal(1, select(2, out:gsub("\n", "")))
      assert.equal(200, assert(dkjson.decode(out)).status)
    end
    assert.is_nil(dkjson.decode(line(1, with { hides_query = true })).target:find("?", 1, true))
  end)
end)
