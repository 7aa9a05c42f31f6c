-- SPDX-License-Identifier: MIT
local posix = require "support.posix"
local server = require "support.server"

describe("the command line", function()
  it("lists its commands without arguments and exits 2", function()
    local code, text = server.command {}
    assert.equal(2, code)
    for _, name in ipairs { "init", "serve", "check", "reload", "trigger", "migrate", "config", "test", "version", "help" } do
      assert.matches("\n  " .. name .. " ", text)
    end
    assert.is_nil(text:find("__serve", 1, true))
  end)

  it("explains each command with help NAME and with --help", function()
    for _, name in ipairs { "init", "serve", "check", "reload", "trigger", "migrate", "config", "version", "help" } do
      local code, text = server.command { "help", name }
      assert.equal(0, code)
      assert.matches("Usage: moonwatch " .. name, text, 1, true)
      local again, same = server.command { name, "--help" }
      assert.equal(0, again)
      assert.equal(text, same)
    end
  end)

  it("suggests the command that was meant", function()
    local code, text = server.command { "relaod" }
    assert.equal(2, code)
    assert.matches("did you mean 'reload'?", text, 1, true)
  end)

  it("suggests the flag that was meant", function()
    local code, text = server.command { "serve", "--databse", "x" }
    assert.equal(2, code)
    assert.matches("did you mean --database?", text, 1, true)
  end)

  it("suggests nothing for what resembles nothing", function()
    local code, text = server.command { "qqqqqqqqqq" }
    assert.equal(2, code)
    assert.is_nil(text:find("did you mean", 1, true))
  end)

  it("says which value a flag lacks", function()
    local code, text = server.command { "serve", "--listen" }
    assert.equal(2, code)
    assert.matches("--listen needs a value: --listen ADDR", text, 1, true)
  end)

  it("refuses a value for a flag that takes none, an argument too many and one too few", function()
    assert.equal(2, (server.command { "config", "--json=yes" }))
    assert.equal(2, (server.command { "version", "now" }))
    assert.equal(2, (server.command { "trigger" }))
  end)

  it("takes flags as --name=value and arguments after --", function()
    local code, text = server.command { "config", "--listen=127.0.0.1:1234", "--" }
    assert.equal(0, code)
    assert.matches("listen%s+127.0.0.1:1234", text)
  end)

  it("exits 3 and says where it looked when no server answers", function()
    local dir = posix.temp_dir()
    local code, text = server.command({ "reload", "--data", dir }, {})
    assert.equal(3, code)
    assert.matches(dir .. "/moonwatch.sock", text, 1, true)
    code, text = server.command({ "trigger", "x" }, { env = { MOONWATCH_URL = "http://127.0.0.1:1" } })
    assert.equal(3, code)
    assert.matches("http://127.0.0.1:1", text, 1, true)
    posix.remove_dir(dir)
  end)

  it("checks the input of trigger before it looks for a server", function()
    local code, text = server.command { "trigger", "x", "{nope" }
    assert.equal(2, code)
    assert.matches("line 1, column 2", text, 1, true)
  end)

  it("says what migrate takes", function()
    local code, text = server.command { "migrate", "sideways" }
    assert.equal(2, code)
    assert.matches("up, down or status", text, 1, true)
  end)
end)

describe("moonwatch test", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  local function run(text)
    posix.write_file(dir .. "/spec/x_spec.lua", text)
    return server.command({ "test" }, { dir = dir })
  end

  it("exits 0 when all specs pass", function() assert.equal(0, (run "it('passes', function() end)")) end)
  it("exits 1 when one fails", function() assert.equal(1, (run "it('fails', function() error('no') end)")) end)
  it("exits 1 when a file does not load", function() assert.equal(1, (run "this is not lua")) end)
  it("sees the C functions of the program", function()
    assert.equal(0, (run [[
      local ffi = require "ffi"
      ffi.cdef "int64_t mw_clock_wall_us(void);"
      it("runs", function() assert.is_true(ffi.C.mw_clock_wall_us() > 0) end)
    ]]))
  end)
end)

