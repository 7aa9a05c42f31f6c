-- SPDX-License-Identifier: MIT
local cdef = require "support.cdef"
local ffi = cdef("base/world.h", "base/id.h", "base/clock.h", "base/rand.h")
local C = ffi.C

describe("world", function()
  local function world(seed) return ffi.new("mw_world", { wall_us = 1767225600000000, mono_ns = 5, rand_state = seed }) end

  local function within(w, fn)
    local before = C.mw_world_use(w)
    local ok, value = pcall(fn)
    C.mw_world_use(before)
    if not ok then error(value, 0) end
    return value
  end

  local function id()
    local text, made = ffi.new("char[37]"), C.mw_id_new()
    C.mw_id_format(made, text)
    return ffi.string(text)
  end

  it("has clocks that stand still until they are moved", function()
    local w = world(1)
    within(w, function()
      assert.equal(1767225600000000, tonumber(C.mw_clock_wall_us()))
      assert.equal(5, tonumber(C.mw_clock_mono_ns()))
      w.wall_us, w.mono_ns = w.wall_us + 7, 12
      assert.equal(1767225600000007, tonumber(C.mw_clock_wall_us()))
      assert.equal(12, tonumber(C.mw_clock_mono_ns()))
    end)
    assert.is_true(tonumber(C.mw_clock_mono_ns()) > 12)
  end)

  it("draws the same numbers, bytes and ids from the same seed, whatever happens outside", function()
    local function draw()
      local bytes = ffi.new("char[11]")
      C.mw_rand_bytes(bytes, 11)
      return { tostring(C.mw_rand_u64()), ffi.string(bytes, 11), id(), id() }
    end
    local one = within(world(7), draw)
    id()
    C.mw_rand_u64()
    assert.same(one, within(world(7), draw))
    assert.are_not.same(one, within(world(8), draw))
    assert.is_true(one[4] > one[3])
    assert.equal("019b76da-a800", one[3]:sub(1, 13)) -- of its own clock
  end)
end)
