-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/clock.h")
local C = ffi.C

local function parse(text)
  local out = ffi.new("int64_t[1]")
  return C.mw_clock_parse(ffi.new("mw_str", { text, #text }), out) and tonumber(out[0]) or nil
end

describe("mw_clock_parse", function()
  it("reads RFC 3339", function()
    local cases = {
      ["1970-01-01T00:00:00Z"] = 0, ["2026-03-29T03:00:00Z"] = 1774753200e6, ["2026-03-29t03:00:00z"] = 1774753200e6, ["2026-03-29 03:00:00Z"] = 1774753200e6,
      ["2026-03-29T03:00:00.5Z"] = 1774753200.5e6, ["2026-03-29T03:00:00.123456789Z"] = 1774753200123456, ["2026-03-29T05:00:00+02:00"] = 1774753200e6,
      ["2026-03-28T22:30:00-04:30"] = 1774753200e6, ["2024-02-29T00:00:00Z"] = 1709164800e6, ["1969-12-31T23:59:59Z"] = -1e6, ["0001-01-01T00:00:00Z"] = -62135596800e6,
      ["9999-12-31T23:59:59Z"] = 253402300799e6,
    }
    for text, us in pairs(cases) do assert.equal(us, parse(text), text) end
  end)

  it("refuses all else", function()
    for _, text in ipairs {
      "", "2026", "2026-03-29", "2026-03-29T03:00:00", "2026-03-29T03:00Z", "2026-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
      "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00.Z",
      "2026-01-01T00:00:00+0200", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00ZZ", " 2026-01-01T00:00:00Z", "2026-1-1T00:00:00Z", "0000-01-01T00:00:00Z",
      "2026-01-01T00:00:00\0", "2026\0-01-01T00:00:00Z", "+026-01-01T00:00:00Z",
    } do
      assert.is_nil(parse(text), text)
    end
  end)

  it("reads what mw_clock_format writes", function()
    require("support.cdef").define [[ int mw_clock_format(int64_t wall_us, char *text); ]]
    local text = ffi.new("char[32]")
    for i = 1, 2000 do
      local us = math.floor((i * 7919 % 2000 - 800) * 1e14 + i * 123457)
      if us > -6.2e16 and us < 2.5e17 then
        local written = ffi.string(text, C.mw_clock_format(us, text))
        assert.equal(us, parse(written), written)
      end
    end
  end)
end)

describe("mw_clock_follow", function()
  local HOUR = 3600e6

  local function wall() return tonumber(C.mw_clock_wall_us()) end
  local function ahead() return wall() - os.time() * 1e6 end -- of the machine's, which os.time has to the second
  local function follow(ahead_us, asked_ago_s)
    C.mw_clock_follow(os.time() * 1000000LL + ahead_us, C.mw_clock_mono_ns() - (asked_ago_s or 0) * 1000000000LL)
  end
  local function is_near(expected) assert.is_true(math.abs(ahead() - expected) < 2e6, ahead() .. " us ahead") end

  after_each(function() follow(0) end)

  it("makes the wall clock another one's when both are apart", function()
    follow(HOUR)
    is_near(HOUR)
    follow(-3 * HOUR)
    is_near(-3 * HOUR)
  end)

  it("leaves it as it is when they are not", function()
    follow(0)
    local before = wall()
    follow(400000)
    assert.is_true(wall() - before < 300000)
  end)

  it("does not believe what may be due to an answer that took long", function()
    follow(0)
    follow(-5e6, 20)
    is_near(0)
    follow(HOUR, 20)
    assert.is_true(math.abs(ahead() - HOUR) < 12e6)
  end)
end)
