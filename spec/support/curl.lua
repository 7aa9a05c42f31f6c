-- SPDX-License-Identifier: MIT
-- curl, a client that nobody here wrote.
--
--   local curl = require "support.curl"
--   if not curl.exists() then return pending("needs curl") end
--   local answer = curl(s, "/path", "--compressed", "-H", "X: y")     -- status, headers (lower case), body, exit (curl's own code)

local http = require "support.http"
local posix = require "support.posix"

local M = {}

function M.exists() return os.execute("command -v curl >/dev/null 2>&1") == 0 end

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function run(_, server, path, ...)
  local dir = server.dir
  local command = { "curl", "-sS", "--max-time", "20", "-D", quote(dir .. "/curl.head"), "-o", quote(dir .. "/curl.body"), "-w", quote("%{http_code}") }
  for _, arg in ipairs { ... } do command[#command + 1] = quote(arg) end
  command[#command + 1] = quote(("http://127.0.0.1:%d%s"):format(server.port, path))
  os.remove(dir .. "/curl.body")
  local pipe = io.popen(table.concat(command, " ") .. " 2>" .. quote(dir .. "/curl.log") .. "; echo \" $?\"")
  local status, exit = pipe:read("*a"):match("(%d+)%s+(%d+)%s*$")
  pipe:close()
  local headers = {}
  for name, value in (posix.read_file(dir .. "/curl.head") or ""):gmatch("([^:\r\n]+):[ \t]*([^\r\n]*)") do headers[name:lower()] = value end
  return http.answer {
    status = tonumber(status), exit = tonumber(exit), headers = headers, body = posix.read_file(dir .. "/curl.body") or "",
    log = posix.read_file(dir .. "/curl.log"),
  }
end

return setmetatable(M, { __call = run })
