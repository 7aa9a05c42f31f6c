-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h", "base/buf.h")
local C = ffi.C

local function str(text) return ffi.new("mw_str", { text, #text }) end
local function lua(s) return ffi.string(s.ptr, s.len) end

describe("str", function()
  it("compares without case, for ASCII letters only", function()
    assert.is_true(C.mw_str_eq_nocase(str("Content-Type"), str("cONTENT-tYPE")))
    assert.is_false(C.mw_str_eq_nocase(str("a["), str("a{")))
    assert.is_false(C.mw_str_eq_nocase(str("abc"), str("ab")))
  end)

  it("orders bytewise, shorter first", function()
    local list = { "b", "", "a", "ab", "\xFF", "aa", "\0" }
    table.sort(list, function(a, b) return C.mw_str_cmp(str(a), str(b)) < 0 end)
    assert.same({ "", "\0", "a", "aa", "ab", "b", "\xFF" }, list)
    assert.equal(0, C.mw_str_cmp(str("x"), str("x")))
  end)

  it("finds prefixes, suffixes and bytes", function()
    assert.is_true(C.mw_str_starts_with(str("abc"), str("ab")))
    assert.is_true(C.mw_str_starts_with(str("abc"), str("")))
    assert.is_false(C.mw_str_starts_with(str("a"), str("ab")))
    assert.is_true(C.mw_str_ends_with(str("abc"), str("bc")))
    assert.is_false(C.mw_str_ends_with(str("c"), str("bc")))
    assert.equal(2, tonumber(C.mw_str_find_byte(str("abcabc"), 99)))
    assert.equal(-1, tonumber(C.mw_str_find_byte(str("abc"), 120)))
  end)

  it("trims spaces and tabs, nothing else", function()
    assert.equal("a b\n", lua(C.mw_str_trim(str(" \t a b\n \t"))))
    assert.equal("", lua(C.mw_str_trim(str(" \t "))))
  end)

  it("splits into every part, empty ones too", function()
    local function split(text)
      local rest, part, parts = str(text), ffi.new("mw_str"), {}
      while C.mw_str_split(rest, 44, part) do parts[#parts + 1] = lua(part) end
      return parts
    end
    assert.same({ "a", "b", "c" }, split("a,b,c"))
    assert.same({ "", "", "" }, split(",,"))
    assert.same({ "" }, split(""))
  end)

  it("parses whole decimal integers", function()
    local function parse(text)
      local out = ffi.new("uint64_t[1]")
      if C.mw_str_parse_u64(str(text), out) then return out[0] end
    end
    assert.is_true(parse("18446744073709551615") == 18446744073709551615ULL)
    assert.is_true(parse("007") == 7ULL)
    for _, text in ipairs { "", "-1", "+1", " 1", "1 ", "1.0", "18446744073709551616", "99999999999999999999", "1a" } do
      assert.is_nil(parse(text), text)
    end
  end)

  it("measures how far names are apart, up to a limit", function()
    local function distance(a, b) return tonumber(C.mw_str_distance(str(a), str(b), 10)) end
    assert.equal(0, distance("retries", "Retries"))
    assert.equal(1, distance("retries", "retrys") - 1)
    assert.equal(3, distance("kitten", "sitting"))
    assert.equal(4, distance("", "abcd"))
    assert.equal(10, distance("abcdefghijklmn", "opqrstuvwxyz12"))
    assert.equal(10, distance(("x"):rep(65), ("x"):rep(65)))
  end)

  it("knows well-formed UTF-8", function()
    for _, text in ipairs { "", "abc", "é", "€", "\xF0\x9D\x84\x9E", "\0", "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF", "\xEE\x80\x80" } do
      assert.is_true(C.mw_str_is_utf8(str(text)))
    end
    for _, text in ipairs { "\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "a\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "\xC3(" } do
      assert.is_false(C.mw_str_is_utf8(str(text)))
    end
  end)
end)

describe("buf", function()
  local buf
  before_each(function() buf = ffi.new("mw_buf") end)
  after_each(function() C.mw_buf_deinit(buf) end)
  local function text() return ffi.string(buf.ptr, buf.len) end

  it("grows and keeps what was added", function()
    local expected = {}
    for i = 1, 2000 do
      expected[i] = tostring(i)
      C.mw_buf_add(buf, expected[i], #expected[i])
    end
    assert.equal(table.concat(expected), text())
    assert.is_true(buf.cap > buf.len)
  end)

  it("writes integers at both ends of their range", function()
    C.mw_buf_add_u64(buf, 18446744073709551615ULL)
    C.mw_buf_add_byte(buf, 32)
    C.mw_buf_add_i64(buf, -9223372036854775807LL - 1)
    C.mw_buf_add_byte(buf, 32)
    C.mw_buf_add_i64(buf, 0)
    assert.equal("18446744073709551615 -9223372036854775808 0", text())
  end)

  it("consumes from the front and ends in a zero when asked", function()
    C.mw_buf_add_cstr(buf, "hello world")
    C.mw_buf_consume(buf, 6)
    assert.equal("world", ffi.string(C.mw_buf_cstr(buf)))
    C.mw_buf_consume(buf, 5)
    assert.equal("", ffi.string(C.mw_buf_cstr(buf)))
  end)

  it("keeps its memory over a reset when it is small", function()
    C.mw_buf_add_cstr(buf, "x")
    local cap = tonumber(buf.cap)
    C.mw_buf_reset(buf, 4096)
    assert.equal(cap, tonumber(buf.cap))
    C.mw_buf_add_cstr(buf, ("x"):rep(5000))
    C.mw_buf_reset(buf, 4096)
    assert.equal(0, tonumber(buf.cap))
  end)
end)
