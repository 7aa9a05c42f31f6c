// SPDX-License-Identifier: MIT
#include "http/deflate.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/alloc.h"

enum { WINDOW_BITS = 15, MEMORY_LEVEL = 8, LEAN_WINDOW_BITS = 13, LEAN_MEMORY_LEVEL = 6, GZIP_BITS = 16, ROOM = 1024 };

struct mw_deflate {
  z_stream stream;
};

static void *z_alloc(void *opaque, unsigned count, unsigned size) { return mw_calloc(count, size); }
static void z_free(void *opaque, void *memory) { mw_free(memory); }

mw_deflate *mw_deflate_new(mw_coding coding, int level, bool lean) {
  mw_deflate *z = MW_NEW(mw_deflate);
  z->stream.zalloc = z_alloc;
  z->stream.zfree = z_free;
  int bits = (lean ? LEAN_WINDOW_BITS : WINDOW_BITS) + (coding == MW_CODING_GZIP ? GZIP_BITS : 0);
  int memory = lean ? LEAN_MEMORY_LEVEL : MEMORY_LEVEL;
  if (deflateInit2(&z->stream, level, Z_DEFLATED, bits, memory, Z_DEFAULT_STRATEGY) != Z_OK) abort(); // a zlib we were not built for
  return z;
}

void mw_deflate_free(mw_deflate *z) {
  if (!z) return;
  deflateEnd(&z->stream);
  mw_free(z);
}

void mw_deflate_reset(mw_deflate *z) { deflateReset(&z->stream); }

void mw_deflate_add(mw_deflate *z, mw_str data, mw_deflate_flush flush, mw_buf *out) {
  static const int modes[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
  z->stream.next_in = (unsigned char *)data.ptr;
  z->stream.avail_in = (unsigned)data.len; // callers cut what is larger than a few MiB
  do {
    size_t room = data.len / 4 + ROOM;
    z->stream.next_out = (unsigned char *)mw_buf_reserve(out, room);
    z->stream.avail_out = (unsigned)room;
    deflate(&z->stream, modes[flush]);
    out->len += room - z->stream.avail_out;
  } while (!z->stream.avail_out || z->stream.avail_in);
}
