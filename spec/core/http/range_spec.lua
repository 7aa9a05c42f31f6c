-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/range.h")

local C = ffi.C

-- "0-99 200-299", "whole" or "none".
local function parse(header, size)
  local ranges = ffi.new("mw_range[16]")
  local n = C.mw_range_parse(ffi.new("mw_str", header, #header), size or 1000, ranges)
  if n == 0 then return "whole" elseif n < 0 then return "none" end
  local list = {}
  for i = 0, n - 1 do list[i + 1] = ("%d-%d"):format(tonumber(ranges[i].first), tonumber(ranges[i].last)) end
  return table.concat(list, " ")
end

describe("range", function()
  it("reads one range", function()
    for header, expected in pairs {
      ["bytes=0-99"] = "0-99", ["bytes=0-0"] = "0-0", ["bytes=100-"] = "100-999", ["bytes=-100"] = "900-999", ["bytes=0-5000"] = "0-999",
      ["bytes=-5000"] = "0-999", ["Bytes=999-999"] = "999-999", ["bytes= 5-6 "] = "5-6", ["bytes=0-99999999999999999999999"] = "0-999",
      ["bytes=-99999999999999999999999"] = "0-999", ["bytes=,5-6,"] = "5-6",
    } do
      assert.equal(expected, parse(header), header)
    end
  end)

  it("reads several, in order, those that overlap or touch as one", function()
    assert.equal("0-9 20-29", parse("bytes=0-9,20-29"))
    assert.equal("0-9 20-29", parse("bytes=20-29, 0-9"))
    assert.equal("0-9 990-999", parse("bytes=-10,0-9"))
    assert.equal("0-19", parse("bytes=0-9,10-19"))
    assert.equal("0-29", parse("bytes=0-9,5-29,7-8"))
    assert.equal("0-999", parse("bytes=" .. ("0-,"):rep(64)))
    assert.equal("0-9", parse("bytes=0-9,5000-"))
  end)

  it("says when nothing of it is there", function()
    for _, header in ipairs { "bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=5000-,9000-", "bytes=99999999999999999999999-" } do
      assert.equal("none", parse(header), header)
    end
    assert.equal("none", parse("bytes=0-", 0))
    assert.equal("none", parse("bytes=-1", 0))
  end)

  it("ignores what is no range, and what would cost too much", function()
    for _, header in ipairs {
      "", "bytes", "bytes=", "bytes=,", "items=0-9", "bytes=9-0", "bytes=a-b", "bytes=0-9x", "bytes=--1", "bytes=0 - 9", "bytes=+0-9", "bytes=5",
      "bytes=-", "bytes=0-9,x", "0-9",
    } do
      assert.equal("whole", parse(header), header)
    end
    local many = {}
    for i = 1, 17 do many[i] = ("%d-%d"):format(i * 20, i * 20 + 5) end
    assert.equal("whole", parse("bytes=" .. table.concat(many, ",")))
    assert.not_equal("whole", parse("bytes=" .. table.concat(many, ",", 1, 16)))
    assert.equal("whole", parse("bytes=" .. ("0-,"):rep(65)))
  end)
end)
