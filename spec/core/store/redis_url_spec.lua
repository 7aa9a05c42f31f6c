-- SPDX-License-Identifier: MIT
local ffi = require "support.cdef"("store/redis_url.h")
local C = ffi.C

local function text_of(ptr) if ptr == nil then return nil end return ffi.string(ptr) end

local function parse(url)
  local out, err = ffi.new("mw_redis_target *[1]"), ffi.new("mw_err")
  if C.mw_redis_target_new(ffi.new("mw_str", { url, #url }), out, err) ~= 0 then return nil, ffi.string(err.text) end
  local t = out[0]
  local target = { host = text_of(t.host), path = text_of(t.path), user = text_of(t.user), password = text_of(t.password), port = t.port, db = t.db,
    tls = t.is_tls, shown = ffi.string(t.shown) }
  C.mw_redis_target_free(t)
  return target
end

describe("a Redis URL", function()
  it("has a host, and defaults for the rest", function()
    assert.same({ host = "cache", port = 6379, db = 0, tls = false, shown = "cache:6379" }, parse "redis://cache")
    assert.same({ host = "10.0.0.1", port = 7000, db = 3, tls = true, shown = "10.0.0.1:7000" }, parse "rediss://10.0.0.1:7000/3")
    assert.same({ host = "::1", port = 7000, db = 2, tls = false, shown = "[::1]:7000" }, parse "redis://[::1]:7000?db=2")
    assert.same({ host = "h", port = 6379, db = 0, tls = false, shown = "h:6379" }, parse "redis://h/")
  end)

  it("has user and password, percent-encoded", function()
    local t = parse "redis://ann:p%40ss%3A%2F@h"
    assert.same({ "ann", "p@ss:/" }, { t.user, t.password })
    t = parse "redis://:only@h"
    assert.same({ nil, "only" }, { t.user, t.password })
    assert.equal("with@at", parse("redis://u:with@at@h").password)
  end)

  it("names a Unix socket", function()
    assert.same({ path = "/run/r.sock", port = 0, db = 4, tls = false, shown = "unix:/run/r.sock" }, parse "unix:///run/r.sock?db=4")
    assert.equal("pw", parse("unix://u:pw@/run/r.sock").password)
  end)

  local refused = {
    "", "localhost", "http://h", "redis://", "redis://h:0", "redis://h:65536", "redis://h:x", "redis://h/x", "redis://h/-1", "redis://h?tls=1",
    "redis://h?db=70000", "redis://user@h", "redis://u:%zz@h", "redis://u:%0@h", "redis://u:%00@h", "redis://[::1", "redis://[::1]x", "redis://h h",
    "redis://h\0x", "unix://relative", "unix:///" .. ("x"):rep(200), "redis://" .. ("x"):rep(300),
  }
  it("is refused when malformed, without being shown", function()
    for _, url in ipairs(refused) do
      local target, why = parse(url)
      assert.is_nil(target, url)
      assert.is_true(#why > 10, url)
    end
    local _, why = parse "redis://user:hidden@h:99999"
    assert.is_nil(why:find("hidden", 1, true))
  end)
end)
