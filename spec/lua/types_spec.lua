-- SPDX-License-Identifier: MIT
-- The stubs of `moonwatch types` against what plugins really get, so that neither changes without the other.

local posix = require "support.posix"
local server = require "support.server"

local HOW = "\nWhat a plugin can call has a comment and annotations above its definition in lua/mw (see lua/mw/_types.lua): write them there."

local function sources()
  local files = {}
  local pipe = assert(io.popen("cd lua && find mw -name '*.lua'"))
  for path in pipe:lines() do files[path] = posix.read_file("lua/" .. path) end
  pipe:close()
  return files
end

local function upvalue(fn, wanted)
  for i = 1, 60 do
    local name, value = debug.getupvalue(fn, i)
    if not name then return nil end
    if name == wanted then return value end
  end
end

-- `mw.a.b` of the live table; fields of mw.log and the like are what their class says.
local function live_names(t, prefix, into)
  for key, value in pairs(t) do
    if type(value) == "table" and getmetatable(value) == nil and prefix .. key ~= "mw.log" then live_names(value, prefix .. key .. ".", into)
    else into[prefix .. key] = value end
  end
  return into
end

-- Fields and methods of a class in the stub, and of its parents.
local function members(stub, class, into)
  local inside = false
  for line in stub:gmatch("[^\n]+") do
    local name, parent = line:match("^%-%-%-@class ([%w_.]+):? ?([%w_.]*)")
    if name then
      inside = name == class
      if inside and parent ~= "" then members(stub, parent, into) end
    elseif inside then
      local field = line:match("^%-%-%-@field ([%w_]+)")
      if field then into[field] = true else inside = false end
    end
  end
  for name in stub:gmatch("\nfunction " .. class:gsub("%.", "_") .. ":([%w_]+)") do into[name] = true end
  return into
end

local function same(expected, actual, what)
  for name in pairs(expected) do assert.truthy(actual[name], what .. " has " .. name .. ", and its stub has not." .. HOW) end
  for name in pairs(actual) do assert.truthy(expected[name], "the stub of " .. what .. " has " .. name .. ", which is not there." .. HOW) end
end

local function keys(...)
  local set = {}
  for i = 1, select("#", ...) do
    for name in pairs((select(i, ...))) do set[name] = true end
  end
  return set
end

