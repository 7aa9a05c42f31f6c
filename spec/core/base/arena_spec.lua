-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/arena.h", "base/alloc.h", "base/map.h")
local C = ffi.C

local function address(pointer) return tonumber(ffi.cast("uintptr_t", pointer)) end

describe("arena", function()
  local arena
  before_each(function()
    arena = ffi.new("mw_arena")
    C.mw_arena_init(arena)
  end)
  after_each(function() C.mw_arena_deinit(arena) end)

  it("hands out aligned pieces that do not overlap", function()
    math.randomseed(9)
    local pieces = {}
    for i = 1, 500 do
      local size = math.random(0, 9000)
      local piece = ffi.cast("uint8_t *", C.mw_arena_alloc(arena, size))
      assert.equal(0, address(piece) % 16)
      ffi.fill(piece, size, i % 256)
      pieces[i] = { piece, size }
    end
    for i, piece in ipairs(pieces) do
      assert.equal((string.char(i % 256)):rep(piece[2]), ffi.string(piece[1], piece[2]))
    end
  end)

  it("counts what was handed out and forgets it at a reset", function()
    C.mw_arena_alloc(arena, 1)
    C.mw_arena_alloc(arena, 17)
    assert.equal(48, tonumber(arena.used_bytes))
    C.mw_arena_reset(arena)
    assert.equal(0, tonumber(arena.used_bytes))
  end)

  it("uses its first block again after a reset", function()
    local first = address(C.mw_arena_alloc(arena, 100))
    for _ = 1, 20 do C.mw_arena_alloc(arena, 3000) end
    C.mw_arena_reset(arena)
    assert.equal(first, address(C.mw_arena_alloc(arena, 100)))
  end)

  it("gives zeroed memory and zero-terminated copies", function()
    local dirty = C.mw_arena_alloc(arena, 64)
    ffi.fill(dirty, 64, 255)
    C.mw_arena_reset(arena)
    assert.equal(("\0"):rep(64), ffi.string(C.mw_arena_calloc(arena, 64), 64))
    assert.equal("abc", ffi.string(C.mw_arena_strndup(arena, "abcdef", 3)))
    assert.equal("", ffi.string(C.mw_arena_strndup(arena, nil, 0)))
  end)

  it("runs cleanups at reset and at deinit, once", function()
    -- A C function stands in for a cleanup: it empties a map.
    local map = ffi.new("mw_map")
    local function fill()
      C.mw_map_set(map, ffi.new("mw_str", { "a", 1 }), ffi.cast("void *", 1))
      C.mw_arena_on_reset(arena, ffi.cast("mw_arena_cb", C.mw_map_deinit), map)
    end
    fill()
    C.mw_arena_reset(arena)
    assert.equal(0, tonumber(map.count))
    C.mw_map_set(map, ffi.new("mw_str", { "a", 1 }), ffi.cast("void *", 1))
    C.mw_arena_reset(arena)
    assert.equal(1, tonumber(map.count))
    C.mw_arena_on_reset(arena, ffi.cast("mw_arena_cb", C.mw_map_deinit), map)
    C.mw_arena_deinit(arena)
    assert.equal(0, tonumber(map.count))
  end)
end)
