-- SPDX-License-Identifier: MIT
-- A hundred plugins reloaded fifty times under load: nothing fails, and nothing of the old generations stays.

local server = require "support.server"
local posix = require "support.posix"

local PLUGINS, RELOADS = 100, tonumber(os.getenv("MW_TEST_RELOADS") or "50")

local function plugin(n)
  return ([[
    local mw = require "mw"
    local limits = {}
    for i = 1, 200 do limits["key" .. i] = { name = "limit " .. i, max = i } end
    mw.get("/p%d/:id", function(req, res) res:json { plugin = %d, id = req.params.id, max = limits["key" .. 7].max } end)
    mw.workflow("w%d", { { name = "one", run = function(ctx) return ctx.input end } })
  ]]):format(n, n, n)
end

local function count_files(dir)
  local count, pipe = 0, io.popen("ls " .. dir)
  for _ in pipe:lines() do count = count + 1 end
  pipe:close()
  return count
end

describe("a hundred plugins", function()
  it("are reloaded fifty times under load: no request fails, memory and descriptors end where they began", function()
    local plugins = {}
    for n = 1, PLUGINS do plugins[("p%03d.lua"):format(n)] = plugin(n) end
    local s = server.start { plugins = plugins, args = { "--workers", "2" }, env = {
      MOONWATCH_WATCH = "false",
      ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":quarantine_size_mb=4", -- else what was freed stays with AddressSanitizer
    } }
    local stop = s.dir .. "/stop"
    local load = s:load("/p42/x", { connections = 3, seconds = 120, until_file = stop })
    local function reload() assert.equal(200, s:control("POST", "/api/v1/reload", { json = {}, timeout = 60 }).status) end
    local function threads() return count_files("/proc/" .. s.pid .. "/task") end
    for _ = 1, 8 do reload() end
    posix.pause(0.3)
    local memory, descriptors, running = s:memory(), #posix.descriptors(s.pid), threads()
    for _ = 9, RELOADS do reload() end
    posix.write_file(stop, "")
    local outcome = load:finish()
    assert.equal(0, outcome.failed, outcome.first_failure)
    assert.is_true(outcome.answered > 100)
    assert.equal(42, s:get("/p42/x").json().plugin)
    assert.is_true(s:generation() > RELOADS)
    s:wait(function()
      local now = s:memory()
      return now < memory * 1.15 + 2e6, ("%.1f MB were %.1f MB"):format(now / 1e6, memory / 1e6)
    end, 10, "the memory of old generations to be given back")
    s:wait(function() return #posix.descriptors(s.pid) <= descriptors + 1 end, 5, "descriptors to be closed")
    assert.equal(running, threads())
    s:stop()
  end)
end)
