-- SPDX-License-Identifier: MIT
-- Cron jobs on the real engine in virtual time.

local testing = require "mw.testing"

describe("mw.cron", function()
  local app

  local function load(source, opts) app = testing.load({ ["jobs.lua"] = 'local mw = require "mw"\n' .. source }, opts) end

  -- What the jobs logged: message and ctx.scheduled_at.
  local function ran()
    local list = {}
    for _, line in ipairs(app.logged) do
      if line.fields and line.fields.at then list[#list + 1] = line.message .. " " .. line.fields.at end
    end
    return list
  end

  local function ticks(name) return app:request("GET", "/api/v1/cron/" .. name):json().ticks end
  local function statuses(name)
    local list = {}
    for i, tick in ipairs(ticks(name)) do list[i] = tick.status end
    return list
  end

  local JOB = [[mw.cron("%s", "%s", function(ctx) mw.log.info("%s", { at = ctx.scheduled_at }) %s end, { %s })]]
  local function job(name, expression, more, opts) return JOB:format(name, expression, name, more or "", opts or "") end

  it("runs a function at each tick, told in the job's zone", function()
    load(job("nightly", "0 3 * * *", "return ctx.scheduled_at", [[timezone = "Europe/Berlin"]]))
    app:advance("2d")
    assert.same({ "nightly 2026-01-01T03:00:00+01:00", "nightly 2026-01-02T03:00:00+01:00" }, ran())
    assert.same({ "fired", "fired" }, statuses "nightly")
  end)

  it("starts a workflow by its name, with the tick as its input", function()
    load [[
      mw.workflow("report", { { name = "make", run = function(ctx) mw.log.info("report", { at = ctx.input.scheduled_at }) end } })
      mw.cron("daily", "@daily", "report")
    ]]
    app:advance("1d")
    assert.same({ "report 2026-01-02T00:00:00Z" }, ran())
  end)

  it("gives a function what a step has, and retries it", function()
    load([[mw.cron("flaky", "@hourly", function(ctx)
      mw.log.info("attempt " .. ctx.attempt .. " of " .. ctx.step, { at = ctx.scheduled_at })
      if ctx.attempt < 3 then error("again") end
    end, { retries = 3, backoff = "10s" })]])
    app:advance("70m")
    assert.same({ "attempt 1 of run 2026-01-01T01:00:00Z", "attempt 2 of run 2026-01-01T01:00:00Z", "attempt 3 of run 2026-01-01T01:00:00Z" }, ran())
  end)

  it("passes a tick over while the one before runs, and says why", function()
    load(job("long", "*/10 * * * *", [[mw.sleep("25m")]], [[timeout = "1h"]]))
    app:advance("31m")
    assert.same({ "skipped", "skipped", "fired" }, statuses "long")
    assert.matches("still runs", ticks("long")[1].reason, 1, true)
    app:advance("10m")
    assert.equal("fired", statuses("long")[1])
  end)

  it("queues ticks behind the one before when asked to, in order", function()
    load(job("long", "*/10 * * * *", [[mw.sleep("25m")]], [[overlap = "queue", timeout = "1h"]]))
    app:advance("31m")
    assert.same({ "queued", "queued", "fired" }, statuses "long")
    app:advance("30m")
    assert.same({ "long 2026-01-01T00:10:00Z", "long 2026-01-01T00:20:00Z", "long 2026-01-01T00:30:00Z" }, { unpack(ran(), 1, 3) })
  end)

  it("runs ticks beside each other when allowed", function()
    load(job("long", "*/10 * * * *", [[mw.sleep("25m")]], [[overlap = "allow", timeout = "1h"]]))
    app:advance("31m")
    assert.same({ "fired", "fired", "fired" }, statuses "long")
  end)

  it("starts a tick up to its jitter later, and the tick stays what it is", function()
    load([[mw.cron("j", "@hourly", function(ctx) mw.log.info("at " .. math.floor(mw.now()) % 3600, { at = ctx.scheduled_at }) end, { jitter = "10m" })]])
    app:advance("75m")
    local late = tonumber(ran()[1]:match("^at (%d+) 2026%-01%-01T01:00:00Z$"))
    assert.is_true(late > 0 and late < 600, tostring(late))
  end)

  it("is paused and resumed, and nothing of the pause is made up for", function()
    load(job("often", "*/10 * * * *"))
    app:advance("11m")
    assert.equal(200, app:request("POST", "/api/v1/cron/often/pause", { json = {} }).status)
    app:advance("30m")
    assert.equal(1, #ran())
    assert.matches("paused by", ticks("often")[1].reason, 1, true)
    assert.equal("local", app:request("GET", "/api/v1/cron/often"):json().paused_by)
    app:request("POST", "/api/v1/cron/often/resume", { json = {} })
    app:advance("10m")
    assert.same({ "often 2026-01-01T00:10:00Z", "often 2026-01-01T00:50:00Z" }, ran())
  end)

  it("runs now when asked to, besides its schedule", function()
    load(job("rare", "@yearly"))
    assert.equal(201, app:request("POST", "/api/v1/cron/rare/run", { json = {} }).status)
    app:settle()
    assert.same({ "rare 2026-01-01T00:00:00Z" }, ran())
    assert.equal("manual", ticks("rare")[1].status)
  end)

  it("lists the next ten runs in the zone and in UTC, over a change of the clock", function()
    load(job("early", "30 2 * * *", "", [[timezone = "Europe/Berlin"]]), { now = 1774656000 })
    local next_runs = app:request("GET", "/api/v1/cron/early"):json().next
    assert.equal(10, #next_runs)
    assert.same({ at = "2026-03-28T02:30:00+01:00", at_utc = "2026-03-28T01:30:00.000000Z" }, next_runs[1])
    assert.same({ at = "2026-03-29T03:00:00+02:00", at_utc = "2026-03-29T01:00:00.000000Z" }, next_runs[2])
    assert.same({ at = "2026-03-30T02:30:00+02:00", at_utc = "2026-03-30T00:30:00.000000Z" }, next_runs[3])
  end)

  it("knows no job of that name, and says which was meant", function()
    load(job("nightly", "@daily"))
    local answer = app:request("GET", "/api/v1/cron/nightl")
    assert.equal(404, answer.status)
    assert.matches("nightly", answer.body, 1, true)
  end)

  describe("refuses at load", function()
    local cases = {
      ['mw.cron("a", "61 * * * *", print)'] = 'the minute "61"',
      ['mw.cron("a", "@daily", print, { timezone = "Europe/Atlantis" })'] = 'no time zone "Europe/Atlantis"',
      ['mw.cron("a", "@daily", print, { misfire = "never" })'] = 'misfire is "all", "once", "skip", not "never"',
      ['mw.cron("a", "@daily", print, { overlaps = "skip" })'] = 'did you mean "overlap"',
      ['mw.cron("a", "@daily", print, { jitter = "2h" })'] = "at most an hour",
      ['mw.cron("a", "@daily", 5)'] = "the name of a workflow",
      ['mw.cron("a", "@daily", "nothing")'] = 'no plugin declares one',
      ['mw.cron("a b", "@daily", print)'] = "may have letters",
      ['mw.cron("a", "@daily", "w", { retries = 1 }) mw.workflow("w", { { name = "x", run = print } })'] = "belongs to the workflow it starts",
      ['mw.cron("a", "@daily", print) mw.cron("a", "@hourly", print)'] = "is declared at",
      ['mw.workflow("cron:a", { { name = "x", run = print } })'] = "may have letters",
    }
    for source, expected in pairs(cases) do
      it(source, function()
        local ok, err = pcall(load, source)
        assert.is_false(ok)
        assert.matches(expected, tostring(err), 1, true)
      end)
    end
  end)
end)
