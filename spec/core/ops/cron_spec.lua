-- SPDX-License-Identifier: MIT
-- Schedules against two oracles: python3-croniter for the calendar, and for zones a search minute by minute on the C library's clock.

local ffi = require("support.cdef")("ops/cron.h")
require("support.cdef").define [[
struct mw_spec_tm { int sec, min, hour, mday, mon, year, wday, yday, isdst; long gmtoff; const char *zone; };
struct mw_spec_tm *localtime_r(const int64_t *time, struct mw_spec_tm *out);
int setenv(const char *name, const char *value, int overwrite);
int unsetenv(const char *name);
void tzset(void);
]]
local C = ffi.C

local PYTHON = "/usr/bin/python3" -- Debian's, which has Debian's modules
local SEED = tonumber(os.getenv("MW_TEST_SEED") or "") or 20261125

local function load_zone(name)
  local out = ffi.new("mw_zone *[1]")
  assert(C.mw_zone_load(name, out, nil) == 0, name)
  return ffi.gc(out[0], C.mw_zone_free)
end

local function parse(text)
  local cron, err = ffi.new("mw_cron"), ffi.new("mw_err")
  if C.mw_cron_parse(ffi.new("mw_str", { text, #text }), cron, err) ~= 0 then return nil, ffi.string(err.text) end
  return cron
end

local utc = load_zone "UTC"

local function at(text) -- "2026-03-29 01:30[:00]" in UTC
  local y, mo, d, h, mi, s = text:match("^(%d+)-(%d+)-(%d+) (%d+):(%d+):?(%d*)$")
  local days = 0
  for year = 1970, y - 1 do days = days + ((year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0) and 366 or 365) end
  local lengths = { 31, (y % 4 == 0 and y % 100 ~= 0 or y % 400 == 0) and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
  for month = 1, mo - 1 do days = days + lengths[month] end
  return (days + d - 1) * 86400 + h * 3600 + mi * 60 + (tonumber(s) or 0)
end

local function shown(seconds) return os.date("!%Y-%m-%d %H:%M:%S", seconds):gsub(":00$", "") end

-- The next `count` times after a moment, as UTC text.
local function upcoming(text, after, count, zone)
  local cron, list, last = assert(parse(text)), {}, at(after)
  for i = 1, count or 1 do
    last = tonumber(C.mw_cron_next(cron, zone or utc, last))
    list[i] = shown(last)
  end
  return list
end

describe("a schedule", function()
  it("reads fields, names, ranges, steps and lists", function()
    assert.same({ "2026-01-01 00:30" }, upcoming("30 * * * *", "2026-01-01 00:00"))
    assert.same({ "2026-01-01 00:15", "2026-01-01 00:30", "2026-01-01 00:45", "2026-01-01 01:00" }, upcoming("*/15 * * * *", "2026-01-01 00:00", 4))
    assert.same({ "2026-01-02 09:00", "2026-01-05 09:00" }, upcoming("0 9 * * MON-FRI", "2026-01-01 12:00", 2))
    assert.same({ "2026-02-01 00:00", "2026-08-01 00:00" }, upcoming("0 0 1 feb,AUG *", "2026-01-15 00:00", 2))
    assert.same({ "2026-01-01 00:05", "2026-01-01 00:25", "2026-01-01 00:45" }, upcoming("5/20 * * * *", "2026-01-01 00:00", 3))
    assert.same({ "2026-01-01 00:00:10", "2026-01-01 00:00:40" }, upcoming("10-59/30 * * * * *", "2026-01-01 00:00", 2))
    assert.same({ "2026-01-04 00:00" }, upcoming("0 0 * * 7", "2026-01-01 00:00"))
    assert.same({ "2028-02-29 00:00" }, upcoming("0 0 29 2 *", "2026-01-01 00:00"))
  end)

  it("knows the last day and weekday of a month, and the n-th", function()
    assert.same({ "2026-01-31 00:00", "2026-02-28 00:00" }, upcoming("0 0 L * *", "2026-01-01 00:00", 2))
    assert.same({ "2026-01-28 00:00", "2026-02-25 00:00" }, upcoming("0 0 L-3 * *", "2026-01-01 00:00", 2))
    assert.same({ "2026-01-30 00:00", "2026-02-27 00:00" }, upcoming("0 0 * * 5L", "2026-01-01 00:00", 2))
    assert.same({ "2026-01-30 00:00" }, upcoming("0 0 * * L5", "2026-01-01 00:00"))
    assert.same({ "2026-01-16 00:00", "2026-02-20 00:00" }, upcoming("0 0 ? * FRI#3", "2026-01-01 00:00", 2))
    assert.same({ "2026-05-29 00:00", "2026-07-31 00:00" }, upcoming("0 0 * * 5#5", "2026-02-01 00:00", 2))
  end)

  it("is due when either day fits, where both are restricted", function()
    assert.same({ "2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00" }, upcoming("0 0 13 * FRI", "2026-01-01 00:00", 3))
  end)

  it("has names for the usual ones, and intervals that a restart does not move", function()
    assert.same({ "2026-01-01 01:00" }, upcoming("@hourly", "2026-01-01 00:00"))
    assert.same({ "2026-01-02 00:00" }, upcoming("@Daily", "2026-01-01 00:00"))
    assert.same({ "2026-01-04 00:00" }, upcoming("@weekly", "2026-01-01 00:00"))
    assert.same({ "2026-01-01 00:01:30", "2026-01-01 00:03" }, upcoming("@every 90s", "2026-01-01 00:00", 2))
    assert.same({ "2026-01-01 00:03" }, upcoming("@every 1m30s", "2026-01-01 00:01:31"))
  end)

  it("is never due when no such day exists", function()
    assert.equal(ffi.new("int64_t", 0x7fffffffffffffffLL), C.mw_cron_next(assert(parse("0 0 30 2 *")), utc, at("2026-01-01 00:00")))
    assert.equal(ffi.new("int64_t", 0x7fffffffffffffffLL), C.mw_cron_next(assert(parse("0 0 31 4,6 *")), load_zone "Europe/Berlin", at("2026-01-01 00:00")))
  end)

  it("is refused with the field that is wrong and what it may be", function()
    for text, expected in pairs {
      ["60 * * * *"] = 'the minute "60" is not a number from 0 to 59', ["* 24 * * *"] = 'the hour "24"', ["* * 0 * *"] = 'the day of month "0"',
      ["* * * 13 *"] = 'the month "13" is not a name, or a number from 1 to 12', ["* * * * 8"] = 'the day of week "8"', ["* * * * FOO"] = "FOO",
      ["*/0 * * * *"] = "a step from 1 to 60", ["*/x * * * *"] = "a step from 1 to 60", ["5-1 * * * *"] = "goes backwards", ["1,,2 * * * *"] = "an empty place",
      ["1, * * * *"] = "an empty place", ["* * * *"] = "too few", ["* * * * * * *"] = "too many", [""] = "no fields", ["@reboot"] = "@every 90s",
      ["@every"] = "not known", ["@every 0s"] = "at least one", ["@every 250ms"] = "whole seconds", ["@every x"] = "250ms, 10s",
      ["1-99 * * * *"] = "is no range", ["-1 * * * *"] = "is no range", ["* * 5W * *"] = "5W", ["* * * * 5#6"] = "5#6", ["* * L-31 * *"] = "L-31",
      ["1e1 * * * *"] = "1e1", [("1"):rep(300)] = "longer than 256",
    } do
      local cron, message = parse(text)
      assert.is_nil(cron, text)
      assert.truthy(message:find(expected, 1, true), text .. ": " .. message)
    end
  end)
end)

describe("a schedule in a zone", function()
  local berlin = load_zone "Europe/Berlin"

  it("is due right after the gap when its time is skipped, once", function()
    -- 29 March 2026: 02:00 becomes 03:00 in Berlin, at 01:00 UTC.
    assert.same({ "2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30" }, upcoming("30 2 * * *", "2026-03-28 00:00", 3, berlin))
    assert.same({ "2026-03-29 01:00", "2026-03-30 00:00" }, upcoming("0,15,30 2 * * *", "2026-03-29 00:00", 2, berlin))
    assert.same({ "2026-03-29 00:30", "2026-03-29 01:00", "2026-03-29 01:30" }, upcoming("30 1,2,3 * * *", "2026-03-29 00:00", 3, berlin))
    assert.same({ "2026-03-29 01:00", "2026-03-30 01:00" }, upcoming("0 3 * * *", "2026-03-29 00:00", 2, berlin))
  end)

  it("is due the first time only when its time comes twice", function()
    -- 25 October 2026: 03:00 becomes 02:00 in Berlin, at 01:00 UTC.
    assert.same({ "2026-10-25 00:30", "2026-10-26 01:30" }, upcoming("30 2 * * *", "2026-10-24 12:00", 2, berlin))
    assert.same({ "2026-10-26 01:30" }, upcoming("30 2 * * *", "2026-10-25 01:00", 1, berlin))
  end)

  it("follows the time that passes when its hour is any", function()
    assert.same({ "2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30" }, upcoming("*/30 * * * *", "2026-10-25 00:00", 3, berlin))
    assert.same({ "2026-03-29 00:59", "2026-03-29 01:00", "2026-03-29 01:01" }, upcoming("* * * * *", "2026-03-29 00:58", 3, berlin))
    assert.same({ "2026-03-29 00:30", "2026-03-29 01:30" }, upcoming("30 * * * *", "2026-03-29 00:00", 2, berlin))
  end)

  it("survives a day that never was", function()
    -- Samoa went over the date line and had no 30 December 2011.
    assert.same({ "2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00" }, upcoming("0 12 * * *", "2011-12-29 12:00", 3, load_zone "Pacific/Apia"))
  end)
end)

-- ---- generated schedules ----

local function star(low, high)
  local set = {}
  for i = low, high do set[i] = true end
  return "*", set
end

local function random_list(low, high)
  local set, parts, count = {}, {}, 0
  for _ = 1, math.random(3) do
    local first = math.random(low, high)
    local kind = math.random(3)
    if kind == 1 then
      set[first] = true
      parts[#parts + 1] = tostring(first)
    else
      local last, step = math.random(first, high), kind == 2 and 1 or math.random(5)
      for i = first, last, step do set[i] = true end
      parts[#parts + 1] = first .. "-" .. last .. (step > 1 and "/" .. step or "")
    end
  end
  for _ in pairs(set) do count = count + 1 end
  if count == high - low + 1 then return star(low, high) end -- croniter reads all of them as "*"
  return table.concat(parts, ","), set
end

local function random_field(low, high, chance)
  if math.random() < chance then return star(low, high) end
  return random_list(low, high)
end

it("agrees with croniter on thousands of generated schedules", function()
  if os.execute(PYTHON .. " -c 'import croniter' 2>/dev/null") ~= 0 then return pending("needs python3-croniter") end
  math.randomseed(SEED)
  local asked, path = {}, os.tmpname()
  local file = assert(io.open(path, "w"))
  for i = 1, 3000 do
    local days, weekdays = random_field(1, 31, 0.5), random_field(0, 6, 0.5)
    if math.random() < 0.1 then days = "L" end
    if math.random() < 0.1 then -- together with days of the month croniter wants both
      weekdays, days = math.random(0, 6) .. "#" .. math.random(5), "*"
    end
    local text = table.concat({ random_field(0, 59, 0.2), random_field(0, 23, 0.3), days, random_field(1, 12, 0.6), weekdays }, " ")
    local after = math.random(0, 4e9)
    asked[i] = { text, after }
    file:write(text, "\t", ("%d"):format(after), "\n")
  end
  file:close()
  local pipe = assert(io.popen(PYTHON .. [[ -c '
import sys
from datetime import datetime, timezone
from croniter import croniter
for line in sys.stdin:
    text, after = line.rstrip("\n").split("\t")
    try:
        it = croniter(text, datetime.fromtimestamp(int(after), timezone.utc))
        print(*[int(it.get_next(float)) for _ in range(3)])
    except Exception as e:
        print("none", type(e).__name__)
' <]] .. path))
  local compared = 0
  for i = 1, #asked do
    local expected, text, last = pipe:read("*l"), asked[i][1], asked[i][2]
    local cron = assert(parse(text))
    if not expected:find("none", 1, true) then
      local list = {}
      for k = 1, 3 do
        last = tonumber(C.mw_cron_next(cron, utc, last))
        list[k] = ("%d"):format(last)
      end
      assert.equal(expected, table.concat(list, " "), ("%s after %d (seed %d)"):format(text, asked[i][2], SEED))
      compared = compared + 1
    end
  end
  pipe:close()
  os.remove(path)
  assert.is_true(compared > 2800, "only " .. compared .. " were compared")
end)

-- The rule of ops/cron.h, word for word, a minute at a time.
local function searcher(fields)
  local tm, time = ffi.new("struct mw_spec_tm"), ffi.new("int64_t[1]")
  local function wall(seconds)
    time[0] = seconds
    C.localtime_r(time, tm)
    return seconds + tonumber(tm.gmtoff)
  end
  local function fits(wall_s)
    local d = os.date("!*t", wall_s)
    if not (fields.minute[d.min] and fields.hour[d.hour] and fields.month[d.month]) then return false end
    local by_day, by_weekday = fields.day[d.day] or false, fields.weekday[d.wday - 1] or false
    if fields.any_day or fields.any_weekday then return by_day and by_weekday end
    return by_day or by_weekday
  end
  return function(from, to)
    local list, furthest = {}, wall(from)
    for now = from + 60, to, 60 do
      local here, due = wall(now), false
      if fields.any_hour then due = fits(here)
      elseif here > furthest then -- not seen before; what was jumped over counts as well
        for label = furthest + 60, here, 60 do due = due or fits(label) end
      end
      if here > furthest then furthest = here end
      if due then list[#list + 1] = now end
    end
    return list
  end
end

it("agrees with a search minute by minute around every change of the clock", function()
  math.randomseed(SEED)
  for _, name in ipairs { "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "Antarctica/Troll" } do
    local zone = load_zone(name)
    C.setenv("TZ", ":" .. name, 1)
    C.tzset()
    local moment = at("2024-01-01 00:00")
    for _ = 1, 4 do
      moment = tonumber(C.mw_zone_next_change(zone, moment).at_s)
      for _ = 1, 6 do
        local parts, fields = {}, {}
        parts[1], fields.minute = random_list(0, 59)
        parts[2], fields.hour = random_field(0, 4, 0.2)
        if parts[2] == "*" then fields.hour = select(2, star(0, 23)) end
        parts[3], fields.day = random_field(1, 31, 0.7)
        parts[4], fields.month = star(1, 12)
        parts[5], fields.weekday = random_field(0, 6, 0.7)
        fields.any_hour, fields.any_day, fields.any_weekday = parts[2] == "*", parts[3] == "*", parts[5] == "*"
        local text = table.concat(parts, " ")
        local cron, last, got = assert(parse(text)), moment - 86400, {}
        local expected = searcher(fields)(last, moment + 86400)
        while true do
          last = tonumber(C.mw_cron_next(cron, zone, last))
          if last > moment + 86400 then break end
          got[#got + 1] = last
        end
        assert.same(expected, got, ("%s in %s around %s (seed %d)"):format(text, name, shown(moment), SEED))
      end
    end
  end
  C.unsetenv("TZ")
  C.tzset()
end)
