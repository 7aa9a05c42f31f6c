-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/beneath.h")
local posix = require "support.posix"

ffi.cdef [[ int close(int fd); ]]
local C = ffi.C
local NOT_FOUND, CONFIG = -20004, -20024

local function allows(path) return C.mw_beneath_allows(ffi.new("mw_str", path, #path)) end

describe("beneath", function()
  it("looks for plain relative paths only", function()
    for _, path in ipairs { "a", "a/b.txt", "a b", "ä/ö", "a..b/c.", ".well-known/acme-challenge/x", "a-/~", ("x"):rep(1024) } do assert.is_true(allows(path), path) end
    for _, path in ipairs {
      "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", ".git", "a/.env", "a/.well-known/b", ".well-known/.x", "...", "a\0b",
      "a\nb", "\127", ("x"):rep(1025),
    } do
      assert.is_false(allows(path), path)
    end
  end)

  for _, way in ipairs { { 0, "openat2" }, { 1, "an old kernel" } } do
    describe("with " .. way[2], function()
      local dir
      setup(function()
        dir = posix.temp_dir()
        posix.make_dirs(dir .. "/root/sub")
        posix.make_dirs(dir .. "/root2")
        posix.write_file(dir .. "/root/a.txt", "hello")
        posix.write_file(dir .. "/root/sub/b.txt", "b")
        posix.write_file(dir .. "/root/.hidden", "x")
        posix.write_file(dir .. "/secret", "s")
        posix.write_file(dir .. "/root2/secret", "s")
        os.execute(([[cd '%s/root' && ln -s a.txt inside && ln -s sub folder && ln -s ../secret out && ln -s /etc/passwd absolute && ln -s ../root2/secret out2 &&
          ln -s .. up && ln -s loop loop && ln -s /proc/self/cwd magic && ln -s /dev/zero device && mkfifo pipe && ln -s sub/../a.txt roundabout]]):format(dir))
      end)
      teardown(function() posix.remove_dir(dir) end)

      local function open(path, folder)
        local file = ffi.new("mw_beneath_file")
        local rc = C.mw_beneath_open(folder or dir .. "/root", ffi.new("mw_str", path, #path), way[1], file)
        if rc ~= 0 then
          assert.equal(-1, file.fd)
          return rc, file.is_folder
        end
        C.close(file.fd)
        return tonumber(file.size), tonumber(file.modified_ns) > 1e18, tonumber(file.inode) > 0
      end

      it("opens regular files, also by links that stay inside", function()
        assert.same({ 5, true, true }, { open("a.txt") })
        assert.equal(1, (open("sub/b.txt")))
        assert.equal(5, (open("inside")))
        assert.equal(1, (open("folder/b.txt")))
        assert.equal(5, (open("roundabout")))
      end)

      it("finds nothing that lies outside", function()
        for _, path in ipairs { "out", "out2", "absolute", "up/secret", "up/root2/secret", "magic/secret", "../secret", "/etc/passwd", "loop", "loop/x", ".hidden" } do
          assert.equal(NOT_FOUND, (open(path)), path)
        end
      end)

      it("finds nothing that is no regular file, and does not wait for it", function()
        for _, path in ipairs { "pipe", "device", "missing", "a.txt/b" } do assert.same({ NOT_FOUND, false }, { open(path) }, path) end
        assert.same({ NOT_FOUND, true }, { open("sub") })
        assert.same({ NOT_FOUND, true }, { open("folder") })
      end)

      it("tells a folder that is missing from a file that is", function()
        assert.equal(CONFIG, (open("a.txt", dir .. "/nowhere")))
        assert.equal(CONFIG, (open("a.txt", dir .. "/secret")))
      end)
    end)
  end
end)
