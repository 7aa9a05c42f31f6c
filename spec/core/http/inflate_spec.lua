-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/inflate.h")
local zlib = require "support.zlib"

local C = ffi.C
local MORE, PIECE, DONE, LIMIT = 0, 1, 2, -1
local codings = { gzip = 1, zlib = 2, raw = 2 }

-- Feeds the pieces; returns what came out, and how it ended: "done", "more", "limit" or the sentence.
local function read(format, pieces, max)
  local z = ffi.gc(C.mw_inflate_new(codings[format], max or 2 ^ 30), C.mw_inflate_free)
  local piece, why = ffi.new("mw_str"), ffi.new("const char *[1]")
  local out = {}
  for i = 1, #pieces do
    C.mw_inflate_feed(z, ffi.new("mw_str", pieces[i], #pieces[i]), i == #pieces)
    while true do
      local rc = tonumber(C.mw_inflate_next(z, piece, why))
      if rc == PIECE then
        assert(piece.len > 0 and piece.len <= 32768)
        out[#out + 1] = ffi.string(piece.ptr, piece.len)
      else
        assert(C.mw_inflate_is_hungry(z) == (rc == MORE))
        if rc == MORE then break end
        assert.equal(rc, tonumber(C.mw_inflate_next(z, piece, why))) -- and again the same
        return table.concat(out), rc == DONE and "done" or rc == LIMIT and "limit" or ffi.string(why[0])
      end
    end
  end
  return table.concat(out), "more"
end

local function bytes_of(text)
  local list = {}
  for i = 1, #text do list[i] = text:sub(i, i) end
  return list
end

local noise = {}
for i = 1, 3000 do noise[i] = string.char((i * 7919 + math.floor(i / 13) * 31) % 256) end
local texts = { "", "a", ("hello, "):rep(20000), table.concat(noise) }

describe("inflate", function()
  it("reads gzip, zlib and raw deflate, however they are cut", function()
    for format in pairs(codings) do
      for _, text in ipairs(texts) do
        local packed = zlib.deflate(text, format)
        local whole, how = read(format, { packed })
        assert.is_true(whole == text, format)
        assert.equal("done", how, format)
        assert.is_true(read(format, { packed, "" }) == text)
        for at = 0, #packed, math.max(1, math.floor(#packed / 40)) do
          local cut, cut_how = read(format, { packed:sub(1, at), packed:sub(at + 1) })
          assert.is_true(cut == text and cut_how == "done", format .. " cut at " .. at)
        end
        local single, single_how = read(format, bytes_of(packed))
        assert.is_true(single == text and single_how == "done", format .. " in bytes")
      end
    end
  end)

  it("reads gzip members one after the other", function()
    local text, how = read("gzip", { zlib.deflate("one,", "gzip") .. zlib.deflate("", "gzip") .. zlib.deflate("two", "gzip") })
    assert.same({ "one,two", "done" }, { text, how })
  end)

  it("tells a stream that ends too early", function()
    for format in pairs(codings) do
      local packed = zlib.deflate("some text that is long enough", format)
      for at = 0, #packed - 1 do
        assert.equal("the compressed body ends too early", select(2, read(format, { packed:sub(1, at) })), format .. " at " .. at)
      end
    end
  end)

  it("refuses what follows the end", function()
    for format in pairs(codings) do
      local packed = zlib.deflate("text", format)
      for _, tail in ipairs { "x", "\0", "\0\0\0\0", "GET / HTTP/1.1\r\n" } do
        assert.equal("something follows the end of the compressed body", select(2, read(format, { packed .. tail })), format)
        assert.equal("something follows the end of the compressed body", select(2, read(format, { packed, tail })), format)
      end
    end
    assert.matches("damaged", select(2, read("gzip", { zlib.deflate("text", "gzip") .. "\31x" })))
  end)

  it("refuses damaged streams, and a byte changed anywhere in gzip's data never passes for the text", function()
    assert.matches("^the compressed body is damaged: ", select(2, read("gzip", { "no gzip at all" })))
    assert.matches("^the compressed body is damaged", select(2, read("zlib", { "\255\255\255" })))
    local text = ("abcdefgh"):rep(30)
    local packed = zlib.deflate(text, "gzip")
    for at = 11, #packed do
      local changed = packed:sub(1, at - 1) .. string.char((packed:byte(at) + 1) % 256) .. packed:sub(at + 1)
      assert.is_true(select(2, read("gzip", { changed })) ~= "done", "byte " .. at)
    end
  end)

  it("refuses a preset dictionary", function()
    assert.matches("dictionary", select(2, read("zlib", { "\x78\xbb\0\0\0\1\3\0" })))
  end)

  it("never gives out more than its limit", function()
    for format in pairs(codings) do
      local bomb = zlib.deflate(("\0"):rep(5000000), format, 9)
      local text, how = read(format, { bomb }, 100000)
      assert.equal("limit", how)
      assert.is_true(#text <= 100000)
      assert.equal("done", select(2, read(format, { bomb }, 5000000)))
      assert.equal("limit", select(2, read(format, { bomb }, 4999999)))
    end
  end)
end)
