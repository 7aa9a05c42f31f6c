-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h", "base/buf.h")
local C = ffi.C

local function plain(text)
  local buf = ffi.new("mw_buf")
  C.mw_buf_add_plain(buf, ffi.new("mw_str", { text, #text }), "|")
  local out = ffi.string(buf.ptr, buf.len)
  C.mw_buf_deinit(buf)
  return out
end

describe("buf", function()
  it("shows text that comes from outside so that it cannot steer a terminal", function()
    assert.equal("\\x1b[2J\\x07\\x7f\\x9b1m", plain("\27[2J\7\127\194\155" .. "1m"))
    assert.equal("a|b  c\\x0d", plain "a\nb\tc\r")
    assert.equal("Umsätze €", plain "Umsätze €")
  end)
end)
