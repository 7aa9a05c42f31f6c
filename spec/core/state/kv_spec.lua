local ffi = require("support.cdef")("base/buf.h", "base/str.h")

ffi.cdef [[
  typedef struct mw_kv mw_kv;
  typedef struct mw_kv_stats { size_t count, bytes; uint64_t evicted; } mw_kv_stats;
  mw_kv *mw_kv_new(size_t max_bytes);
  void mw_kv_free(mw_kv *kv);
  bool mw_kv_get(mw_kv *kv, mw_str key, mw_buf *out, int64_t now_ms);
  int mw_kv_set(mw_kv *kv, mw_str key, mw_str value, int64_t ttl_ms, int when, int64_t now_ms);
  bool mw_kv_remove(mw_kv *kv, mw_str key, int64_t now_ms);
  int mw_kv_add(mw_kv *kv, mw_str key, int64_t by, int64_t ttl_ms, int64_t *sum, int64_t now_ms);
  void mw_kv_stats_get(mw_kv *kv, mw_kv_stats *stats);
]]

local C = ffi.C
local EEXISTS, EINVALID, ELIMIT = -20005, -20000, -20003

describe("kv", function()
  local kv

  local function str(text) return ffi.new("mw_str", text, #text) end
  local function set(key, value, ttl, when, now) return C.mw_kv_set(kv, str(key), str(value), ttl or 0, when or 0, now or 0) end
  local function get(key, now)
    local out = ffi.new("mw_buf")
    local found = C.mw_kv_get(kv, str(key), out, now or 0)
    local text = found and ffi.string(out.ptr, out.len) or nil
    C.mw_buf_deinit(out)
    return text
  end
  local function add(key, by, ttl, now)
    local sum = ffi.new("int64_t[1]")
    local rc = C.mw_kv_add(kv, str(key), by, ttl or 0, sum, now or 0)
    return rc, tonumber(sum[0])
  end
  local function stats()
    local s = ffi.new("mw_kv_stats")
    C.mw_kv_stats_get(kv, s)
    return { count = tonumber(s.count), bytes = tonumber(s.bytes), evicted = tonumber(s.evicted) }
  end

  before_each(function() kv = C.mw_kv_new(1024 * 1024) end)
  after_each(function() C.mw_kv_free(kv) end)

  it("returns what was set, and nothing for an absent key", function()
    set("a", "1")
    assert.equal("1", get("a"))
    assert.is_nil(get("b"))
  end)

  it("forgets a value when its time is over", function()
    set("a", "1", 100, 0, 1000)
    assert.equal("1", get("a", 1099))
    assert.is_nil(get("a", 1100))
    assert.equal(0, stats().count)
  end)

  it("sets only when absent if asked to", function()
    assert.equal(0, set("a", "1", 50, 1, 0))
    assert.equal(EEXISTS, set("a", "2", 50, 1, 10))
    assert.equal("1", get("a", 10))
    assert.equal(0, set("a", "3", 50, 1, 60))
  end)

  it("adds integers and keeps the first one's expiry", function()
    assert.same({ 0, 5 }, { add("n", 5, 100, 0) })
    assert.same({ 0, 7 }, { add("n", 2, 100, 90) })
    assert.same({ 0, 1 }, { add("n", 1, 100, 100) })
  end)

  it("refuses to add to what is no integer, and a sum that overflows", function()
    set("t", "x")
    assert.equal(EINVALID, (add("t", 1)))
    set("n", "9223372036854775807")
    assert.equal(EINVALID, (add("n", 1)))
    assert.equal("9223372036854775807", get("n"))
  end)

  it("stays within its bytes by dropping the oldest", function()
    local value = ("v"):rep(1000)
    for i = 1, 5000 do assert.equal(0, set("key" .. i, value)) end
    local s = stats()
    assert.is_true(s.bytes <= 1024 * 1024)
    assert.is_true(s.evicted > 3000)
    assert.equal(value, get("key5000"))
    assert.is_nil(get("key1"))
  end)

  it("refuses keys and values that are too large", function()
    assert.equal(ELIMIT, set(("k"):rep(1025), "1"))
    assert.equal(ELIMIT, set("k", ("v"):rep(100000)))
  end)

  it("counts nothing after everything was removed", function()
    for i = 1, 100 do set("k" .. i, "v") end
    for i = 1, 100 do assert.is_true(C.mw_kv_remove(kv, str("k" .. i), 0)) end
    assert.is_false(C.mw_kv_remove(kv, str("k1"), 0))
    assert.same({ count = 0, bytes = 0, evicted = 0 }, stats())
  end)
end)
