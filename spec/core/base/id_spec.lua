-- SPDX-License-Identifier: MIT
local cdef = require "support.cdef"
local ffi = cdef("base/id.h", "base/clock.h", "base/rand.h")
local C = ffi.C
cdef.define [[ int mw_clock_format(int64_t wall_us, char *text); ]]

local function str(text) return ffi.new("mw_str", { text, #text }) end
local function format(id)
  local text = ffi.new("char[37]")
  C.mw_id_format(id, text)
  return ffi.string(text)
end

describe("id", function()
  it("is a version 7 UUID of now", function()
    local before = tonumber(C.mw_clock_wall_us())
    local id = C.mw_id_new()
    assert.truthy(format(id):find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-7%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"))
    local at = tonumber(C.mw_id_time_us(id))
    assert.is_true(at >= before - 1000 and at <= before + 5000000)
  end)

  it("grows strictly, also when the clock goes back", function()
    local last = format(C.mw_id_new())
    for i = 1, 50000 do
      if i == 20000 then C.mw_clock_shift(-5000000) end
      if i == 40000 then C.mw_clock_shift(5000000) end
      local text = format(C.mw_id_new())
      assert.is_true(text > last)
      last = text
    end
  end)

  it("is read in either case and written in lower case", function()
    local id = ffi.new("mw_id")
    assert.is_true(C.mw_id_parse(str("01234567-89AB-cdef-0123-456789ABCDEF"), id))
    assert.equal("01234567-89ab-cdef-0123-456789abcdef", format(id))
  end)

  it("is not read from anything else", function()
    local id = ffi.new("mw_id")
    for _, text in ipairs { "", "0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcde", "01234567-89ab-cdef-0123-456789abcdefa",
      "01234567089ab-cdef-0123-456789abcdef", "0123456g-89ab-cdef-0123-456789abcdef", "{1234567-89ab-cdef-0123-456789abcde}", "01234567-89ab-cdef-0123-456789abcde\0" } do
      assert.is_false(C.mw_id_parse(str(text), id), text)
    end
  end)
end)

describe("clock", function()
  local function text(us)
    local out = ffi.new("char[32]")
    local len = C.mw_clock_format(us, out)
    return ffi.string(out, len)
  end

  it("formats RFC 3339 with microseconds", function()
    assert.equal("1970-01-01T00:00:00.000000Z", text(0))
    assert.equal("2026-11-21T06:55:20.123456Z", text(1795244120123456LL))
    assert.equal("2000-02-29T23:59:59.999999Z", text(951868799999999LL))
    assert.equal("1969-12-31T23:59:59.999999Z", text(-1))
  end)

  it("is moved by a shift, the monotonic one is not", function()
    local wall, mono = tonumber(C.mw_clock_wall_us()), tonumber(C.mw_clock_mono_ns())
    C.mw_clock_shift(3600000000LL)
    local later, mono_later = tonumber(C.mw_clock_wall_us()), tonumber(C.mw_clock_mono_ns())
    C.mw_clock_shift(-3600000000LL)
    assert.is_true(later - wall >= 3600000000)
    assert.is_true(mono_later >= mono and mono_later - mono < 60e9)
  end)
end)

describe("rand", function()
  it("fills every byte and does not repeat itself", function()
    local seen = {}
    for _ = 1, 1000 do
      local bytes = ffi.new("uint8_t[16]")
      C.mw_rand_bytes(bytes, 16)
      local text = ffi.string(bytes, 16)
      assert.is_nil(seen[text])
      seen[text] = true
    end
  end)
end)
