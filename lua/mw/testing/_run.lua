-- SPDX-License-Identifier: MIT
-- The Lua half of `moonwatch test`: sets the search path, gives busted its defaults, and turns its ways of ending
-- (a return, an empty error, os.exit) into one exit code.

local ROOTS = "spec/?.lua;spec/?/init.lua;lua/?.lua;lua/?/init.lua;"
local DEBIAN = ";/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
local HELPER = "spec/support/helper.lua"

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function has_flag(args, name)
  for _, arg in ipairs(args) do
    if arg == name or arg:sub(1, #name + 1) == name .. "=" then return true end
  end
  return false
end

-- Ends the run from inside busted. The error passes through its runner, which protects only specs.
local Exit = {}

local function exit(code)
  if code == nil or code == true then code = 0 end
  if code == false then code = 1 end
  error(setmetatable({ code = code == 0 and 0 or 1 }, Exit), 0)
end

local function find_busted()
  local found, runner = pcall(require, "busted.runner")
  if found then return runner end
  io.stderr:write("moonwatch test: busted is missing; install it: apt-get install lua-busted\n(", tostring(runner), ")\n")
end

---@param args string[] what stood after `moonwatch test`
---@return integer code for the shell
return function(args)
  package.path = ROOTS .. package.path .. DEBIAN
  if not has_flag(args, "--helper") and exists(HELPER) then table.insert(args, 1, "--helper=" .. HELPER) end
  args[0] = "moonwatch test"
  _G.arg = args
  local runner = find_busted()
  if not runner then return 2 end

  os.exit = exit
  local ok, err = xpcall(function() runner { standalone = false } end, function(err)
    if err == nil or getmetatable(err) == Exit then return err end
    return debug.traceback(tostring(err), 2)
  end)
  io.stdout:flush()
  if ok then return 0 end
  if getmetatable(err) == Exit then return err.code end
  if err ~= nil then
    io.stderr:write("moonwatch test: ", err, "\n")
    return 2
  end
  return 1
end
