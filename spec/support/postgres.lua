-- SPDX-License-Identifier: MIT
-- A PostgreSQL server of a spec's own, which can be stopped and started again without harm to specs that run beside it.
--
--   local postgres = require "support.postgres"
--   if not postgres.can_start() then return pending("needs the PostgreSQL server programs") end
--   local pg = postgres.start()      -- pg.url
--   pg:stop_now()                    -- as a power cut would
--   pg:start_again()                 -- same port, same data
--   pg:stop()                        -- and everything is gone; it is as well when the spec process ends

local ffi = require "ffi"
require "support.posix"

local M = {}
local Server = {}
local methods = { __index = Server }

local function script(...)
  return os.execute("script/postgres " .. table.concat({ ... }, " ") .. " >/dev/null 2>&1") == 0
end

---True when PostgreSQL's server programs are installed.
function M.can_start() return script "can" end

---Starts a server with an empty database.
function M.start()
  local out = assert(io.popen("script/postgres start " .. ffi.C.getpid()))
  local url, dir = out:read("*l"), out:read("*l")
  out:close()
  assert(url and dir, "script/postgres start failed")
  return setmetatable({ url = url, dir = dir }, methods)
end

---Stops it at once, in the middle of whatever it does.
function Server:stop_now() assert(script("crash", self.dir), "the server did not stop") end

---Starts it again and waits until it answers.
function Server:start_again() assert(script("up", self.dir), "the server did not start") end

---Stops it and removes its data. Harmless twice.
function Server:stop() script("stop", self.dir) end

return M
