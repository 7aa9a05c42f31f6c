// SPDX-License-Identifier: MIT
// Compressed bodies: whatever comes in, no more than the limit comes out, the same in pieces as whole; what zlib compresses comes back.
#include <zlib.h>

#include "base/buf.h"
#include "fuzz.h"
#include "http/inflate.h"

#define LIMIT 20000

static mw_inflate_result inflate_all(mw_coding coding, mw_str bytes, bool cut, mw_buf *out) {
  mw_inflate *z = mw_inflate_new(coding, LIMIT);
  cutter cuts = cutter_of(bytes);
  mw_inflate_result result = MW_INFLATE_MORE;
  for (size_t at = 0; result == MW_INFLATE_MORE;) {
    MUST(mw_inflate_is_hungry(z));
    size_t len = cut && at < bytes.len ? next_cut(&cuts, bytes.len - at) : bytes.len - at;
    bool last = at + len == bytes.len;
    mw_inflate_feed(z, mw_str_of(bytes.ptr + at, len), last);
    at += len;
    mw_str piece;
    const char *why = NULL;
    while ((result = mw_inflate_next(z, &piece, &why)) == MW_INFLATE_PIECE) mw_buf_add_str(out, piece);
    if (result == MW_INFLATE_ERROR) MUST(why);
    MUST(!(result == MW_INFLATE_MORE && last));
    MUST(out->len <= LIMIT);
  }
  mw_inflate_free(z);
  return result;
}

static void check_round_trip(mw_str bytes) {
  uLongf size = compressBound(bytes.len);
  char *packed = malloc(size);
  mw_buf out = MW_BUF_INIT;
  MUST(compress((Bytef *)packed, &size, (const Bytef *)bytes.ptr, bytes.len) == Z_OK);
  MUST(inflate_all(MW_CODING_DEFLATE, mw_str_of(packed, size), true, &out) == MW_INFLATE_DONE);
  MUST(mw_str_eq(mw_buf_str(&out), bytes));
  mw_buf_deinit(&out);
  free(packed);
}

FUZZ(bytes) {
  mw_coding codings[] = {MW_CODING_GZIP, MW_CODING_DEFLATE};
  for (int i = 0; i < 2; i++) {
    mw_buf whole = MW_BUF_INIT, pieces = MW_BUF_INIT;
    mw_inflate_result a = inflate_all(codings[i], bytes, false, &whole), b = inflate_all(codings[i], bytes, true, &pieces);
    MUST((a == MW_INFLATE_DONE) == (b == MW_INFLATE_DONE)); // damage and the limit may be met in either order
    if (a == MW_INFLATE_DONE) MUST(mw_str_eq(mw_buf_str(&whole), mw_buf_str(&pieces)));
    mw_buf_deinit(&whole);
    mw_buf_deinit(&pieces);
  }
  if (bytes.len && bytes.len <= LIMIT) check_round_trip(bytes);
}
