-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/map.h")
local C = ffi.C

local function str(text) return ffi.new("mw_str", { text, #text }) end
local function box(number) return ffi.cast("void *", number) end
local function unbox(pointer) return pointer ~= nil and tonumber(ffi.cast("intptr_t", pointer)) or nil end

describe("map", function()
  local map
  before_each(function()
    map = ffi.new("mw_map")
    C.mw_map_init(map)
  end)
  after_each(function() C.mw_map_deinit(map) end)

  local function entries()
    local index, key, value, all, count = ffi.new("size_t[1]", 0), ffi.new("mw_str"), ffi.new("void *[1]"), {}, 0
    while C.mw_map_next(map, index, key, value) do
      all[ffi.string(key.ptr, key.len)] = unbox(value[0])
      count = count + 1
    end
    return all, count
  end

  it("is empty at first", function()
    assert.is_nil(unbox(C.mw_map_get(map, str("a"))))
    assert.is_nil(unbox(C.mw_map_remove(map, str("a"))))
    assert.same({}, (entries()))
  end)

  it("replaces values and tells the old one", function()
    assert.is_nil(unbox(C.mw_map_set(map, str("a"), box(1))))
    assert.equal(1, unbox(C.mw_map_set(map, str("a"), box(2))))
    assert.equal(2, unbox(C.mw_map_get(map, str("a"))))
    assert.equal(1, tonumber(map.count))
  end)

  it("copies its keys and takes any bytes, also none", function()
    local key = ffi.new("char[3]", "abc")
    C.mw_map_set(map, ffi.new("mw_str", { key, 3 }), box(1))
    key[0] = 120
    assert.equal(1, unbox(C.mw_map_get(map, str("abc"))))
    C.mw_map_set(map, str(""), box(2))
    C.mw_map_set(map, str("\0"), box(3))
    C.mw_map_set(map, str("\0\0"), box(4))
    assert.same({ abc = 1, [""] = 2, ["\0"] = 3, ["\0\0"] = 4 }, (entries()))
  end)

  it("agrees with a Lua table over random changes", function()
    math.randomseed(5)
    local model, size = {}, 0
    for step = 1, 30000 do
      local key = "key" .. math.random(400)
      local before = model[key]
      if math.random() < 0.5 then
        assert.equal(before, unbox(C.mw_map_set(map, str(key), box(step))))
        if not before then size = size + 1 end
        model[key] = step
      else
        assert.equal(before, unbox(C.mw_map_remove(map, str(key))))
        if before then size = size - 1 end
        model[key] = nil
      end
      if step % 500 == 0 then
        local all, count = entries()
        assert.same(model, all)
        assert.equal(size, count)
      end
      assert.equal(size, tonumber(map.count))
    end
  end)
end)
