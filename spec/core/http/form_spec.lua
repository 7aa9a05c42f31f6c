-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h", "base/err.h")

ffi.cdef [[
  typedef struct mw_form { mw_str rest; size_t pairs, max_pairs; } mw_form;
  void mw_form_init(mw_form *form, mw_str text, size_t max_pairs);
  int mw_form_next(mw_form *form, char *scratch, mw_str *name, mw_str *value);
]]

local C = ffi.C
local EINVALID, ELIMIT = -20000, -20003
local function lua(s) return ffi.string(s.ptr, s.len) end

local function parse(text, max)
  local form, scratch = ffi.new("mw_form"), ffi.new("char[?]", #text + 1)
  local name, value = ffi.new("mw_str"), ffi.new("mw_str")
  C.mw_form_init(form, ffi.new("mw_str", text, #text), max or 0)
  local list = {}
  while true do
    local rc = C.mw_form_next(form, scratch, name, value)
    if rc ~= 1 then return list, rc end
    list[#list + 1] = { lua(name), lua(value) }
  end
end

describe("form", function()
  it("gives decoded pairs in order", function()
    assert.same({ { "a", "1" }, { "b c", "d&e" }, { "a", "2" } }, (parse("a=1&b+c=d%26e&a=2")))
  end)

  it("takes names without values, empty names and extra equal signs", function()
    assert.same({ { "a", "" }, { "b", "" }, { "", "x" }, { "c", "d=e" } }, (parse("a&&b=&=x&c=d=e&")))
    assert.same({}, (parse("")))
  end)

  it("refuses a bad percent in a name or a value", function()
    assert.equal(EINVALID, select(2, parse("a=%")))
    assert.equal(EINVALID, select(2, parse("%x1=1")))
  end)

  it("counts the pairs", function()
    assert.equal(0, select(2, parse("a&b&c", 3)))
    assert.equal(ELIMIT, select(2, parse("a&b&c&d", 3)))
    assert.equal(ELIMIT, select(2, parse(("a&"):rep(1001))))
  end)
end)
