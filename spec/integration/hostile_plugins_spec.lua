-- Plugins that misbehave hurt their own request and nobody else.

local server = require "support.server"

local hostile = [==[
local mw = require "mw"

mw.get("/good", function(_, res) res:json { ok = true } end)

local function route(name, fn) mw.get("/bad/" .. name, function(_, res) fn(); res:json { survived = true } end) end

route("loop", function() while true do end end)
route("loop_in_pcall", function() while true do pcall(function() while true do end end) end end)
route("loop_in_xpcall_handler", function()
  while true do xpcall(error, function() while true do end end) end
end)
route("loop_in_coroutine", function()
  while true do coroutine.wrap(function() while true do end end)() end
end)
route("loop_made_by_load", function() load("while true do end")() end)
route("table_move", function() table.move({}, 1, 1e15, 2) end)
route("memory_bomb", function() local t = {} for i = 1, 1e12 do t[i] = { i, tostring(i) } end end)
route("string_bomb", function() local s = "x" while true do s = s .. s end end)
route("string_rep", function() return #string.rep("x", 1e9) end)
route("deep_recursion", function() local function f() return 1 + f() end return f() end)
route("pattern", function() return ("a"):rep(30):find(("a?"):rep(30) .. ("a"):rep(30) .. "b") end)
route("pattern_gsub", function() return (("a"):rep(5000):gsub("(.-)(.-)(.-)(.-)b", "")) end)
]==]

describe("a hostile plugin", function()
  local s

  setup(function()
    s = server.start {
      plugins = { ["hostile.lua"] = hostile, ["kind.lua"] = [[
        local mw = require "mw"
        mw.get("/kind", function(_, res) res:json { kind = ("%d"):format(7) } end)
      ]] },
      args = { "--workers", "1" },
      config = [[return { lua = { soft_limit = "200ms", memory = "64MiB" } }]],
    }
  end)
  teardown(function() s:stop() end)

  local cases = {
    loop = "hostile%.lua:%d+", loop_in_pcall = "hostile%.lua:%d+", loop_in_xpcall_handler = "hostile%.lua", loop_in_coroutine = "hostile%.lua:%d+",
    loop_made_by_load = "hostile%.lua", table_move = "hostile%.lua:%d+", memory_bomb = "memory", string_bomb = "memory",
    string_rep = "memory", deep_recursion = "stack overflow", pattern = "hostile%.lua", pattern_gsub = "hostile%.lua",
  }
  for name, pattern in pairs(cases) do
    it("gets an error for " .. name .. " while others are served and nothing restarts", function()
      local pid = s:server_pid()
      local answer = s:get("/bad/" .. name, { timeout = 15 })
      assert.equal(500, answer.status, answer.body)
      assert.matches(pattern, answer.body .. s:log())
      assert.equal(200, s:get("/kind").status)
      assert.equal(200, s:get("/good").status)
      assert.equal(pid, s:server_pid())
    end)
  end

  it("does not stop other requests on the worker for longer than the soft limit allows", function()
    local results = s:concurrently {
      function() return s:get("/bad/loop", { timeout = 15 }) end,
      function() return s:get("/kind", { timeout = 15 }) end,
    }
    assert.equal(500, results[1].status)
    assert.equal(200, results[2].status)
  end)
end)

describe("a loop in a __gc", function()
  it("is never called: tables have none, and newproxy is absent", function()
    local s = server.start {
      plugins = { ["gc.lua"] = [==[
        local mw = require "mw"
        local function looping() while true do end end
        mw.get("/gc", function(_, res)
          for i = 1, 1e5 do setmetatable({ i }, { __gc = looping }) end
          for i = 1, 1e5 do local _ = { i } end
          res:json { survived = true, newproxy = rawget(_G, "newproxy") ~= nil }
        end)
      ]==] },
      args = { "--workers", "1" },
    }
    assert.same({ survived = true, newproxy = false }, s:get("/gc", { timeout = 15 }).json())
    s:stop()
  end)
end)

describe("a plugin that does not load", function()
  local cases = {
    { "raises", "error('broken on purpose')", "broken on purpose" },
    { "has a syntax error", "local x = = 1", "bad.lua:1" },
    { "waits", "require('mw').sleep(1)", "cannot run while a plugin loads" },
    { "queries", "require('mw').query('SELECT 1')", "cannot run while a plugin loads" },
    { "loops", "while true do end", "bad.lua:1" },
    { "reads an undeclared global", "local x = nowhere", "nowhere" },
    { "requires what is not there", "require 'lib.absent'", "lib.absent" },
    { "takes a built-in path", "require('mw').get('/api/mine', function() end)", "belongs to the API" },
    { "registers a route twice", "local mw = require 'mw' mw.get('/a', function() end) mw.get('/a', function() end)", "declared at plugins/bad.lua:1" },
  }
  for _, case in ipairs(cases) do
    it("because it " .. case[1] .. " leaves the generation before serving and says where", function()
      local s = server.start {
        plugins = { ["good.lua"] = [[require("mw").get("/good", function(_, res) res:text("one") end)]] },
        args = { "--workers", "1" }, config = [[return { lua = { soft_limit = "200ms" } }]],
      }
      s:write("bad.lua", case[2])
      local view
      s:wait(function()
        view = s:get("/api/v1/plugins").json()
        return #view.errors > 0
      end, 10, "the load error")
      assert.equal(1, view.generation)
      local text = view.errors[1].message .. " " .. tostring(view.errors[1].file) .. ":" .. tostring(view.errors[1].line)
      assert.truthy(text:find(case[3], 1, true), text)
      assert.equal("one", s:get("/good").body)
      assert.truthy(s:log():find(case[3], 1, true) or s:log():find("bad.lua", 1, true))
      s:remove("bad.lua")
      s:wait_generation(3)
      assert.equal("one", s:get("/good").body)
      s:stop()
    end)
  end
end)

describe("the sandbox", function()
  local s
  setup(function()
    s = server.start {
      plugins = {
        ["meddler.lua"] = [==[
          local mw = require "mw"
          string.format = function() return "meddled" end
          table.insert = nil
          mw.json.encode = function() return "meddled" end
          rawset(_G, "leak", "leaked")
          local seen = {}
          for _, name in ipairs { "io", "ffi", "debug", "package", "jit", "newproxy", "getfenv", "setfenv", "dofile", "loadfile" } do
            seen[name] = rawget(_G, name) ~= nil
          end
          mw.get("/seen", function(_, res) res:json(seen) end)
          mw.get("/os", function(_, res)
            res:json { execute = os.execute ~= nil, exit = os.exit ~= nil, getenv = os.getenv ~= nil, time = os.time ~= nil }
          end)
          mw.get("/dump", function(_, res) res:json { string.dump == nil } end)
          mw.get("/bytecode", function(_, res)
            local fn, err = load("\27LJ\2\0\0", "x")
            res:json { loaded = fn ~= nil, err = tostring(err) }
          end)
          mw.get("/string_meta", function(_, res)
            res:json { ok = pcall(function() getmetatable("").__index = {} end), meta = type(getmetatable("")) }
          end)
          mw.get("/ffi", function(_, res) res:json { ok = pcall(require, "ffi") } end)
          mw.get("/core", function(_, res) res:json { ok = pcall(require, "mw.core.runtime") } end)
        ]==],
        ["victim.lua"] = [==[
          local mw = require "mw"
          mw.get("/victim", function(_, res)
            local t = {}
            table.insert(t, ("%s"):format("a"))
            res:json { format = string.format("%d", 1), insert = t[1], leak = rawget(_G, "leak") == nil, json = mw.json.encode { 1 } }
          end)
        ]==],
      },
      args = { "--workers", "1" },
    }
  end)
  teardown(function() s:stop() end)

  it("hides from a plugin what another plugin altered", function()
    assert.same({ format = "1", insert = "a", leak = true, json = "[1]" }, s:get("/victim").json())
  end)
  it("has no door to the host", function()
    for name, there in pairs(s:get("/seen").json()) do assert.is_false(there, name) end
    assert.same({ execute = false, exit = false, getenv = false, time = true }, s:get("/os").json())
    assert.same({ true }, s:get("/dump").json())
    assert.is_false(s:get("/ffi").json().ok)
    assert.is_false(s:get("/core").json().ok)
  end)
  it("refuses bytecode", function() assert.is_false(s:get("/bytecode").json().loaded) end)
  it("locks the metatable of strings", function() assert.is_false(s:get("/string_meta").json().ok) end)
end)
