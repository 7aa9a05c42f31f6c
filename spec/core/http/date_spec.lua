-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/date.h")

local C = ffi.C
local NOW = 1764086400 -- 25 November 2025

local function format(seconds)
  local text = ffi.new("char[30]")
  return ffi.string(text, C.mw_date_format(seconds, text))
end

local function parse(text)
  local seconds = ffi.new("int64_t[1]")
  return C.mw_date_parse(ffi.new("mw_str", text, #text), NOW, seconds) and tonumber(seconds[0]) or nil
end

describe("date", function()
  it("writes dates as HTTP has them", function()
    assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", format(784111777))
    assert.equal("Thu, 01 Jan 1970 00:00:00 GMT", format(0))
    assert.equal("Thu, 29 Feb 2024 12:00:00 GMT", format(1709208000))
    assert.equal(29, #format(2 ^ 62))
    assert.equal(29, #format(-2 ^ 62))
  end)

  it("reads the three forms", function()
    assert.equal(784111777, parse("Sun, 06 Nov 1994 08:49:37 GMT"))
    assert.equal(784111777, parse("Sunday, 06-Nov-94 08:49:37 GMT"))
    assert.equal(784111777, parse("Sun Nov  6 08:49:37 1994"))
    assert.equal(784975777, parse("Wed Nov 16 08:49:37 1994"))
    for _, seconds in ipairs { 0, 951782400, 1709208000, 4102444799 } do assert.equal(seconds, parse(format(seconds))) end
  end)

  it("takes a year of two digits for one that is at most 50 years ahead", function()
    assert.equal(parse("Tue, 01 Jan 2075 00:00:00 GMT"), parse("Tuesday, 01-Jan-75 00:00:00 GMT"))
    assert.equal(parse("Thu, 01 Jan 1976 00:00:00 GMT"), parse("Thursday, 01-Jan-76 00:00:00 GMT"))
  end)

  it("refuses everything else", function()
    for _, text in ipairs {
      "", "now", "1994-11-06", "784111777", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 Nov 1994 08:49:37 CET",
      "Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
      "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 29 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT",
      "Sun, 06 Nov -994 08:49:37 GMT", "Sun, 06 No", "Sun Nov 6 08:49:37 1994", "Sun", "Sunday, 06-Nov-1994 08:49:37 GMT",
    } do
      assert.is_nil(parse(text), text)
    end
  end)
end)
