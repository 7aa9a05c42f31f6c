-- SPDX-License-Identifier: MIT
-- What systemd is told, with a socket of ours in its place; and that the unit is one.

local posix = require "support.posix"
local server = require "support.server"

describe("under systemd", function()
  local s, listener, dir
  before_each(function()
    dir = posix.temp_dir()
    listener = posix.listen_datagrams(dir .. "/notify")
  end)
  after_each(function()
    if s and s.pid then s:stop() end
    s = nil
    posix.close(listener)
    posix.remove_dir(dir)
  end)

  local heard
  local function start(env)
    heard = ""
    env = env or {}
    env.NOTIFY_SOCKET = dir .. "/notify"
    s = server.start {
      plugins = { ["p.lua"] = [[
        local mw = require "mw"
        mw.get("/up", function(_, res) res:text("up") end)
        mw.get("/spin", function() while true do end end)
      ]] },
      supervised = true, args = { "--workers", "2" }, env = env,
    }
  end

  local function listen(seconds)
    local give_up = posix.now() + seconds
    while true do
      local text = posix.read(listener, give_up)
      if not text then return heard end
      heard = heard .. text .. "\n"
    end
  end

  local function hears(text, seconds)
    s:wait(function() return listen(0):find(text, 1, true) end, seconds or 10, text)
  end

  it("says READY when it serves, with the process id that supervises", function()
    start()
    hears("READY=1\nMAINPID=" .. s.pid)
  end)

  it("says STOPPING when it drains, and how long that may take", function()
    start { MOONWATCH_DRAIN_TIMEOUT = "7s" }
    s:stop()
    assert.matches("STOPPING=1", listen(0), 1, true)
    assert.matches("EXTEND_TIMEOUT_USEC=11000000", heard, 1, true)
  end)

  it("says RELOADING and READY around a swap, in the same process id", function()
    start()
    hears("READY=1")
    heard = ""
    s:kill(posix.SIGUSR2)
    hears("RELOADING=1\nMONOTONIC_USEC=")
    hears("READY=1\nMAINPID=" .. s.pid, 15)
  end)

  it("feeds the watchdog while the workers run, and starves it when one does not come back", function()
    start { WATCHDOG_USEC = "800000", MOONWATCH_LUA_SOFT_LIMIT = "20s", MOONWATCH_LUA_HARD_LIMIT = "30s" }
    posix.pause(1)
    listen(0)
    heard = ""
    assert.is_truthy(select(2, listen(1):gsub("WATCHDOG=1", "")) >= 3)
    local conn = s:connect()
    conn:send("GET /spin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    listen(0.5)
    heard = ""
    assert.is_nil(listen(1):find("WATCHDOG=1", 1, true))
    conn:close()
    s:kill_all()
  end)

  it("has a unit that systemd finds nothing wrong with", function()
    if not io.open("/usr/bin/systemd-analyze") then return pending("needs systemd-analyze (package systemd)") end
    local unit = posix.read_file("deploy/systemd/moonwatch.service"):gsub("/usr/bin/moonwatch", posix.link("/proc/self/exe"))
    posix.write_file(dir .. "/moonwatch.service", unit)
    local pipe = io.popen("systemd-analyze verify --man=no " .. dir .. "/moonwatch.service 2>&1; echo code $?")
    local said = pipe:read("*a")
    pipe:close()
    assert.matches("code 0", said, 1, true)
    for path in posix.read_file("docs/operation.md"):gmatch("/var/log/(%w+)/") do assert.matches("\nLogsDirectory=" .. path, unit) end
    for path in posix.read_file("docs/operation.md"):gmatch("/run/(%w+)/") do assert.matches("\nRuntimeDirectory=" .. path, unit) end
    for line in said:gmatch("[^\n]+") do assert.is_nil(line:find("moonwatch.service", 1, true), line) end
  end)
end)