describe("commands about a running server", function()
  local s
  setup(function()
    s = server.start {
      plugins = { ["w.lua"] = [[
        local mw = require "mw"
        mw.workflow("greet", { { name = "say", run = function(ctx) return "hi " .. ctx.input.name end } })
        mw.get("/hi", function(_, res) res:text("hi") end)
      ]] },
      args = { "--workers", "1", "--token", "secret-token" },
    }
  end)
  teardown(function()
    if s then s:stop() end
  end)

  local function at_url(token, ...)
    return server.command({ ... }, { env = { MOONWATCH_URL = "http://127.0.0.1:" .. s.port, MOONWATCH_TOKEN = token } })
  end

  it("trigger prints the id of an execution that then completes", function()
    local code, id = s:command("trigger", "greet", '{"name":"Ada"}')
    assert.equal(0, code, id)
    id = id:match("^(%x+%-%x+%-%x+%-%x+%-%x+)\n$")
    assert.is_string(id)
    s:wait(function() return s:control("GET", "/api/v1/executions/" .. id).json().status == "completed" end, 10, "completion")
    assert.equal("hi Ada", s:control("GET", "/api/v1/executions/" .. id).json().output)
  end)

  it("trigger with the same key starts one execution", function()
    local _, first = s:command("trigger", "greet", '{"name":"B"}', "--key", "k1")
    local _, second = s:command("trigger", "greet", '{"name":"B"}', "--key", "k1")
    assert.equal(first, second)
  end)

  it("trigger of an unknown workflow exits 1 and says so", function()
    local code, text = s:command("trigger", "absent")
    assert.equal(1, code)
    assert.matches("workflow not found: absent", text, 1, true)
  end)

  it("reload prints the generation that serves", function()
    local code, text = s:command("reload")
    assert.equal(0, code, text)
    assert.matches("^generation %d+ serves, 1 plugin\n$", text)
  end)

  it("reload exits 1 with file and line when a plugin does not load", function()
    s:write("bad.lua", "local x = = 1")
    local code, text = s:command("reload")
    s:remove("bad.lua")
    assert.equal(1, code)
    assert.matches("bad.lua", text, 1, true)
  end)

  it("reach it by --url with the token, and say what to do without", function()
    local code, text = at_url("secret-token", "trigger", "greet", '{"name":"C"}')
    assert.equal(0, code, text)
    code, text = at_url("wrong", "trigger", "greet", '{"name":"C"}')
    assert.equal(1, code)
    assert.matches("MOONWATCH_TOKEN", text, 1, true)
  end)

  it("use a control socket that only its owner can open", function()
    local mode = io.popen("stat -c %a '" .. s.data .. "/moonwatch.sock'"):read("*l")
    assert.equal("600", mode)
  end)
end)

describe("moonwatch check", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  it("exits 0, lists what is declared and changes nothing", function()
    posix.write_file(dir .. "/plugins/a.lua", 'require("mw").get("/a", function() end)')
    local code, text = server.command({ "check" }, { dir = dir })
    assert.equal(0, code, text)
    assert.matches("/a", text, 1, true)
    assert.is_nil(posix.read_file(dir .. "/data/moonwatch.db"))
  end)

  it("exits 1 when there is no plugins folder, and says what makes one", function()
    local code, text = server.command({ "check", "--plugins", dir .. "/absent" }, { dir = dir })
    assert.equal(1, code)
    assert.truthy(text:find("moonwatch init", 1, true), text)
  end)
  it("exits 1 with file and line when a plugin does not load", function()
    posix.write_file(dir .. "/plugins/a.lua", 'local x = 1\nerror("broken on purpose")')
    local code, text = server.command({ "check" }, { dir = dir })
    assert.equal(1, code)
    assert.matches("a.lua:2", text, 1, true)
    assert.matches("broken on purpose", text, 1, true)
  end)
end)

describe("moonwatch migrate", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  it("goes up, shows, and goes down again", function()
    local code, text = server.command({ "migrate", "up" }, { dir = dir })
    assert.equal(0, code, text)
    assert.matches("applied %d+ migration", text)
    code, text = server.command({ "migrate", "up" }, { dir = dir })
    assert.equal(0, code, text)
    assert.matches("up to date", text, 1, true)
    code, text = server.command({ "migrate", "status" }, { dir = dir })
    assert.equal(0, code, text)
    assert.matches("0001%s+first%s+applied", text)
    code, text = server.command({ "migrate", "down" }, { dir = dir })
    assert.equal(0, code, text)
    assert.matches("undid 1 migration", text, 1, true)
  end)
end)
