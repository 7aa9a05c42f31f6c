-- SPDX-License-Identifier: MIT
local crypto = require "mw.crypto"

local function failure(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return err.message, err.code
end

describe("crypto", function()
  it("digests to hex, or to bytes", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", crypto.sha256("abc"))
    assert.equal(crypto.sha256("abc"), crypto.digest("sha256", "abc"))
    assert.equal(crypto.sha256("abc"), crypto.hex_encode(crypto.sha256("abc", { raw = true })))
    assert.equal(32, #crypto.digest("sha256", "", { raw = true }))
    assert.equal("900150983cd24fb0d6963f7d28e17f72", crypto.digest("md5", "abc"))
  end)

  it("signs with HMAC", function()
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      crypto.hmac("sha256", "Jefe", "what do ya want for nothing?"))
    assert.equal(20, #crypto.hmac("sha1", "k", "d", { raw = true }))
  end)

  it("names a digest it does not know, and the nearest", function()
    assert.equal('mw.crypto.digest: there is no digest "sha255"; did you mean "sha256"?', (failure(crypto.digest, "sha255", "x")))
    assert.equal('mw.crypto.hmac: there is no digest "blake2b512"; there are md5, sha1, sha256, sha384 and sha512',
      (failure(crypto.hmac, "blake2b512", "k", "x")))
    local _, code = failure(crypto.digest, "x", "y")
    assert.equal("invalid", code)
  end)

  it("names wrong arguments and options", function()
    assert.equal("mw.crypto.sha256: argument 1 (data) must be string, got nothing", (failure(crypto.sha256)))
    assert.equal('mw.crypto.sha256: unknown option "row"; did you mean "raw"?', (failure(crypto.sha256, "x", { row = true })))
  end)

  it("draws random bytes, bounded", function()
    assert.equal("", crypto.random(0))
    assert.equal(32, #crypto.random(32))
    assert.not_equal(crypto.random(16), crypto.random(16))
    for _, count in ipairs { -1, 1048577, 1.5 } do failure(crypto.random, count) end
  end)

  it("compares", function()
    assert.is_true(crypto.equal("abc", "abc"))
    assert.is_false(crypto.equal("abc", "abd"))
    assert.is_false(crypto.equal("abc", ""))
    failure(crypto.equal, nil, "x")
  end)

  it("goes through base64 and hex and back", function()
    local bytes = "\0\xFB\xFF any bytes \xFE"
    assert.equal(bytes, crypto.base64_decode(crypto.base64_encode(bytes)))
    assert.equal(bytes, crypto.base64_decode(crypto.base64_encode(bytes, { url = true })))
    assert.equal(bytes, crypto.hex_decode(crypto.hex_encode(bytes)))
    assert.equal("-_8", crypto.base64_encode("\xFB\xFF", { url = true }))
    assert.equal("", crypto.base64_encode(""))
    local large = ("0123456789"):rep(100000)
    assert.equal(large, crypto.base64_decode(crypto.base64_encode(large)))
  end)

  it("raises on text that is neither", function()
    assert.equal("mw.crypto.base64_decode: the text is not base64", (failure(crypto.base64_decode, "a*b")))
    assert.equal("mw.crypto.hex_decode: the text is not hex", (failure(crypto.hex_decode, "abc")))
  end)
end)
