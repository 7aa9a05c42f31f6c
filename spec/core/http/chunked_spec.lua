-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h", "base/err.h")

ffi.cdef [[
  typedef struct mw_chunked { uint64_t left; uint32_t extensions, trailers; uint8_t state, digits, colon; } mw_chunked;
  void mw_chunked_init(mw_chunked *chunked);
  int mw_chunked_feed(mw_chunked *chunked, mw_str *data, mw_str *piece, const char **why);
]]

local C = ffi.C
local MORE, PIECE, DONE = 0, 1, 2

-- Feeds the pieces; returns the body, what was left over and how it ended.
local function read(...)
  local chunked, piece, why = ffi.new("mw_chunked"), ffi.new("mw_str"), ffi.new("const char *[1]")
  local body = {}
  C.mw_chunked_init(chunked)
  for i = 1, select("#", ...) do
    local text = select(i, ...)
    local data = ffi.new("mw_str", text, #text)
    while true do
      local rc = C.mw_chunked_feed(chunked, data, piece, why)
      if rc == MORE then break end
      if rc == DONE then return table.concat(body), ffi.string(data.ptr, data.len) .. table.concat({ select(i + 1, ...) }), "done" end
      if rc ~= PIECE then return nil, ffi.string(why[0]), "error" end
      body[#body + 1] = ffi.string(piece.ptr, piece.len)
    end
  end
  return table.concat(body), "", "more"
end

local good = "4\r\nWiki\r\n05;name=\"x y\"\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\nA: 1\r\nB-c:\r\n\r\n"

describe("chunked", function()
  it("reads chunks, extensions and trailers, and leaves what follows", function()
    assert.same({ "Wikipedia in\r\n\r\nchunks.", "GET /", "done" }, { read(good .. "GET /") })
  end)

  it("reads the same however it is cut", function()
    for at = 1, #good - 1 do
      assert.same({ "Wikipedia in\r\n\r\nchunks.", "", "done" }, { read(good:sub(1, at), good:sub(at + 1)) })
    end
    local bytes = {}
    for i = 1, #good do bytes[i] = good:sub(i, i) end
    assert.same({ "Wikipedia in\r\n\r\nchunks.", "", "done" }, { read(unpack(bytes)) })
  end)

  it("is not over before its last line is", function()
    for at = 1, #good - 1 do assert.equal("more", select(3, read(good:sub(1, at)))) end
  end)

  it("refuses every other framing, also cut into bytes", function()
    for _, bad in ipairs {
      "\r\n", "x\r\n", "-1\r\n", "+1\r\na\r\n", "0x1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n", "1\na\r\n", "1\r\nab\r\n", "1\r\na\n", "1\r\na\rb",
      "1\rx", "1;e\nx\r\na", "1;e\rx\r\na", "1;\0\r\na", "ffffffffffffffff\r\n", "00000000000000001\r\na\r\n", "0\r\nA\r\n\r\n", "0\r\n: x\r\n\r\n",
      "0\r\nA : x\r\n\r\n", "0\r\n x: y\r\n\r\n", "0\r\nA: x\n\r\n", "0\r\nA: x\r\r\n", "0\r\nA: \1\r\n\r\n", "0\n\r\n", "0\r\n\n",
    } do
      assert.equal("error", select(3, read(bad .. "0\r\n\r\n")), ("%q"):format(bad))
      local bytes = {}
      for i = 1, #bad do bytes[i] = bad:sub(i, i) end
      bytes[#bytes + 1] = "0\r\n\r\n"
      assert.equal("error", select(3, read(unpack(bytes))), ("%q"):format(bad))
    end
  end)

  it("bounds extensions and trailers of the whole body", function()
    assert.equal("error", select(3, read(("1;" .. ("x"):rep(500) .. "\r\na\r\n"):rep(9))))
    assert.equal("more", select(3, read(("1;" .. ("x"):rep(500) .. "\r\na\r\n"):rep(8))))
    assert.equal("error", select(3, read("0\r\n" .. ("A: 1\r\n"):rep(1700))))
  end)
end)
