-- SPDX-License-Identifier: MIT
-- script/package: the archive and the .deb, installed and started.

local posix = require "support.posix"
local server = require "support.server"

local preset = os.getenv("MW_TEST_PRESET")
if preset and preset ~= "dev" then return end -- the packages are the same for every build

local build = posix.link("/proc/self/exe"):match("^(.*)/[^/]+$")

local function run(command)
  local pipe = io.popen(command .. " 2>&1; echo code $?")
  local said = pipe:read("*a")
  pipe:close()
  return tonumber(said:match("code (%d+)%s*$")), said
end

local function must(command)
  local code, said = run(command)
  assert.equal(0, code, command .. "\n" .. said)
  return said
end

describe("script/package", function()
  local dir, tar, deb
  setup(function()
    dir = posix.temp_dir()
    must(("script/package --build '%s' --out %s/one"):format(build, dir))
    tar = must("ls " .. dir .. "/one/moonwatch-*-*[0-9].tar.gz"):match("%S+")
    deb = must("ls " .. dir .. "/one/*.deb"):match("%S+")
  end)
  teardown(function() posix.remove_dir(dir) end)

  it("gives the same bytes again", function()
    must(("script/package --build '%s' --out %s/two"):format(build, dir))
    must(("diff -r %s/one %s/two"):format(dir, dir))
  end)

  it("makes an archive whose program serves with its own configuration", function()
    must(("mkdir %s/unpacked && tar xzf %s -C %s/unpacked --strip-components=1"):format(dir, tar, dir))
    local root = dir .. "/unpacked"
    for _, path in ipairs { "lib/systemd/system/moonwatch.service", "usr/share/doc/moonwatch/copyright",
      "usr/share/doc/moonwatch/operation.md", "usr/share/bash-completion/completions/moonwatch" } do
      assert.is_string(posix.read_file(root .. "/" .. path), path)
    end
    local s = server.start {
      program = root .. "/usr/bin/moonwatch", config = posix.read_file(root .. "/etc/moonwatch/moonwatch.lua"), supervised = true,
      plugins = { ["hello.lua"] = posix.read_file(root .. "/usr/share/doc/moonwatch/examples/hello.lua") },
    }
    assert.equal(200, s:get("/livez").status)
    assert.equal(root .. "/usr/bin/moonwatch", posix.link("/proc/" .. s.pid .. "/exe"))
    s:stop()
  end)

  it("makes a .deb that installs, upgrades, keeps data when it is removed and deletes them when it is purged", function()
    if not must("id -u"):match("^0") then return pending("needs root") end
    local root = dir .. "/system"
    must(("mkdir -p %s/var/lib/dpkg/info %s/var/lib/dpkg/updates %s/etc && cd %s && touch var/lib/dpkg/status etc/passwd etc/group etc/shadow etc/gshadow")
      :format(root, root, root, root))
    local dpkg = ("dpkg --root=%s --log=/dev/null --force-script-chrootless --force-depends "):format(root)
    must(dpkg .. "-i " .. deb)
    assert.matches("moonwatch:.*/var/lib/moonwatch:/usr/sbin/nologin", posix.read_file(root .. "/etc/passwd"))
    local owner = must(("stat -c '%%u %%a' %s/var/lib/moonwatch"):format(root))
    assert.equal(posix.read_file(root .. "/etc/passwd"):match("moonwatch:[^:]*:(%d+)") .. " 700", owner:match("^%d+ %d+"))

    local s = server.start { program = root .. "/usr/bin/moonwatch", plugins = { ["p.lua"] = "" }, supervised = true }
    posix.write_file(root .. "/etc/moonwatch/moonwatch.lua", "return { workers = 1 } -- mine\n")
    posix.write_file(root .. "/var/lib/moonwatch/moonwatch.db", "data")
    must(dpkg .. "--force-confold -i " .. deb) -- the file below the running program is replaced
    assert.matches("mine", posix.read_file(root .. "/etc/moonwatch/moonwatch.lua"), 1, true)
    s:kill(posix.SIGUSR2) -- as postinst does where systemd runs
    s:wait_log("the swap is done", 15)
    assert.equal(root .. "/usr/bin/moonwatch", posix.link("/proc/" .. s.pid .. "/exe"))
    s:stop()

    must(dpkg .. "-r moonwatch")
    assert.equal("data", posix.read_file(root .. "/var/lib/moonwatch/moonwatch.db"))
    assert.is_string(posix.read_file(root .. "/etc/moonwatch/moonwatch.lua"))
    must(dpkg .. "-P moonwatch")
    assert.is_nil(posix.read_file(root .. "/var/lib/moonwatch/moonwatch.db"))
    assert.is_nil(posix.read_file(root .. "/etc/moonwatch/moonwatch.lua"))
    assert.is_nil(posix.read_file(root .. "/etc/passwd"):match("moonwatch"))
  end)

  it("says what every library is called that the program needs", function()
    local depends = must("dpkg-deb -f " .. deb .. " Depends")
    for _, library in ipairs { "libc6", "libluajit", "libuv1", "libssl3", "libsqlite3%-0" } do assert.matches(library, depends) end
  end)
end)
