-- SPDX-License-Identifier: MIT
-- Time zones against the C library's, which reads the same files with other code.

local ffi = require("support.cdef")("ops/zone.h")
require("support.cdef").define [[
struct mw_spec_tm { int sec, min, hour, mday, mon, year, wday, yday, isdst; long gmtoff; const char *zone; };
struct mw_spec_tm *localtime_r(const int64_t *time, struct mw_spec_tm *out);
int setenv(const char *name, const char *value, int overwrite);
int unsetenv(const char *name);
void tzset(void);
]]
local C = ffi.C

local ZONES = { "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "Asia/Tehran", "Africa/Casablanca",
  "Africa/Cairo", "Pacific/Apia", "Pacific/Chatham", "America/St_Johns", "Europe/Dublin", "Antarctica/Troll", "Asia/Gaza", "America/Nuuk", "Etc/GMT+12", "UTC" }

local function load(name)
  local out, err = ffi.new("mw_zone *[1]"), ffi.new("mw_err")
  if C.mw_zone_load(name, out, err) ~= 0 then return nil, ffi.string(err.text) end
  return ffi.gc(out[0], C.mw_zone_free)
end

local function parse(bytes)
  local out = ffi.new("mw_zone *[1]")
  if C.mw_zone_parse(ffi.new("mw_str", { bytes, #bytes }), out, nil) ~= 0 then return nil end
  return ffi.gc(out[0], C.mw_zone_free)
end

local function system_offset(at)
  local time, tm = ffi.new("int64_t[1]", at), ffi.new("struct mw_spec_tm")
  C.localtime_r(time, tm)
  return tonumber(tm.gmtoff)
end

describe("a time zone", function()
  after_each(function()
    C.unsetenv("TZ")
    C.tzset()
  end)

  it("has the offsets that the C library has, from 1900 to 2100, and around each change", function()
    for _, name in ipairs(ZONES) do
      local zone = assert(load(name))
      C.setenv("TZ", ":" .. name, 1)
      C.tzset()
      for at = -2208988800, 4102444800, 86400 * 5 + 3607 do
        assert.equal(system_offset(at), C.mw_zone_offset(zone, at), name .. " at " .. at)
      end
      local at = -2208988800
      for _ = 1, 300 do
        local change = C.mw_zone_next_change(zone, at)
        at = tonumber(change.at_s)
        if at > 4102444800 then break end
        for _, delta in ipairs { -1, 0, 1 } do assert.equal(system_offset(at + delta), C.mw_zone_offset(zone, at + delta), name .. " near " .. at) end
        assert.equal(change.before, C.mw_zone_offset(zone, at - 1))
        assert.equal(change.after, C.mw_zone_offset(zone, at))
        assert.equal(at, tonumber(C.mw_zone_last_change(zone, at + 5).at_s))
      end
    end
  end)

  it("goes on by its rule after the last year of the file", function()
    local zone = assert(load "Europe/Berlin")
    local change = C.mw_zone_next_change(zone, 4070908800) -- 1 January 2099
    assert.equal(4078429200, tonumber(change.at_s))        -- 29 March 2099, 01:00 UTC
    assert.equal(7200, change.after)
  end)

  it("is refused when its name is none, and says how they are written", function()
    for _, name in ipairs { "Europe/Atlantis", "", "../etc/passwd", "/etc/localtime", "Europe//Berlin", "a b", "Europe", ("x"):rep(100) } do
      local zone, message = load(name)
      assert.is_nil(zone, name)
      assert.matches("written like \"Europe/Berlin\"", message, 1, true)
    end
  end)

  it("is refused when its file is cut short or spoiled, and nothing is read beyond it", function()
    local file = assert(io.open("/usr/share/zoneinfo/Europe/Berlin", "rb"))
    local bytes = file:read("*a")
    file:close()
    assert.is_truthy(parse(bytes))
    for len = 0, #bytes - 1, 7 do assert.is_nil(parse(bytes:sub(1, len)), "the first " .. len .. " bytes") end
    math.randomseed(1)
    for _ = 1, 2000 do
      local at = math.random(#bytes)
      local zone = parse(bytes:sub(1, at - 1) .. string.char(math.random(0, 255)) .. bytes:sub(at + 1))
      if zone then C.mw_zone_next_change(zone, math.random(0, 4102444800)) end
    end
  end)
end)
