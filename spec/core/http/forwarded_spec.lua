-- SPDX-License-Identifier: MIT

local ffi = require("support.cdef")("http/forwarded.h", "ops/cidr.h", "base/err.h")
local C = ffi.C

local anchor = {} -- what slices point at must live as long as they do

local function str(text)
  local s = ffi.new("mw_str")
  if text then
    anchor[#anchor + 1] = text
    s.ptr, s.len = text, #text
  end
  return s
end

local function proxies(rfc7239, ...)
  local p = ffi.gc(ffi.new("mw_proxies"), C.mw_proxies_deinit)
  C.mw_proxies_init(p)
  p.is_rfc7239 = rfc7239
  for _, text in ipairs { ... } do assert.equal(0, C.mw_proxies_add(p, str(text), nil), text) end
  return p
end

local function read(p, fields)
  local given, out, text = ffi.new("mw_forwarded_fields"), ffi.new("mw_forwarded"), ffi.new("char[46]")
  given.forwarded, given.x_for, given.x_proto, given.x_host = str(fields.forwarded), str(fields["for"]), str(fields.proto), str(fields.host)
  C.mw_forwarded_read(p, given, out)
  local ip = out.is_known and ffi.string(text, C.mw_ip_format(out.ip, text)) or nil
  return ip, ffi.string(out.scheme.ptr, out.scheme.len), ffi.string(out.host.ptr, out.host.len)
end

describe("X-Forwarded-For", function()
  local p = proxies(false, "10.0.0.0/8", "fd00::/8")

  local function client(text) return (read(p, { ["for"] = text })) end

  it("names the rightmost address that is not trusted", function()
    assert.equal("203.0.113.9", client "203.0.113.9")
    assert.equal("203.0.113.9", client "203.0.113.9, 10.0.0.2")
    assert.equal("203.0.113.9", client "203.0.113.9,10.0.0.3,fd00::1 , 10.0.0.2")
    assert.equal("2001:db8::7", client "10.9.9.9, 2001:db8::7, 10.0.0.2")
  end)
  it("believes nothing left of it", function()
    assert.equal("203.0.113.9", client "127.0.0.1, 203.0.113.9")
    assert.equal("203.0.113.9", client "garbage, 1.2.3.4, 203.0.113.9, 10.0.0.2")
  end)
  it("names the leftmost when all are trusted", function() assert.equal("10.0.0.7", client "10.0.0.7, 10.0.0.2") end)
  it("takes ports and brackets", function()
    assert.equal("203.0.113.9", client "203.0.113.9:4711")
    assert.equal("2001:db8::7", client "[2001:db8::7]:4711")
    assert.equal("2001:db8::7", client "[2001:db8::7]")
  end)
  it("leaves the client unknown when there is no address to be read", function()
    for _, text in ipairs { "", " ", ",", "unknown", "garbage, 10.0.0.2", "203.0.113.9,", "203.0.113.9;10.0.0.1", "[::1", "[::1]x", "1.2.3.4.5",
      "\0", "a:b:c", ("x"):rep(30000), (","):rep(30000) } do
      assert.is_nil(client(text), text:sub(1, 50))
    end
    assert.is_nil(client(nil))
  end)
  it("is followed for 32 hops and no further", function()
    assert.equal("203.0.113.9", client("203.0.113.9" .. (", 10.0.0.1"):rep(31)))
    assert.is_nil(client("203.0.113.9" .. (", 10.0.0.1"):rep(32)))
    assert.is_nil(client(("10.0.0.1, "):rep(40) .. "10.0.0.1"))
  end)
  it("comes with scheme and host of the hop that names the client", function()
    assert.same({ "203.0.113.9", "https", "shop.example:8443" }, { read(p, { ["for"] = "203.0.113.9", proto = "HTTPS", host = "shop.example:8443" }) })
    assert.same({ "203.0.113.9", "https", "" }, { read(p, { ["for"] = "203.0.113.9, 10.0.0.2", proto = "https, http" }) })
    assert.same({ "203.0.113.9", "http", "" }, { read(p, { ["for"] = "1.2.3.4, 203.0.113.9", proto = "https, http" }) })
    assert.same({ "203.0.113.9", "https", "a.example" }, { read(p, { ["for"] = "203.0.113.9, 10.0.0.2", proto = "https", host = "a.example" }) })
  end)
  it("drops a scheme or host that is none", function()
    assert.same({ "203.0.113.9", "", "" }, { read(p, { ["for"] = "203.0.113.9", proto = "gopher", host = "a.example/x" }) })
    assert.same({ "203.0.113.9", "", "" }, { read(p, { ["for"] = "203.0.113.9", proto = "", host = "a\r\nb" }) })
  end)
  it("is not looked at when the other header is the trusted one", function()
    assert.is_nil((read(proxies(true, "10.0.0.0/8"), { ["for"] = "203.0.113.9" })))
    assert.is_nil((read(p, { forwarded = "for=203.0.113.9" })))
  end)
end)

describe("Forwarded", function()
  local p = proxies(true, "10.0.0.0/8")

  local function all(text) return { read(p, { forwarded = text }) } end

  it("names the rightmost untrusted for= with its proto and host", function()
    assert.same({ "203.0.113.9", "https", "shop.example" }, all "for=203.0.113.9;proto=https;host=shop.example, for=10.0.0.2;proto=http;host=inner")
    assert.same({ "2001:db8::7", "", "" }, all 'For="[2001:db8::7]:4711"')
    assert.same({ "203.0.113.9", "http", "" }, all 'by=10.0.0.1 ; for="203.0.113.9:80" ; proto=http')
    assert.same({ "203.0.113.9", "", "a.example:1" }, all 'for=203.0.113.9;host="a.example:1";ext="a,b;c"')
  end)
  it("leaves the client unknown for hidden names and what RFC 7239 does not know", function()
    for _, text in ipairs { "for=unknown", "for=_hidden", 'for="203.0.113.9', "203.0.113.9", "for=", "=1", ";", ",", "for=203.0.113.9,", "",
      'for="203.0.113.9"x', 'for="20\\3.0.113.9"', "proto=https", ("for=10.0.0.1,"):rep(2000) .. "for=10.0.0.1" } do
      assert.is_nil(all(text)[1], text:sub(1, 50))
    end
  end)
  it("is followed for 32 hops and no further", function()
    assert.equal("203.0.113.9", all("for=203.0.113.9" .. (", for=10.0.0.1"):rep(31))[1])
    assert.is_nil(all("for=203.0.113.9" .. (", for=10.0.0.1"):rep(32))[1])
  end)
end)

describe("trusted proxies", function()
  it("are addresses, networks and Unix sockets", function()
    local p = proxies(false, "10.0.0.0/8", "unix", "::1")
    for _, peer in ipairs { "10.1.1.1", "::1", "unix" } do assert.is_true(C.mw_proxies_has(p, str(peer)), peer) end
    for _, peer in ipairs { "11.1.1.1", "127.0.0.1", "", "unix:/x" } do assert.is_false(C.mw_proxies_has(p, str(peer)), peer) end
    assert.is_false(C.mw_proxies_has(proxies(false), str "unix"))
  end)
end)
