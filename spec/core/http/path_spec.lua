-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h", "base/err.h")

ffi.cdef [[
  int mw_path_decode(mw_str raw, char *out, size_t *len, bool *has_slash, mw_err *err);
  void mw_path_restore(char *path, size_t len);
]]

local C = ffi.C
local function str(text) return ffi.new("mw_str", text, #text) end

local function decode(raw)
  local out, len, slash, err = ffi.new("char[?]", #raw + 1), ffi.new("size_t[1]"), ffi.new("bool[1]"), ffi.new("mw_err")
  local rc = C.mw_path_decode(str(raw), out, len, slash, err)
  if rc ~= 0 then return nil, ffi.string(err.text) end
  if slash[0] then C.mw_path_restore(out, len[0]) end
  return ffi.string(out, len[0]), slash[0]
end

describe("path", function()
  it("decodes percent escapes of either case", function()
    assert.equal("/a b/é/~", (decode("/a%20b/%C3%a9/%7E")))
    assert.equal("/a+b", (decode("/a+b")))
    assert.equal("/é", (decode("/é")))
  end)

  it("collapses duplicate slashes and keeps an encoded one apart", function()
    assert.equal("/a/b/", (decode("//a///b//")))
    assert.same({ "/a/b", true }, { decode("/a%2Fb") })
    assert.same({ "/a//b", true }, { decode("/a/%2fb") })
  end)

  it("refuses what two programs may read in two ways", function()
    for raw, why in pairs {
      ["/%"] = "hex", ["/%4"] = "hex", ["/%zz"] = "hex", ["/%-1"] = "hex", ["/%00"] = "control", ["/%0a"] = "control", ["/%7f"] = "control",
      ["/a b"] = "percent%-encoded", ["/a#b"] = "percent%-encoded", ["a"] = "begin", [""] = "begin", ["*"] = "begin",
      ["/."] = "segment", ["/.."] = "segment", ["/a/../b"] = "segment", ["/a/./b"] = "segment", ["/%2e%2E/b"] = "segment", ["/a/.%2e"] = "segment",
    } do
      local path, text = decode(raw)
      assert.is_nil(path, raw)
      assert.matches(why, text)
    end
  end)

  it("lets dots be part of names", function()
    for _, raw in ipairs { "/.well-known/x", "/a..b", "/...", "/..a/b." } do assert.equal(raw, (decode(raw))) end
  end)
end)
