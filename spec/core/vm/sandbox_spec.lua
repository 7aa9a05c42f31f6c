-- SPDX-License-Identifier: MIT

-- Environments for plugin code, as far as they need no running task (spec/c/vm_sandbox_test.c has the rest).

local sandbox = require("mw.core.sandbox")

local function run(source, env)
  local chunk, err = sandbox.load(source, "@plugins/spec.lua", env or sandbox.new_env("spec.lua"))
  assert(chunk, err)
  return chunk()
end

local function failure(source)
  local ok, err = pcall(run, source)
  assert.is_false(ok)
  return tostring(err)
end

describe("the sandbox", function()
  it("gives the standard tables", function()
    assert.equal("HELLO 3", run([[return string.format("%s %d", ("hello"):upper(), #"abc")]]))
    assert.equal("1,2,3", run([[local t = {3, 1, 2} table.sort(t) return table.concat(t, ",")]]))
    assert.equal(8, run("return bit.lshift(1, 3)"))
    assert.equal("number", run("return type(os.time())"))
    assert.equal("number", run("return type(collectgarbage('count'))"))
    assert.equal(3, run("return math.max(1, 3, 2)"))
  end)

  it("lacks what could reach the server", function()
    for _, name in ipairs({ "io", "debug", "ffi", "jit", "package", "dofile", "loadfile", "module", "setfenv", "getfenv", "newproxy", "gcinfo" }) do
      local text = failure("return " .. name)
      assert.truthy(text:find("plugins/spec.lua:1: " .. name .. " is not available", 1, true), text)
    end
    for _, name in ipairs({ "string.dump", "os.execute", "os.getenv", "os.exit", "os.remove", "coroutine.close", "math.foo" }) do
      assert.is_nil(run("return " .. name))
    end
  end)

  it("names the line that reads an undeclared global", function()
    assert.truthy(failure("\n\nreturn colour"):find("plugins/spec.lua:3: the global colour does not exist", 1, true))
  end)

  it("keeps a plugin's globals and changes to itself", function()
    local one, two = sandbox.new_env("one"), sandbox.new_env("two")
    run("counter = 1; string.upper = nil; table.extra = true", one)
    assert.equal(1, run("return counter", one))
    assert.is_nil(rawget(two, "counter"))
    assert.equal("X", run("return string.upper('x')", two))
    assert.is_nil(run("return table.extra", two))
    assert.is_nil(rawget(_G, "counter"))
  end)

  it("does not let the environment's metatable go", function()
    assert.is_false(run("return getmetatable(_G)"))
    assert.truthy(failure("setmetatable(_G, {})"):find("protected", 1, true))
  end)

  it("loads text only, into the plugin's environment", function()
    assert.equal(5, run("y = 5 return load('return y')()"))
    assert.equal(7, run("return load('return z', 'x', 't', {z = 7})()"))
    assert.equal(3, run("local parts = {'return ', '1 + ', '2'} local i = 0 return load(function() i = i + 1 return parts[i] end)()"))
    assert.is_nil(run("return (load('\\27LJ'))"))
    assert.is_nil(run("return (load('return 1', 'x', 'b'))"))
    assert.is_nil((sandbox.load(string.dump(function() end), "@x", {})))
    local fn, err = sandbox.load("x = = 1", "@plugins/bad.lua", {})
    assert.is_nil(fn)
    assert.truthy(err:find("plugins/bad.lua:1:", 1, true))
  end)

  it("does not let a loaded chunk pass for one of the runtime", function()
    assert.is_nil(failure("load('error(\"x\")', '@lua/mw/init.lua')()"):find("^lua/mw/init.lua:1:", 1))
  end)

  it("has coroutines that behave as the stock ones", function()
    local source = [[
      local log = {}
      local function add(...) for i = 1, select("#", ...) do log[#log + 1] = tostring((select(i, ...))) end end
      local co = coroutine.create(function(a, b)
        add(a, b)
        local c = coroutine.yield(a + b)
        add(c)
        local d, e = coroutine.yield()
        add(d, e)
        error("end", 0)
      end)
      return co, add, log
    ]]
    local function drive(env)
      local co, add, log = run(source, env)
      local c = env.coroutine
      add(c.status(co)) add(c.resume(co, 1, 2)) add(c.status(co)) add(c.resume(co, "x")) add(c.resume(co, nil, false)) add(c.status(co))
      add((c.resume(co)))
      local sum = 0
      for i in c.wrap(function() for i = 1, 4 do c.yield(i) end end) do sum = sum + i end
      add(sum)
      add(pcall(c.wrap(function() error({}) end)))
      return (table.concat(log, " "):gsub("0x%x+", "address"))
    end
    local plain = setmetatable({ coroutine = coroutine }, { __index = _G })
    assert.equal(drive(plain), drive(sandbox.new_env("x")))
  end)

  it("refuses to yield where there is no coroutine of the plugin", function()
    assert.truthy(failure("coroutine.yield(1)"):find("outside of a coroutine", 1, true))
  end)

  it("stops coroutines that nest without end", function()
    assert.truthy(failure("local function f() coroutine.wrap(f)() end f()"):find("nested too deep", 1, true))
  end)

  it("has pcall and xpcall that give what the stock ones give", function()
    assert.same({ false, "plugins/spec.lua:1: x" }, { run("return pcall(function() error('x') end)") })
    assert.same({ true, 1, nil, 3 }, { run("return pcall(function() return 1, nil, 3 end)") })
    assert.same({ false, "handled: x" }, { run("return xpcall(function() error('x', 0) end, function(e) return 'handled: ' .. e end)") })
    assert.same({ true, 5 }, { run("return xpcall(function(a) return a end, print, 5)") })
  end)

  it("bounds table functions and keeps their meaning", function()
    assert.same({ 2, 3, 3 }, run("return table.move({1, 2, 3}, 2, 3, 1)"))
    assert.same({ 1, 1, 2 }, run("return table.move({1, 2, 3}, 1, 2, 2)"))
    assert.same({ 1, 2 }, run("return table.move({1, 2}, 1, 2, 1, {})"))
    assert.same({ 9, 1, 2 }, run("local t = {1, 2} table.insert(t, 1, 9) return t"))
    assert.truthy(failure("table.insert({}, -5, 1)"):find("out of bounds", 1, true))
    local sorted = run("local t = {} for i = 1, 30000 do t[i] = (i * 7919) % 30011 end table.sort(t) return t")
    for i = 2, #sorted do assert.is_true(sorted[i - 1] <= sorted[i]) end
  end)
end)
