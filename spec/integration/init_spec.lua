-- SPDX-License-Identifier: MIT
local posix = require "support.posix"
local server = require "support.server"

describe("moonwatch init", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  local FILES = { "moonwatch.lua", "plugins/hello.lua", "spec/hello_spec.lua", "migrations/README.md", ".luarc.json", ".gitignore", ".moonwatch/types/mw.lua", ".moonwatch/types/mw/testing.lua" }

  it("writes a project", function()
    assert.equal(0, (server.command({ "init", "shop" }, { dir = dir })))
    for _, name in ipairs(FILES) do assert.is_string(posix.read_file(dir .. "/shop/" .. name), name) end
  end)

  it("never overwrites a file", function()
    posix.write_file(dir .. "/plugins/hello.lua", "-- mine")
    local code, text = server.command({ "init" }, { dir = dir })
    assert.equal(0, code)
    assert.equal("-- mine", posix.read_file(dir .. "/plugins/hello.lua"))
    assert.matches("kept  ./plugins/hello.lua", text, 1, true)
    assert.is_string(posix.read_file(dir .. "/moonwatch.lua"))
  end)

  it("does not follow a link that is in the way", function()
    posix.write_file(dir .. "/outside", "precious")
    os.execute(("ln -s ../outside '%s/target' && mkdir -p '%s/p' && ln -s ../outside '%s/p/moonwatch.lua'"):format(dir, dir, dir))
    server.command({ "init", "p" }, { dir = dir })
    assert.equal("precious", posix.read_file(dir .. "/outside"))
  end)

  it("says which file it could not write", function()
    posix.write_file(dir .. "/plugins", "a file where a folder should be")
    local code, text = server.command({ "init" }, { dir = dir })
    assert.equal(1, code)
    assert.matches("plugins/hello.lua", text, 1, true)
  end)

  it("writes a project whose configuration, plugins and specs are good", function()
    server.command({ "init" }, { dir = dir })
    local code, text = server.command({ "config", "--origin" }, { dir = dir })
    assert.equal(0, code, text)
    code, text = server.command({ "check" }, { dir = dir })
    assert.equal(0, code, text)
    code, text = server.command({ "test" }, { dir = dir })
    assert.equal(0, code, text)
    assert.matches("2 successes", text, 1, true)
  end)

  it("writes a plugin that serves what its comment shows", function()
    server.command({ "init" }, { dir = dir })
    local s = server.start { plugins = { ["hello.lua"] = posix.read_file(dir .. "/plugins/hello.lua") }, args = { "--workers", "1" } }
    assert.equal("Ada", s:get("/hello?name=Ada").json().hello)
    local answer = s:post("/greetings", { json = { name = "Ada" } })
    assert.equal(202, answer.status)
    local id = answer.json().executionId
    s:wait(function() return s:get("/api/v1/executions/" .. id).json().status == "completed" end, 10, "completion")
    s:stop()
  end)
end)
