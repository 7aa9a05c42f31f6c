// SPDX-License-Identifier: MIT
#include "http/inflate.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/buf.h"

enum { OUT_BYTES = 32 * 1024, KEEP_IN = 64 * 1024 };

struct mw_inflate {
  z_stream stream;
  mw_coding coding;
  mw_buf in; // what was fed
  size_t in_at;
  uint64_t total, max;
  bool hungry, last;
  bool begun;       // the format is known
  bool member_over; // a gzip member, or the whole of a deflate body, was read to its end
  mw_inflate_result verdict; // after which nothing comes
  char why[120];
  unsigned char out[OUT_BYTES];
};

static void *z_alloc(void *opaque, unsigned count, unsigned size) { return mw_calloc(count, size); }
static void z_free(void *opaque, void *memory) { mw_free(memory); }

static void must(int rc) {
  if (rc != Z_OK) abort(); // only by a zlib that is not the one we were built for
}

mw_inflate *mw_inflate_new(mw_coding coding, uint64_t max_bytes) {
  mw_inflate *z = mw_alloc(sizeof *z);
  memset(z, 0, offsetof(mw_inflate, out));
  z->stream.zalloc = z_alloc;
  z->stream.zfree = z_free;
  z->coding = coding;
  z->max = max_bytes;
  z->hungry = true;
  z->begun = coding == MW_CODING_GZIP;
  must(inflateInit2(&z->stream, z->begun ? 15 + 16 : 15));
  return z;
}

void mw_inflate_free(mw_inflate *z) {
  if (!z) return;
  inflateEnd(&z->stream);
  mw_buf_deinit(&z->in);
  mw_free(z);
}

void mw_inflate_feed(mw_inflate *z, mw_str data, bool last) {
  if (z->in_at == z->in.len) {
    mw_buf_reset(&z->in, KEEP_IN);
    z->in_at = 0;
  }
  mw_buf_add_str(&z->in, data);
  z->last = last;
  z->hungry = false;
}

bool mw_inflate_is_hungry(const mw_inflate *z) { return z->hungry; }

static mw_inflate_result fail(mw_inflate *z, const char *text, const char *detail) {
  snprintf(z->why, sizeof z->why, "%s%s%s", text, detail ? ": " : "", detail ? detail : "");
  return z->verdict = MW_INFLATE_ERROR;
}

static mw_inflate_result starve(mw_inflate *z) {
  if (z->last) return fail(z, "the compressed body ends too early", NULL);
  z->hungry = true;
  return MW_INFLATE_MORE;
}

// RFC 1950: method 8, a window of at most 32 KiB, and a check of the two bytes. A raw stream that begins so would be a stored block with
// padding that no encoder writes.
static bool is_zlib(const mw_inflate *z) {
  unsigned first = (unsigned char)z->in.ptr[z->in_at], second = (unsigned char)z->in.ptr[z->in_at + 1];
  return (first & 15) == 8 && first >> 4 <= 7 && (first * 256 + second) % 31 == 0;
}

// A raw stream of one byte cannot be: the shortest has two.
static bool begin(mw_inflate *z) {
  if (z->in.len - z->in_at < 2) return false;
  z->begun = true;
  if (!is_zlib(z)) must(inflateReset2(&z->stream, -15));
  return true;
}

// After the end of a member: the next one, or nothing.
static mw_inflate_result after_member(mw_inflate *z) {
  if (z->in_at == z->in.len) {
    if (z->last) return z->verdict = MW_INFLATE_DONE;
    z->hungry = true;
    return MW_INFLATE_MORE;
  }
  if (z->coding != MW_CODING_GZIP || (unsigned char)z->in.ptr[z->in_at] != 0x1f) {
    return fail(z, "something follows the end of the compressed body", NULL);
  }
  must(inflateReset(&z->stream));
  z->member_over = false;
  return MW_INFLATE_PIECE;
}

// Runs zlib once; sets what came out.
static int run(mw_inflate *z, mw_str *piece) {
  size_t left = z->in.len - z->in_at;
  if (left > UINT32_MAX) left = UINT32_MAX;
  z->stream.next_in = left ? (unsigned char *)z->in.ptr + z->in_at : (unsigned char *)"";
  z->stream.avail_in = (unsigned)left;
  z->stream.next_out = z->out;
  z->stream.avail_out = sizeof z->out;
  int rc = inflate(&z->stream, Z_NO_FLUSH);
  z->in_at += left - z->stream.avail_in;
  *piece = mw_str_of((char *)z->out, sizeof z->out - z->stream.avail_out);
  z->total += piece->len;
  return rc;
}

static mw_inflate_result next(mw_inflate *z, mw_str *piece) {
  for (;;) {
    if (!z->begun && !begin(z)) return starve(z);
    if (z->member_over) {
      mw_inflate_result result = after_member(z);
      if (result != MW_INFLATE_PIECE) return result;
    }
    int rc = run(z, piece);
    if (rc == Z_STREAM_END) z->member_over = true;
    else if (rc == Z_NEED_DICT) return fail(z, "the compressed body needs a dictionary, which no client may assume", NULL);
    else if (rc != Z_OK && rc != Z_BUF_ERROR) return fail(z, "the compressed body is damaged", z->stream.msg);
    if (z->total > z->max) return z->verdict = MW_INFLATE_LIMIT;
    if (piece->len) return MW_INFLATE_PIECE;
    if (!z->member_over && z->in_at == z->in.len) return starve(z);
  }
}

mw_inflate_result mw_inflate_next(mw_inflate *z, mw_str *piece, const char **why) {
  *piece = mw_str_of("", 0);
  *why = z->why;
  if (z->verdict) return z->verdict;
  mw_inflate_result result = next(z, piece);
  if (result != MW_INFLATE_PIECE) *piece = mw_str_of("", 0);
  return result;
}
