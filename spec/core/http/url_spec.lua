-- SPDX-License-Identifier: MIT
local ffi = require "support.cdef"("http/url.h", "base/buf.h")
local C = ffi.C

local function str(text) return ffi.new("mw_str", { text, #text }) end
local function text_of(s) if s.ptr == nil then return nil end return ffi.string(s.ptr, s.len) end

local function parse(text)
  local url, err = ffi.new("mw_url"), ffi.new("mw_err")
  if C.mw_url_parse(str(text), url, err) ~= 0 then return nil, ffi.string(err.text) end
  return {
    scheme = text_of(url.scheme), userinfo = text_of(url.userinfo), host = text_of(url.host), path = text_of(url.path),
    query = text_of(url.query), port = url.port, is_tls = url.is_tls, is_v6 = url.is_v6, raw = url, keep = text,
  }
end

local function resolve(base, reference)
  local out, err = ffi.new("mw_buf"), ffi.new("mw_err")
  local keep = parse(base)
  local code = C.mw_url_resolve(keep.raw, str(reference), out, err)
  local text = ffi.string(out.ptr, out.len)
  C.mw_buf_deinit(out)
  if code ~= 0 then return nil, ffi.string(err.text) end
  return text
end

describe("a URL", function()
  it("is taken apart", function()
    local url = parse "https://me:pw@api.example.com:8443/v1/x?a=1&b=2#part"
    assert.are.same({ "https", "me:pw", "api.example.com", 8443, "/v1/x", "a=1&b=2", true },
      { url.scheme, url.userinfo, url.host, url.port, url.path, url.query, url.is_tls })
  end)

  it("has the default port of its scheme", function()
    assert.are.equal(80, parse("http://a").port)
    assert.are.equal(443, parse("HTTPS://a/").port)
    assert.are.equal(80, parse("http://a:/").port)
  end)

  it("may have no path and no query", function()
    local url = parse "http://a"
    assert.are.equal("", url.path)
    assert.is_nil(url.query)
    assert.are.equal("", parse("http://a?").query)
    assert.are.equal("x/y", parse("http://a?x/y").query)
  end)

  it("may have an IPv6 host", function()
    local url = parse "http://[2001:db8::1]:81/x"
    assert.are.same({ "2001:db8::1", 81, true }, { url.host, url.port, url.is_v6 })
  end)

  it("keeps an @ in the password and in the path apart from the host", function()
    assert.are.equal("h", parse("http://u:p@q@h/").host)
    assert.are.equal("h", parse("http://h/a@b").host)
  end)

  local refused = {
    { "", "must begin with http" }, { "example.com/x", "must begin with http" }, { "//a/b", "must begin with http" },
    { "ftp://a/", "must begin with http" }, { "javascript:alert(1)", "must begin with http" }, { "http:/a", "must begin with http" },
    { "http://", "no host" }, { "http:///x", "no host" }, { "http://:80/", "no host" }, { "http://u@/", "no host" },
    { "http://a:0/", "port" }, { "http://a:65536/", "port" }, { "http://a:8x/", "port" }, { "http://[::1]8/", "port" },
    { "http://[::1/", "has no ]" }, { "http://[::g]/", "cannot be in a name" }, { "http://a_b$c/", "cannot be in a name" },
    { "http://bücher.example/", "punycode" }, { "http://a/b c", "space" }, { "http://a/\r\nX: y", "control" },
    { "http://a/\0", "control" }, { "http://a\\@b/", "backslash" }, { "http://a/" .. ("x"):rep(8200), "longer than" },
    { "http://" .. ("a"):rep(254) .. "/", "longer than 253" },
  }
  for _, case in ipairs(refused) do
    it(("%q is refused"):format(#case[1] > 40 and case[1]:sub(1, 40) or case[1]), function()
      local url, err = parse(case[1])
      assert.is_nil(url)
      assert.is_truthy(err:find(case[2], 1, true), err)
    end)
  end

  it("has the same origin when scheme, host and port are the same", function()
    local function same(a, b)
      local x, y = parse(a), parse(b)
      return C.mw_url_is_same_origin(x.raw, y.raw)
    end
    assert.is_true(same("http://a/x", "http://A:80/y"))
    assert.is_false(same("http://a/", "https://a/"))
    assert.is_false(same("http://a/", "http://a:81/"))
    assert.is_false(same("http://a/", "http://b/"))
  end)
end)

describe("a reference", function()
  -- RFC 3986 section 5.4, with a base whose scheme is http.
  local base = "http://a/b/c/d;p?q"
  local cases = {
    ["g"] = "http://a/b/c/g", ["./g"] = "http://a/b/c/g", ["g/"] = "http://a/b/c/g/", ["/g"] = "http://a/g", ["//g"] = "http://g",
    ["?y"] = "http://a/b/c/d;p?y", ["g?y"] = "http://a/b/c/g?y", ["#s"] = "http://a/b/c/d;p?q", ["g#s"] = "http://a/b/c/g",
    ["g?y#s"] = "http://a/b/c/g?y", [";x"] = "http://a/b/c/;x", ["g;x"] = "http://a/b/c/g;x", [""] = "http://a/b/c/d;p?q",
    ["."] = "http://a/b/c/", ["./"] = "http://a/b/c/", [".."] = "http://a/b/", ["../"] = "http://a/b/", ["../g"] = "http://a/b/g",
    ["../.."] = "http://a/", ["../../"] = "http://a/", ["../../g"] = "http://a/g", ["../../../g"] = "http://a/g",
    ["../../../../g"] = "http://a/g", ["/./g"] = "http://a/g", ["/../g"] = "http://a/g", ["g."] = "http://a/b/c/g.",
    [".g"] = "http://a/b/c/.g", ["g.."] = "http://a/b/c/g..", ["..g"] = "http://a/b/c/..g", ["./../g"] = "http://a/b/g",
    ["./g/."] = "http://a/b/c/g/", ["g/./h"] = "http://a/b/c/g/h", ["g/../h"] = "http://a/b/c/h", ["g;x=1/../y"] = "http://a/b/c/y",
    ["g?y/./x"] = "http://a/b/c/g?y/./x", ["https://x/y?z"] = "https://x/y?z",
  }
  for reference, expected in pairs(cases) do
    it(("%q is %s"):format(reference, expected), function() assert.are.equal(expected, resolve(base, reference)) end)
  end

  it("keeps the port and the brackets of the base", function()
    assert.are.equal("https://[::1]:8443/y", resolve("https://[::1]:8443/x", "/y"))
    assert.are.equal("https://b/y", resolve("https://a:8443/x", "//b/y"))
  end)

  it("is refused when it leads away from http or has a line break", function()
    assert.is_nil((resolve(base, "ftp://x/")))
    assert.is_nil((resolve(base, "javascript:alert(1)")))
    assert.is_nil((resolve(base, "/x\r\nSet-Cookie: a")))
    assert.is_nil((resolve(base, "//")))
  end)
end)
