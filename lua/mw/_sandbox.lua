-- SPDX-License-Identifier: MIT

--- What plugin code sees of Lua. `require "mw.core.sandbox"` returns this module.
--
--   local env = sandbox.new_env("checkout.lua")                 -- its own copies of the standard tables
--   local chunk, err = sandbox.load(source, "@plugins/checkout.lua", env)
--   sandbox.interpret(fn)                                       -- JIT off for a function and all nested in it
--   sandbox.pcall, sandbox.xpcall                               -- cancellation and the watchdog pass through them
--   sandbox.apart(handler, fn, …)                               -- as xpcall, while loading: a kill ends fn and not its caller
--
-- Reading an undeclared global raises and names the line; writing one stays in the plugin's environment. Absent: ffi, debug, io, os
-- beyond time, date and clock, package, jit, newproxy, getfenv, setfenv, string.dump, collectgarbage except "count", dofile, loadfile,
-- bytecode. Library functions whose work a plugin chooses are bounded or can be stopped by the watchdog (core/vm/safe_string.h).
--
-- Coroutines are ours: a wait inside one travels down to the task as a yield of `wait_tag`, and the task's answer travels back up into
-- it, so that plugin code may wait inside its own coroutines and its own yields never reach the scheduler.

local native = require("mw.core.sandbox.native")
local errors = require("mw.errors")

local M = { load = native.load, interpret = native.interpret, apart = native.apart }

local rethrow, is_doomed = native.rethrow, native.is_doomed
local raw_pcall, raw_xpcall = pcall, xpcall
local co_create, co_resume, co_yield = coroutine.create, coroutine.resume, coroutine.yield
local co_running, co_status = coroutine.running, coroutine.status
local select, type, error, tostring, tonumber = select, type, error, tostring, tonumber

-- Errors

local function caught(ok, ...)
  if not ok then rethrow() end
  return ok, ...
end

function M.pcall(fn, ...) return caught(raw_pcall(fn, ...)) end

function M.xpcall(fn, handler, ...)
  if type(handler) ~= "function" then error("bad argument #2 to 'xpcall' (function expected)", 2) end
  return caught(raw_xpcall(fn, function(err)
    if is_doomed() then return err end
    return handler(err)
  end, ...))
end

errors.pcall = M.pcall

-- Coroutines

local WAIT, pass_wait, check_stack = native.wait_tag, native.pass_wait, native.check_stack
local MAX_NESTED = 100 -- each level is a C call
local weak = { __mode = "k" }
local level = setmetatable({}, weak)   -- of each coroutine made here: how deep it was resumed
local waiting = setmetatable({}, weak) -- those whose wait has not ended

local go_on

local function came_back(co, ok, ...)
  if ok then
    if (...) == WAIT then
      waiting[co] = true
      return go_on(co, pass_wait())
    end
    return true, ...
  end
  rethrow()
  return false, ...
end

go_on = function(co, ...)
  waiting[co] = nil
  return came_back(co, co_resume(co, ...))
end

local function check_coroutine(co, name)
  if type(co) ~= "thread" or not level[co] then
    error("bad argument #1 to '" .. name .. "' (coroutine expected)", 3)
  end
end

local function resume(co, ...)
  if waiting[co] then return false, "cannot resume a coroutine that waits" end
  check_stack()
  local here = co_running()
  local depth = (here and level[here] or 0) + 1
  if depth > MAX_NESTED then return false, "C stack overflow: coroutines are nested too deep" end
  level[co] = depth
  return came_back(co, co_resume(co, ...))
end

local function create(fn)
  if type(fn) ~= "function" then error("bad argument #1 to 'create' (Lua function expected)", 3) end
  local co = co_create(fn)
  level[co] = 0
  return co
end

local function unwrapped(ok, ...)
  if ok then return ... end
  error((...), 0)
end

local coroutines = {
  create = function(fn) return create(fn) end,
  resume = function(co, ...)
    check_coroutine(co, "resume")
    return resume(co, ...)
  end,
  wrap = function(fn)
    local co = create(fn)
    return function(...) return unwrapped(resume(co, ...)) end
  end,
  yield = function(...)
    local here = co_running()
    if not (here and level[here]) then
      error("coroutine.yield outside of a coroutine: to let others run, use mw.sleep(0)", 2)
    end
    return co_yield(...)
  end,
  status = function(co)
    check_coroutine(co, "status")
    return waiting[co] and "normal" or co_status(co)
  end,
  running = function()
    local here = co_running()
    return here and level[here] and here or nil
  end,
  isyieldable = function()
    local here = co_running()
    return here ~= nil and level[here] ~= nil
  end,
}

-- Standard tables. What is listed is copied; what is not listed does not exist.

local function pick(from, names)
  local copy = {}
  for name in names:gmatch("%S+") do copy[name] = from[name] end
  return copy
end

local strings = pick(string, "byte char len lower reverse sub upper")
for name, fn in pairs(native.string) do strings[name] = fn end

-- C functions that call metamethods or callbacks could nest until the C stack ends. The stock functions are tail-called, so that
-- their messages name the plugin's line.
local function checked(fn)
  return function(...)
    check_stack()
    return fn(...)
  end
end

strings.format = checked(string.format)

