-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h", "base/err.h", "base/buf.h")

ffi.cdef [[
  typedef struct mw_cookie { mw_str name, value, path, domain; int64_t max_age_s; mw_str same_site; bool http_only, secure; } mw_cookie;
  bool mw_cookie_next(mw_str *rest, mw_str *name, mw_str *value);
  int mw_cookie_format(const mw_cookie *cookie, mw_buf *out, mw_err *err);
]]

local C = ffi.C
local function str(text) return ffi.new("mw_str", text, #text) end
local function lua(s) return ffi.string(s.ptr, s.len) end

local function parse(text)
  local rest, name, value, list = str(text), ffi.new("mw_str"), ffi.new("mw_str"), {}
  while C.mw_cookie_next(rest, name, value) do list[#list + 1] = lua(name) .. "=" .. lua(value) end
  return list
end

local function format(fields)
  local cookie, out, err = ffi.new("mw_cookie", { max_age_s = -1 }), ffi.new("mw_buf"), ffi.new("mw_err")
  for key, value in pairs(fields) do cookie[key] = type(value) == "string" and str(value) or value end
  local rc = C.mw_cookie_format(cookie, out, err)
  local text = rc == 0 and ffi.string(out.ptr, out.len) or nil
  C.mw_buf_deinit(out)
  return text, ffi.string(err.text)
end

describe("cookie", function()
  it("reads pairs, without the quotes around values", function()
    assert.same({ "a=1", "b=x=y", "c=q", "d=" }, parse("a=1; b=x=y;c=\"q\" ; d="))
  end)

  it("skips what is no pair", function()
    assert.same({ "a=1" }, parse("; nonsense; =x; a=1;"))
    assert.same({}, parse(""))
  end)

  it("writes the attributes that are set", function()
    assert.equal("a=b", format { name = "a", value = "b" })
    assert.equal("a=b; Path=/x; Domain=d.example; Max-Age=0; SameSite=Lax; HttpOnly; Secure",
      format { name = "a", value = "b", path = "/x", domain = "d.example", max_age_s = 0, same_site = "Lax", http_only = true, secure = true })
  end)

  it("refuses what would end the cookie or the header early", function()
    for _, fields in ipairs {
      { name = "", value = "x" }, { name = "a b", value = "x" }, { name = "a=b", value = "x" }, { name = "a", value = "x;y" },
      { name = "a", value = "x\r\ny" }, { name = "a", value = "x y" }, { name = "a", value = "\0" }, { name = "a", value = "x", path = "/;Secure" },
      { name = "a", value = "x", domain = "a\nb" },
    } do
      local text, why = format(fields)
      assert.is_nil(text)
      assert.matches("cookie", why)
    end
  end)
end)
