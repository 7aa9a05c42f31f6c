-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/digest.h")
local C = ffi.C

local function str(text) return ffi.new("mw_str", { text, #text }) end

local function through(fn, ...)
  local buf = ffi.new("mw_buf")
  local ok = fn(buf, ...)
  local text = ffi.string(buf.ptr, buf.len)
  C.mw_buf_deinit(buf)
  if ok == false then
    assert.equal("", text)
    return nil
  end
  return text
end

local function hex(bytes) return through(C.mw_hex_encode, str(bytes)) end
local function unhex(text) return through(C.mw_hex_decode, str(text)) end

local out = ffi.new("uint8_t[64]")
local function digest(name, data) return hex(ffi.string(out, C.mw_digest(name, str(data), out))) end
local function hmac(name, key, data) return hex(ffi.string(out, C.mw_digest_hmac(name, str(key), str(data), out))) end

describe("digest", function()
  it("agrees with FIPS 180 and RFC 1321", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", digest("sha256", "abc"))
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", digest("sha256", ""))
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", digest("sha1", "abc"))
    assert.equal("900150983cd24fb0d6963f7d28e17f72", digest("md5", "abc"))
    assert.equal("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
      digest("sha384", "abc"))
    assert.equal("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
      digest("sha512", "abc"))
    assert.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", digest("sha256", ("a"):rep(1000000)))
  end)

  it("agrees with the HMAC vectors of RFC 4231 and RFC 2202", function()
    assert.equal("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", hmac("sha256", ("\x0b"):rep(20), "Hi There"))
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      hmac("sha256", "Jefe", "what do ya want for nothing?"))
    assert.equal("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
      hmac("sha256", ("\xaa"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First"))
    assert.equal("b617318655057264e28bc0b6fb378c8ef146be00", hmac("sha1", ("\x0b"):rep(20), "Hi There"))
    assert.equal("87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
      hmac("sha512", ("\x0b"):rep(20), "Hi There"))
    assert.equal("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", hmac("sha256", "", ""))
  end)

  it("returns 0 for a name it does not know", function()
    assert.equal(0, tonumber(C.mw_digest("sha3", str("x"), out)))
    assert.equal(0, tonumber(C.mw_digest_hmac("", str("k"), str("x"), out)))
  end)

  it("compares whole strings", function()
    assert.is_true(C.mw_digest_equal(str("abc"), str("abc")))
    assert.is_true(C.mw_digest_equal(str(""), str("")))
    assert.is_false(C.mw_digest_equal(str("abc"), str("abd")))
    assert.is_false(C.mw_digest_equal(str("abc"), str("ab")))
    assert.is_false(C.mw_digest_equal(str("\0a"), str("\0b")))
  end)
end)

describe("hex", function()
  it("goes both ways", function()
    assert.equal("00ff7f0a", hex("\0\xFF\x7F\n"))
    assert.equal("\0\xFF\x7F\n", unhex("00fF7F0a"))
    assert.equal("", unhex(""))
  end)

  it("refuses odd lengths and foreign characters", function()
    for _, text in ipairs { "0", "000", "0g", "g0", "0x", " 00", "00 " } do assert.is_nil(unhex(text)) end
  end)
end)

describe("base64", function()
  local function encode(data, url) return through(C.mw_base64_encode, str(data), url or false) end
  local function decode(text) return through(C.mw_base64_decode, str(text)) end

  it("agrees with RFC 4648 section 10", function()
    for data, text in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy" } do
      assert.equal(text, encode(data))
      assert.equal((text:gsub("=", "")), encode(data, true))
      assert.equal(data, decode(text))
      assert.equal(data, decode((text:gsub("=", ""))))
    end
  end)

  it("knows both alphabets", function()
    assert.equal("-_8", encode("\xFB\xFF", true))
    assert.equal("+/8=", encode("\xFB\xFF"))
    assert.equal("\xFB\xFF", decode("-_8"))
    assert.equal("\xFB\xFF", decode("+/8="))
  end)

  it("brings any bytes back", function()
    math.randomseed(3)
    for len = 0, 200 do
      local bytes = {}
      for i = 1, len do bytes[i] = string.char(math.random(0, 255)) end
      local data = table.concat(bytes)
      assert.equal(data, decode(encode(data)))
      assert.equal(data, decode(encode(data, true)))
    end
  end)

  it("refuses what is not base64", function()
    for _, text in ipairs { "A", "AAAAA", "=", "====", "Zg=", "Zg===", "Z===", "Zm9v=", "Zm9v====", "Zh==", "Zm9=", "Zm9v Zm9v", "Zm9v\n", "Zm9*", "Zg==Zg==", "é" } do
      assert.is_nil(decode(text), text)
    end
  end)
end)
