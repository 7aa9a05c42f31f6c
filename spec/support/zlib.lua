-- SPDX-License-Identifier: MIT
-- zlib itself, to make and read what specs send and get.
--
--   local zlib = require "support.zlib"
--   zlib.deflate(text, "gzip" | "zlib" | "raw" [, level])      zlib.inflate(bytes, "gzip" | "zlib" | "raw") -> text, bytes left over

local cdef = require "support.cdef"
local ffi = require "ffi"

cdef.define [[
typedef struct spec_z_stream {
  const char *next_in; unsigned avail_in; unsigned long total_in;
  char *next_out; unsigned avail_out; unsigned long total_out;
  const char *msg; void *state; void *zalloc; void *zfree; void *opaque; int data_type; unsigned long adler, reserved;
} spec_z_stream;
const char *zlibVersion(void);
int deflateInit2_(spec_z_stream *z, int level, int method, int bits, int memory, int strategy, const char *version, int size);
int deflate(spec_z_stream *z, int flush);
int deflateEnd(spec_z_stream *z);
unsigned long deflateBound(spec_z_stream *z, unsigned long size);
int inflateInit2_(spec_z_stream *z, int bits, const char *version, int size);
int inflate(spec_z_stream *z, int flush);
int inflateEnd(spec_z_stream *z);
]]

local C = ffi.C
local M = {}
local window = { gzip = 31, zlib = 15, raw = -15 }
local FINISH, STREAM_END = 4, 1

local function stream() return ffi.new("spec_z_stream") end

function M.deflate(text, format, level)
  local z = stream()
  assert(C.deflateInit2_(z, level or 6, 8, window[format], 8, 0, C.zlibVersion(), ffi.sizeof(z)) == 0)
  local size = tonumber(C.deflateBound(z, #text)) + 64
  local out = ffi.new("char[?]", size)
  z.next_in, z.avail_in, z.next_out, z.avail_out = text, #text, out, size
  assert(C.deflate(z, FINISH) == STREAM_END)
  local bytes = ffi.string(out, size - z.avail_out)
  C.deflateEnd(z)
  return bytes
end

---What can be read of `bytes`; the third value is true when the stream came to its end.
function M.inflate(bytes, format)
  local z, parts = stream(), {}
  local size = 65536
  local out = ffi.new("char[?]", size)
  assert(C.inflateInit2_(z, window[format], C.zlibVersion(), ffi.sizeof(z)) == 0)
  z.next_in, z.avail_in = bytes, #bytes
  local rc
  repeat
    z.next_out, z.avail_out = out, size
    rc = C.inflate(z, 0)
    parts[#parts + 1] = ffi.string(out, size - z.avail_out)
  until rc ~= 0 or (z.avail_in == 0 and z.avail_out > 0)
  local left = z.avail_in
  C.inflateEnd(z)
  return table.concat(parts), bytes:sub(#bytes - left + 1), rc == STREAM_END
end

return M
