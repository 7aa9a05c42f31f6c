-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/duration.h", "base/size.h")
local C = ffi.C

local function str(text) return ffi.new("mw_str", { text, #text }) end
local err = ffi.new("mw_err")

local function duration(text)
  local out = ffi.new("int64_t[1]")
  if C.mw_duration_parse(str(text), out, err) ~= 0 then return nil, ffi.string(err.text) end
  return tonumber(out[0]) / 1e6
end

local function seconds(number)
  local out = ffi.new("int64_t[1]")
  if C.mw_duration_from_seconds(number, out, err) ~= 0 then return nil, ffi.string(err.text) end
  return tonumber(out[0]) / 1e6
end

local function size(text)
  local out = ffi.new("uint64_t[1]")
  if C.mw_size_parse(str(text), out, err) ~= 0 then return nil, ffi.string(err.text) end
  return out[0]
end

describe("duration", function()
  it("reads every unit, sums and bare seconds", function()
    for text, expected in pairs {
      ["250ms"] = 0.25, ["10s"] = 10, ["5m"] = 300, ["2h"] = 7200, ["3d"] = 259200, ["1w"] = 604800, ["1h30m"] = 5400, ["1m30s"] = 90,
      ["1w2d3h4m5s6ms"] = 604800 + 2 * 86400 + 3 * 3600 + 4 * 60 + 5.006, ["1.5h"] = 5400, ["0.5s"] = 0.5, ["10"] = 10, ["2.5"] = 2.5, ["0"] = 0,
      ["0s"] = 0, ["36500d"] = 3153600000, ["0.000001"] = 0.000001, ["00010s"] = 10,
    } do assert.equal(expected, duration(text), text) end
  end)

  it("refuses everything else and shows the grammar", function()
    for _, text in ipairs { "", " ", "s", "ms", "-5s", "+5s", "5 s", "5sec", "5S", "5M", "1m1h", "1s1s", "1ms1s", "1h30", "1.", ".5s", "1..5s", "1e3", "0x10", "5min",
      "1,5s", "inf", "nan", " 5s", "5s ", "5s\0", "1h 30m" } do
      local value, message = duration(text)
      assert.is_nil(value, text)
      assert.truthy(message:find("250ms, 10s, 5m, 2h, 3d, 1w or 1h30m", 1, true), message)
    end
  end)

  it("refuses more than a hundred years", function()
    for _, text in ipairs { "36526d", "99999999999s", "1" .. ("0"):rep(400) .. "s", "10000000w" } do
      local value, message = duration(text)
      assert.is_nil(value)
      assert.truthy(message:find("longer than 100 years", 1, true), message)
    end
  end)

  it("shows at most forty characters of a bad text", function()
    local _, message = duration(("x"):rep(1000))
    assert.is_true(#message < 200)
  end)

  it("checks bare numbers", function()
    assert.equal(1.5, seconds(1.5))
    assert.equal(0, seconds(0))
    for _, bad in ipairs { -1, -0.001, 0 / 0, math.huge, -math.huge, 1e12 } do assert.is_nil((seconds(bad))) end
  end)
end)

describe("size", function()
  it("reads every spelling", function()
    for text, expected in pairs {
      ["512"] = 512ULL, ["0"] = 0ULL, ["512B"] = 512ULL, ["64KB"] = 65536ULL, ["64k"] = 65536ULL, ["32KiB"] = 32768ULL, ["50MB"] = 52428800ULL, ["1GiB"] = 1073741824ULL,
      ["1g"] = 1073741824ULL, ["2TB"] = 2199023255552ULL, ["18446744073709551615"] = 18446744073709551615ULL,
    } do assert.is_true(expected == size(text), text) end
  end)

  it("refuses everything else", function()
    for _, text in ipairs { "", "KB", "-1", "1.5MB", "1 KB", "1KBB", "1Ki", "1XB", "KB1", "1kb ", "0x10" } do
      local value, message = size(text)
      assert.is_nil(value, text)
      assert.truthy(message:find("is not a size", 1, true), message)
    end
    for _, text in ipairs { "18446744073709551616", "99999999999TB", "18014398509481984KB" } do
      local value, message = size(text)
      assert.is_nil(value, text)
      assert.truthy(message:find("too large", 1, true), message)
    end
  end)
end)
