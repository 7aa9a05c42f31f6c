-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/coding.h")

local C = ffi.C

local function str(text) return ffi.new("mw_str", text, #text) end

local names = { [-1] = "unknown", [0] = "identity", "gzip", "deflate" }
local function of(text) return names[tonumber(C.mw_coding_of(str(text)))] end
local function negotiate(text) return names[tonumber(C.mw_coding_negotiate(str(text)))] end

describe("coding", function()
  it("knows what a body is in", function()
    for text, expected in pairs {
      [""] = "identity", ["identity"] = "identity", ["gzip"] = "gzip", [" GZIP "] = "gzip", ["x-gzip"] = "gzip", ["deflate"] = "deflate",
      ["br"] = "unknown", ["gzip, gzip"] = "unknown", ["identity, gzip"] = "unknown", ["gzip;q=1"] = "unknown", [","] = "unknown",
    } do
      assert.equal(expected, of(text), text)
    end
  end)

  it("picks what the client likes best, and gzip where it does not care", function()
    for text, expected in pairs {
      [""] = "identity", ["gzip"] = "gzip", ["deflate"] = "deflate", ["deflate, gzip"] = "gzip", ["br, zstd"] = "identity", ["*"] = "gzip",
      ["gzip, deflate, br, zstd"] = "gzip", ["x-gzip"] = "gzip", ["GZIP"] = "gzip",
      ["gzip;q=0.5, deflate;q=0.8"] = "deflate", ["gzip;q=0.5,deflate;q=0.5"] = "gzip", ["gzip;q=1.000"] = "gzip", ["gzip;q=0.001"] = "gzip",
      ["gzip;q=0"] = "identity", ["gzip;q=0.000, deflate"] = "deflate", ["gzip;q=0, *"] = "deflate", ["*;q=0"] = "identity",
      ["identity, gzip;q=0.5"] = "identity", ["identity;q=0.5, gzip;q=0.5"] = "gzip", ["identity;q=0"] = "identity",
      ["identity;q=0, gzip;q=0.1"] = "gzip", ["identity;q=0, *;q=0.1"] = "gzip", ["gzip ; q=0.5 , deflate ; Q=0.6"] = "deflate",
    } do
      assert.equal(expected, negotiate(text), text)
    end
  end)

  it("passes over items that are no weight", function()
    for _, text in ipairs { "gzip;q=2", "gzip;q=", "gzip;q=-1", "gzip;q=0.1234", "gzip;q=1.1", "gzip;q=.5", "gzip;x=1", "gzip;q=1x", ";q=1", ",,", ";" } do
      assert.equal("identity", negotiate(text), text)
    end
    assert.equal("deflate", negotiate("gzip;q=nan, deflate"))
  end)

  it("compresses what is text underneath", function()
    for _, type in ipairs { "text/html; charset=utf-8", "TEXT/PLAIN", "text/event-stream", "application/json", "application/problem+json",
      "image/svg+xml", "application/javascript", "application/wasm ; x=y" } do
      assert.is_true(C.mw_coding_is_compressible(str(type)), type)
    end
    for _, type in ipairs { "", "text/", "image/png", "application/zip", "application/octet-stream", "video/mp4", "+json", "application/gzip", ";" } do
      assert.is_false(C.mw_coding_is_compressible(str(type)), type)
    end
  end)
end)
