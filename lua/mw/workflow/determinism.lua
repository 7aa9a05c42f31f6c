-- SPDX-License-Identifier: MIT

--- Keeps the body of a workflow written as a function deterministic: code outside of steps runs again on resume and must take the
-- same way.
--
-- While a body runs, in a plugin's environment
--   * `pairs` walks in a defined order: numbers ascending, then strings bytewise; other keys raise,
--   * `next` on a table with keys other than 1…n raises (hash order differs from state to state), as do os.time, os.date, os.clock,
--     math.random, math.randomseed and tostring of a table or function; each names the journaled form.
-- Everywhere else they are what they always were.
--
--   determinism.install(env)                        -- by the loader, for each plugin's environment
--   determinism.enter() … determinism.leave()       -- by imperative.lua, around body code

local errors = require "mw.errors"

local M = {}

local in_body = false

function M.enter() in_body = true end

function M.leave() in_body = false end

function M.is_in_body() return in_body end

local function refuse(name, instead)
  errors.throw("invalid", string.format(
    "%s differs from run to run, and the body of a workflow runs again on resume: use %s, or move it into ctx:step", name, instead))
end

local function ordered_keys(t)
  local numbers, strings = {}, {}
  for key in next, t do
    local kind = type(key)
    if kind == "number" then
      numbers[#numbers + 1] = key
    elseif kind == "string" then
      strings[#strings + 1] = key
    else
      refuse("pairs over a table with a " .. kind .. " as key", "numbers and strings as keys")
    end
  end
  table.sort(numbers)
  table.sort(strings)
  for i = 1, #strings do numbers[#numbers + 1] = strings[i] end
  return numbers
end

local function ordered_pairs(t)
  if type(t) ~= "table" then errors.throw("invalid", "pairs: a table is expected, got " .. type(t)) end
  local keys, i = ordered_keys(t), 0
  return function()
    while true do
      i = i + 1
      local key = keys[i]
      if key == nil then return nil end
      local value = t[key]
      if value ~= nil then return key, value end
    end
  end, t, nil
end

local function wrap_next(plain)
  return function(t, key)
    if in_body and type(t) == "table" then
      local first = plain(t)
      if first ~= nil and not (type(first) == "number" and #t > 0) then
        if plain(t, first) ~= nil then refuse("next on a table with names as keys", "pairs") end
      end
    end
    return plain(t, key)
  end
end

local function wrap_tostring(plain)
  return function(...)
    if in_body then
      local value = ...
      local kind = type(value)
      if kind == "function" or kind == "userdata" or kind == "thread"
        or (kind == "table" and not (getmetatable(value) and (errors.is(value) or type(getmetatable(value)) == "table"
          and getmetatable(value).__tostring))) then
        refuse("tostring of a " .. kind, "mw.json.encode")
      end
    end
    return plain(...)
  end
end

local function refuse_in_body(plain, name, instead)
  if type(plain) ~= "function" then return plain end
  return function(...)
    if in_body then refuse(name, instead) end
    return plain(...)
  end
end

--- Replaces what is not deterministic in a plugin's environment.
function M.install(env)
  local plain_pairs = env.pairs
  if plain_pairs then
    env.pairs = function(t)
      if in_body then return ordered_pairs(t) end
      return plain_pairs(t)
    end
  end
  if env.next then env.next = wrap_next(env.next) end
  if env.tostring then env.tostring = wrap_tostring(env.tostring) end
  if env.os then
    for _, name in ipairs { "time", "date", "clock" } do
      env.os[name] = refuse_in_body(env.os[name], "os." .. name, "ctx:now()")
    end
  end
  if env.math then
    for _, name in ipairs { "random", "randomseed" } do
      env.math[name] = refuse_in_body(env.math[name], "math." .. name, "ctx:random()")
    end
  end
  return env
end

return M
