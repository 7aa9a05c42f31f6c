-- SPDX-License-Identifier: MIT

local ffi = require("support.cdef")("ops/cidr.h", "base/err.h")
local C = ffi.C

local function str(text) return ffi.new("mw_str", text, #text) end

local function parse(text)
  local ip = ffi.new("mw_ip")
  return C.mw_ip_parse(str(text), ip) and ip or nil
end

local function shown(text)
  local ip = parse(text)
  if not ip then return nil end
  local room = ffi.new("char[46]")
  return ffi.string(room, C.mw_ip_format(ip, room))
end

local function set(...)
  local s = ffi.gc(ffi.new("mw_cidr_set"), C.mw_cidr_set_deinit)
  C.mw_cidr_set_init(s)
  for _, text in ipairs { ... } do assert.equal(0, C.mw_cidr_set_add(s, str(text), nil), text) end
  return s
end

local function has(s, text) return C.mw_cidr_set_has(s, (assert(parse(text), text))) end

local function refusal(text)
  local s, err = set(), ffi.new("mw_err")
  assert.not_equal(0, C.mw_cidr_set_add(s, str(text), err), text)
  return ffi.string(err.text)
end

describe("an IP address", function()
  it("is read in both families and shown in its shortest form", function()
    assert.equal("10.1.2.3", shown "10.1.2.3")
    assert.equal("2001:db8::1", shown "2001:0DB8:0:0:0:0:0:1")
    assert.equal("::1", shown "[::1]")
    assert.equal("10.1.2.3", shown "::ffff:10.1.2.3")
  end)
  it("is nothing else", function()
    for _, text in ipairs { "", " ", "10.1.2", "10.1.2.3.4", "10.1.2.256", "010.1.2.3", "10.1.2.3:80", "[10.1.2.3]", "::1%lo", "[::1", "localhost",
      "10.1.2.3\0", "unknown", ("1"):rep(200), "::1::" } do
      assert.is_nil(shown(text), text)
    end
  end)
  it("is loopback in 127.0.0.0/8 and as ::1, also when it is mapped", function()
    for _, text in ipairs { "127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1" } do assert.is_true(C.mw_ip_is_loopback(parse(text)), text) end
    for _, text in ipairs { "128.0.0.1", "::2", "::", "::127.0.0.1", "0.0.0.0" } do assert.is_false(C.mw_ip_is_loopback(parse(text)), text) end
  end)
end)

describe("a set of networks", function()
  it("has what lies in a network, to the edges", function()
    local s = set("10.0.0.0/8", "192.168.4.0/22", "2001:db8::/33")
    for _, text in ipairs { "10.0.0.0", "10.255.255.255", "::ffff:10.1.1.1", "192.168.4.0", "192.168.7.255", "2001:db8::", "2001:db8:7fff:ffff::1" } do
      assert.is_true(has(s, text), text)
    end
    for _, text in ipairs { "9.255.255.255", "11.0.0.0", "192.168.3.255", "192.168.8.0", "2001:db8:8000::", "2001:db7:ffff::1", "::10.0.0.1" } do
      assert.is_false(has(s, text), text)
    end
  end)
  it("takes single addresses, and everything", function()
    local s = set("192.0.2.7", "::1")
    assert.is_true(has(s, "192.0.2.7"))
    assert.is_false(has(s, "192.0.2.8"))
    assert.is_true(has(s, "::1"))
    assert.is_true(has(set "0.0.0.0/0", "203.0.113.9"))
    assert.is_false(has(set "0.0.0.0/0", "2001:db8::1"))
    assert.is_true(has(set "::/0", "203.0.113.9"))
  end)
  it("is empty at first", function() assert.is_false(has(set(), "127.0.0.1")) end)
  it("merges networks that overlap, in any order of adding", function()
    local s = set("10.2.0.0/16", "10.0.0.0/16", "10.4.0.0/16", "10.0.0.0/8", "10.9.9.9")
    assert.equal(1, tonumber(s.count))
    assert.is_true(has(s, "10.77.0.1"))
  end)
  it("agrees with a plain comparison over many networks", function()
    local s, list = set(), {}
    math.randomseed(7)
    for i = 1, 200 do
      local bits = math.random(12, 32)
      local value = math.random(0, 2 ^ 24 - 1) * 256
      value = value - value % 2 ^ (32 - bits)
      list[i] = { value, value + 2 ^ (32 - bits) - 1 }
      local text = ("%d.%d.%d.%d/%d"):format(math.floor(value / 2 ^ 24), math.floor(value / 2 ^ 16) % 256, math.floor(value / 256) % 256, value % 256, bits)
      assert.equal(0, C.mw_cidr_set_add(s, str(text), nil), text)
    end
    for _ = 1, 5000 do
      local value = math.random(0, 2 ^ 31 - 1) * 2
      local expected = false
      for _, range in ipairs(list) do expected = expected or (value >= range[1] and value <= range[2]) end
      local text = ("%d.%d.%d.%d"):format(math.floor(value / 2 ^ 24), math.floor(value / 2 ^ 16) % 256, math.floor(value / 256) % 256, value % 256)
      assert.equal(expected, has(s, text), text)
    end
  end)
  it("refuses what is no network and says what would be one", function()
    assert.matches("is no address or network; write 10.0.0.0/8", refusal "ten", 1, true)
    assert.matches("needs a prefix of 0 to 32 bits", refusal "10.0.0.0/33", 1, true)
    assert.matches("needs a prefix of 0 to 128 bits", refusal "::/129", 1, true)
    assert.matches("needs a prefix", refusal "10.0.0.0/", 1, true)
    assert.matches("has bits beyond its prefix; the network is 10.0.0.0/8", refusal "10.1.2.3/8", 1, true)
  end)
end)
