-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/params.h")

local C = ffi.C

local function read(text)
  local rest, value, name = ffi.new("mw_str", text, #text), ffi.new("mw_str"), ffi.new("mw_str")
  local scratch = ffi.new("char[?]", #text + 1)
  C.mw_params_begin(rest, value)
  local list = { ffi.string(value.ptr, value.len) }
  while true do
    local rc = C.mw_params_next(rest, scratch, name, value)
    if rc < 0 then return "bad" end
    if rc == 0 then return list end
    list[#list + 1] = ffi.string(name.ptr, name.len) .. "=" .. ffi.string(value.ptr, value.len)
  end
end

local function decode(text)
  local out = ffi.new("char[?]", 2 * #text + 1)
  local n = C.mw_params_decode(ffi.new("mw_str", text, #text), out)
  return n >= 0 and ffi.string(out, n) or "bad"
end

describe("params", function()
  it("reads a value and what belongs to it", function()
    assert.same({ "" }, read(""))
    assert.same({ "form-data" }, read(" form-data "))
    assert.same({ "form-data", "name=a", "filename=b c;d" }, read('form-data; name=a; filename="b c;d"'))
    assert.same({ "x", "a=", "b=" }, read('x;a="";;b=""; '))
  end)

  it("keeps the backslashes of a path, and knows those of a quote", function()
    assert.same({ "x", 'f=C:\\dir\\a.txt' }, read([[x; f="C:\dir\a.txt"]]))
    assert.same({ "x", 'f=a"b\\c' }, read([[x; f="a\"b\\c"]]))
  end)

  it("refuses what is not of this form", function()
    for _, text in ipairs { "x; a", "x; a=", "x; =b", 'x; a="b', [[x; a="b\"]], 'x; a="b"c', "x; a=b c=d", "x; a b=c", "x; a=b,c", 'x; "a"=b' } do
      assert.equal("bad", read(text), text)
    end
  end)

  it("decodes extended values", function()
    assert.equal("a b", decode("UTF-8''a%20b"))
    assert.equal("€ rates", decode("utf-8'en'%e2%82%AC%20rates"))
    assert.equal("£", decode("iso-8859-1'en'%A3"))
    assert.equal("a'b", decode("UTF-8''a'b"))
    assert.equal("", decode("UTF-8''"))
    for _, text in ipairs { "", "a", "UTF-8'a", "UTF-16''a", "UTF-8''%", "UTF-8''%4", "UTF-8''%zz", "UTF-8''%ff", "UTF-8''%c3", "UTF-8''\195\164" } do
      assert.equal("bad", decode(text), text)
    end
  end)
end)
