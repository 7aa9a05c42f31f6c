-- SPDX-License-Identifier: MIT
local posix = require "support.posix"

local function write_program(path, text)
  posix.write_file(path, "#!/bin/sh\n" .. text .. "\n")
  os.execute("chmod 755 '" .. path .. "'")
end

describe("script/setup", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  -- Runs it with stand-ins for programs: a folder in front of PATH.
  local function run(programs, arg)
    for name, text in pairs(programs) do write_program(dir .. "/bin/" .. name, text) end
    local pipe = io.popen(("PATH='%s/bin':$PATH ./script/setup %s 2>&1 </dev/null; echo exit $?"):format(dir, arg or ""))
    local text = pipe:read("*a")
    pipe:close()
    return tonumber(text:match("exit (%d+)\n$")), text
  end

  local nothing_installed = "exit 1"
  local all_installed = 'shift 2; for p in "$@"; do printf "%s/installed " "$p"; done'
  local touched = "echo apt-get was called; exit 1"

  it("does nothing when all is there", function()
    local code, text = run { ["dpkg-query"] = all_installed, ["apt-get"] = touched }
    assert.equal(0, code, text)
    assert.equal("exit 0\n", text)
  end)

  it("prints the apt line and stops without root and sudo", function()
    local code, text = run { ["dpkg-query"] = nothing_installed, ["apt-get"] = touched, id = "echo 1000", sudo = "exit 1" }
    assert.equal(1, code)
    assert.matches("apt%-get update && apt%-get install %-y %-%-no%-install%-recommends build%-essential cmake", text)
    assert.matches("lua-busted", text, 1, true)
    assert.is_nil(text:find("apt-get was called", 1, true))
  end)

  it("asks only for what building needs when told so", function()
    local _, text = run({ ["dpkg-query"] = nothing_installed, ["apt-get"] = touched, id = "echo 1000", sudo = "exit 1" }, "build")
    assert.matches("libluajit2-5.1-dev", text, 1, true)
    assert.is_nil(text:find("lua-busted", 1, true))
  end)

  it("installs only what is missing, by sudo when there is one", function()
    local code, text = run({
      ["dpkg-query"] = all_installed:gsub('"%$p"; done', '"$p"; done | sed "s|cmake/installed||"'), id = "echo 1000",
      sudo = 'case "$*" in true | "-n true") exit 0;; *env*install*) shift 2; echo "$@" >>' .. dir .. '/asked;; esac; cat >/dev/null',
    }, "build")
    assert.equal(0, code, text)
    assert.matches("install %-y %-q %-%-no%-install%-recommends cmake\n", posix.read_file(dir .. "/asked"))
  end)
end)
