-- SPDX-License-Identifier: MIT
-- Completion as bash asks for it: the script is sourced, its function is called with COMP_WORDS as bash fills them.

local ffi = require "ffi"
local posix = require "support.posix"
local server = require "support.server"

describe("completion in bash", function()
  local exe = io.popen("readlink /proc/" .. ffi.C.getpid() .. "/exe"):read "*l"
  local dir
  setup(function()
    dir = posix.temp_dir()
    posix.make_dirs(dir .. "/backups")
    posix.write_file(dir .. "/moonwatch.lua", "return {}")
    os.execute(("ln -s %s %s/moonwatch"):format(exe, dir))
  end)
  teardown(function() posix.remove_dir(dir) end)

  -- The words bash would offer after "moonwatch a b", as a set.
  local function offered(...)
    local words = {}
    for i, word in ipairs { ... } do words[i] = "'" .. word .. "'" end
    posix.write_file(dir .. "/try.sh", ([[
source <(./moonwatch completion bash) || exit 1
complete -p moonwatch >/dev/null || exit 1
COMP_WORDS=(./moonwatch %s)
COMP_CWORD=%d
_moonwatch
printf '%%s\n' "${COMPREPLY[@]}"
]]):format(table.concat(words, " "), #words))
    local pipe = assert(io.popen("cd " .. dir .. " && bash try.sh 2>&1"))
    local set = {}
    for line in pipe:lines() do set[line] = true end
    pipe:close()
    return set
  end

  it("offers commands, and no hidden ones", function()
    local set = offered ""
    assert.is_true(set.serve and set.keys and set.backup and set.completion)
    assert.is_nil(set.__complete)
    assert.same({ types = true }, offered "ty")
    assert.is_true(offered("help", "mi").migrate)
  end)

  it("offers what a command can be asked to do", function()
    assert.same({ create = true, list = true, revoke = true }, offered("keys", ""))
    assert.same({ webhook = true, workflow = true }, offered("new", "w"))
    assert.same({ bash = true, zsh = true, fish = true }, offered("completion", ""))
  end)

  it("offers flags, those of the configuration too, and the values they take", function()
    assert.is_true(offered("keys", "create", "x", "--sc")["--scope"])
    assert.is_true(offered("serve", "--lis")["--listen-app"])
    assert.is_true(offered("serve", "--data", "")["backups"])
    assert.is_true(offered("serve", "--data", "=", "ba")["backups"])
    assert.is_true(offered("serve", "--config", "moon")["moonwatch.lua"])
  end)

  it("offers files and folders where a command takes those", function()
    assert.is_true(offered("types", "ba").backups)
    assert.is_nil(offered("types", "")["moonwatch.lua"])
    assert.is_true(offered("restore", "moon")["moonwatch.lua"])
  end)

  it("offers nothing where there is nothing", function()
    assert.same({ [""] = true }, offered("nosuch", ""))
    assert.same({ [""] = true }, offered("version", ""))
  end)

  it("prints a script for each shell, and says which there are", function()
    for _, shell in ipairs { "bash", "zsh", "fish" } do
      local code, text = server.command { "completion", shell }
      assert.equal(0, code)
      assert.matches("__complete", text, 1, true)
    end
    local code, text = server.command { "completion", "powershell" }
    assert.equal(2, code)
    assert.matches("bash, zsh or fish", text, 1, true)
  end)
end)