describe("the types of mw", function()
  local stub, problems, live
  setup(function()
    live = require("mw").public { name = "types" }
    stub, problems = require("mw._types").stub(live, sources())
  end)

  it("are complete: everything is described, every parameter has its type", function()
    assert.equal(0, #problems, table.concat(problems, "\n") .. HOW)
  end)

  it("are Lua that can be read", function() assert.is_function(assert(loadstring(stub))) end)

  it("name what mw has and nothing else", function()
    local expected, actual = live_names(live, "mw.", {}), {}
    for name in stub:gmatch("\nfunction (mw%.[%w_.]+)%(") do actual[name] = true end
    for name in pairs(members(stub, "mw", {})) do actual["mw." .. name] = true end
    for _, inner in ipairs { "json" } do
      for name in pairs(members(stub, "mw." .. inner:sub(1, 1):upper() .. inner:sub(2), {})) do actual["mw." .. inner .. "." .. name] = true end
    end
    expected["mw.log"] = true
    same(keys(expected), actual, "mw")
    same(keys(live.redis), members(stub, "mw.Redis", {}), "mw.redis")
    same(keys(live.log), members(stub, "mw.Log", {}), "mw.log")
  end)

  it("name what requests, answers, parts, transactions and contexts have", function()
    local index = require("mw.http.request").metatable.__index
    same(keys(upvalue(index, "methods"), upvalue(index, "getters")), members(stub, "mw.Request", {}), "req")
    same(keys(require("mw.http.response").metatable.__index), members(stub, "mw.Response", {}), "res")
    local new_context = upvalue(require("mw.workflow.imperative").drive, "new_context")
    local body = upvalue(new_context, "get_of_body")
    same(keys(upvalue(body, "methods"), { id = 1, workflow = 1, input = 1, results = 1 }), members(stub, "mw.Context", {}), "the ctx of a workflow's function")
    local tx = upvalue(require("mw.db").transaction, "Tx")
    local methods = keys(tx)
    methods.__index, methods.__metatable = nil, nil
    same(methods, members(stub, "mw.Tx", {}), "tx")
  end)

  -- The tables of known options that a function's code reaches: upvalues called options, or …_options.
  local function option_tables(fn, found, seen, depth)
    if seen[fn] or depth > 3 then return found end
    seen[fn] = true
    local home = debug.getinfo(fn, "S").source
    for i = 1, 60 do
      local name, value = debug.getupvalue(fn, i)
      if not name then break end
      if type(value) == "table" and (name == "options" or name:find("_options$")) then found[#found + 1] = value end
      local is_near = type(value) == "function" and (debug.getinfo(value, "S").source == home or name == "fn")
      if is_near then option_tables(value, found, seen, depth + 1) end
    end
    return found
  end

  -- What stands at a name in the stub, with the classes it speaks of and theirs.
  local function description(name)
    local lines, seen, text = {}, {}, {}
    for line in (stub .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
    local function block(at, step, pattern)
      while lines[at] and lines[at]:find(pattern) do
        text[#text + 1] = lines[at]
        at = at + step
      end
    end
    local key = name:match("^mw%.([%w_]+)$")
    for i, line in ipairs(lines) do
      if line:find("function " .. name .. "(", 1, true) then block(i - 1, -1, "^%-%-%-") end
      if key and line:find("^%-%-%-@field " .. key .. " ") then text[#text + 1] = line end
    end
    local at = 1
    while text[at] do
      for class in text[at]:gmatch("mw%.%u[%w_]*") do
        if not seen[class] then
          seen[class] = true
          for i, line in ipairs(lines) do
            if line:find("^%-%-%-@class " .. class:gsub("%.", "%%.") .. "%f[^%w_.]") then block(i, 1, "^%-%-%-") end
          end
        end
      end
      at = at + 1
    end
    return table.concat(text, "\n")
  end

  it("name every option", function()
    local checked, functions = 0, live_names(live, "mw.", {})
    functions["mw.static"] = require("mw.http.static").handler -- it declares routes with options of its own making
    for name, fn in pairs(functions) do
      for _, options in ipairs(type(fn) == "function" and option_tables(fn, {}, {}, 0) or {}) do
        local known = description(name)
        for option in pairs(options) do
          checked = checked + 1
          assert.truthy(known:find("@field " .. option .. "%??%s") or known:find("[{ ]" .. option .. "%??: "),
            name .. " takes the option " .. option .. ", which its stub does not say." .. HOW)
        end
      end
    end
    assert.is_true(checked > 30, "only " .. checked .. " options were found: are their tables still called options?")
  end)
end)

describe("moonwatch types", function()
  it("writes them with the .luarc.json that points there, and again over its own file", function()
    local dir = posix.temp_dir()
    local code, text = server.command({ "types", dir .. "/p" })
    assert.equal(0, code, text)
    local types = posix.read_file(dir .. "/p/.moonwatch/types/mw.lua")
    assert.matches("function mw.fetch(url, opts) end", types, 1, true)
    assert.matches('"workspace.library": [".moonwatch/types"]', posix.read_file(dir .. "/p/.luarc.json"), 1, true)
    local testing = posix.read_file(dir .. "/p/.moonwatch/types/mw/testing.lua")
    assert.is_function(assert(loadstring(testing)))
    for _, text in ipairs { "function testing.load(what, opts) end", "function mw_testing_App:request(method, target, opts) end",
      "function mw_testing_App:stub_fetch(", "function testing.error(code, message, fields) end", "function mw_testing_Run:ok() end" } do
      assert.matches(text, testing, 1, true)
    end
    code, text = server.command({ "types", dir .. "/p" })
    assert.equal(0, code, text)
    assert.is_nil(text:find("workspace.library", 1, true), "asks for what is there")
    posix.write_file(dir .. "/p/.luarc.json", "{}")
    posix.write_file(dir .. "/p/.moonwatch/types/mw.lua", "old")
    code, text = server.command({ "types", dir .. "/p" })
    assert.equal(0, code, text)
    assert.matches("workspace.library", text, 1, true)
    assert.equal("{}", posix.read_file(dir .. "/p/.luarc.json"))
    assert.equal(types, posix.read_file(dir .. "/p/.moonwatch/types/mw.lua"))
    posix.remove_dir(dir)
  end)

  it("takes them from the program, not from a project's own mw.lua", function()
    local dir = posix.temp_dir()
    posix.write_file(dir .. "/mw.lua", "error 'not this one'")
    local code, text = server.command({ "types" }, { dir = dir })
    assert.equal(0, code, text)
    posix.remove_dir(dir)
  end)
end)
