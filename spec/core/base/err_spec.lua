-- SPDX-License-Identifier: MIT
local cdef = require "support.cdef"
local ffi = cdef("base/err.h")
local C = ffi.C
cdef.define [[
int mw_err_set(mw_err *err, int code, const char *format, ...);
int mw_err_wrap(mw_err *err, const char *format, ...);
]]

describe("err", function()
  it("has a code, a sentence and an opinion on retrying for each of ours", function()
    assert.equal("ok", ffi.string(C.mw_err_code(0)))
    assert.equal("timeout", ffi.string(C.mw_err_code(-20001)))
    assert.equal("the time for it is over", ffi.string(C.mw_err_text(-20001)))
    assert.is_true(C.mw_err_is_retryable(-20001))
    assert.is_false(C.mw_err_is_retryable(-20000))
  end)

  it("puts context in front and keeps the code", function()
    local err = ffi.new("mw_err")
    assert.equal(-20001, C.mw_err_set(err, -20001, "connect %s", "db:5432"))
    assert.equal(-20001, C.mw_err_wrap(err, "load plugin %s", "a.lua"))
    assert.equal("load plugin a.lua: connect db:5432", ffi.string(err.text))
    assert.equal(-20001, err.code)
  end)

  it("cuts a text that is too long at a character", function()
    local err = ffi.new("mw_err")
    C.mw_err_set(err, -20000, "%s", ("é"):rep(400))
    local text = ffi.string(err.text)
    assert.is_true(#text < 500 and #text > 490)
    assert.equal(("é"):rep(#text / 2), text)
  end)

  it("works without a place for the words", function()
    assert.equal(-20000, C.mw_err_set(nil, -20000, "x"))
  end)
end)