local tables = pick(table, "concat foreach foreachi getn maxn remove unpack pack")
local raw_insert, raw_sort = table.insert, table.sort

-- Stock insert walks down to any position, however far below 1, and takes NaN for the lowest of all.
function tables.insert(t, ...)
  if select("#", ...) == 2 then
    local position = tonumber((...))
    if position and not (position >= 1 and position <= 0x7fffffff) then
      error("bad argument #2 to 'insert' (position out of bounds)", 2)
    end
  end
  return raw_insert(t, ...)
end

local function less(a, b) return a < b end

-- Comparing in Lua lets the watchdog in; short lists do not need it.
function tables.sort(t, compare)
  check_stack()
  if compare == nil and type(t) == "table" and #t > 20000 then compare = less end
  return raw_sort(t, compare)
end

function tables.move(from, first, last, at, to)
  to = to or from
  if type(from) ~= "table" or type(to) ~= "table" then error("bad argument to 'move' (table expected)", 2) end
  if type(first) ~= "number" or type(last) ~= "number" or type(at) ~= "number" then
    error("bad argument to 'move' (number expected)", 2)
  end
  if last < first then return to end
  if at > last or at <= first or to ~= from then
    for i = 0, last - first do to[at + i] = from[first + i] end
  else
    for i = last - first, 0, -1 do to[at + i] = from[first + i] end
  end
  return to
end

local maths = pick(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp ldexp log log10 max min mod modf pow rad "
  .. "random sin sinh sqrt tan tanh huge pi")
-- The generator is shared by all plugins and seeded at random: nobody may make it predictable.
function maths.randomseed() end

local bits = pick(bit, "tobit tohex bnot band bor bxor lshift rshift arshift rol ror bswap")
local times = pick(os, "date clock")
times.time = checked(os.time)
local basics = pick(_G, "assert error getmetatable ipairs next pairs rawequal rawget rawlen rawset select setmetatable tonumber tostring "
  .. "type unpack _VERSION")

-- These loop for as long as their caller says: interpreted, the watchdog can stop them.
for _, fn in pairs({ tables.move, less }) do native.interpret(fn) end

native.lock_strings(strings)

-- Environments

local MAX_SOURCE = 16 * 1024 * 1024

local function read_pieces(reader)
  local pieces, size = {}, 0
  while true do
    local piece = reader()
    if piece == nil or piece == "" then return table.concat(pieces) end
    if type(piece) ~= "string" then error("the reader function of load must return a string", 0) end
    size = size + #piece
    if size > MAX_SOURCE then error("the source is larger than 16 MiB", 0) end
    pieces[#pieces + 1] = piece
  end
end
native.interpret(read_pieces)

-- A chunk must not look like one of ours in messages.
local function chunk_name(name)
  if name == nil then return "=(load)" end
  name = tostring(name)
  return name:find("^[@=]lua/") and "=(load)" or name
end

local function new_load(env)
  return function(source, name, mode, given)
    if type(source) == "function" then
      local ok, text = M.pcall(read_pieces, source)
      if not ok then return nil, text end
      source = text
    elseif type(source) ~= "string" then
      error("bad argument #1 to 'load' (string or function expected)", 2)
    end
    if mode ~= nil and not tostring(mode):find("t", 1, true) then return nil, "only text chunks can be loaded" end
    if given ~= nil and type(given) ~= "table" then error("bad argument #4 to 'load' (table expected)", 2) end
    return native.load(source, chunk_name(name), given or env)
  end
end

local function copy(from)
  local to = {}
  for name, value in pairs(from) do to[name] = value end
  return to
end

local function new_print(name)
  return function(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    native.log(table.concat(parts, "\t"), name)
  end
end

-- Why something people look for is not there.
local absent = {
  io = "files are not for plugins: mw.kv and mw.query keep data",
  debug = "it could reach into the server", ffi = "it could crash the server", jit = "the server decides what is compiled",
  package = "require(name) finds modules below the plugins directory", dofile = "use require(name)", loadfile = "use require(name)",
  module = "return a table instead", setfenv = "load(text, name, \"t\", env) takes an environment",
  getfenv = "_G is the plugin's environment", newproxy = "use a table", gcinfo = "use collectgarbage(\"count\")",
}

local function undeclared(_, name)
  local text = "the global " .. tostring(name) .. " does not exist"
  if absent[name] then text = name .. " is not available: " .. absent[name]
  elseif type(name) == "string" then text = text .. ": declare it with local, or check the spelling" end
  error(text, 2)
end

--- Makes an environment. `name` stands in log lines of print.
function M.new_env(name)
  local env = copy(basics)
  env.string, env.table, env.math, env.bit = copy(strings), copy(tables), copy(maths), copy(bits)
  env.os, env.coroutine = copy(times), copy(coroutines)
  env.pcall, env.xpcall = M.pcall, M.xpcall
  env.load = new_load(env)
  env.loadstring = function(source, chunk) return env.load(source, chunk) end
  env.print = new_print(name)
  env.collectgarbage = function(what)
    if what ~= "count" then error("collectgarbage(\"count\") is the only form that plugins have", 2) end
    return collectgarbage("count")
  end
  env._G = env
  return setmetatable(env, { __index = undeclared, __metatable = false })
end

return M
