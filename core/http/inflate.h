// SPDX-License-Identifier: MIT
#pragma once

// Takes a compressed body apart, piece by piece, and never gives out more than a limit. About 75 KiB while it lives.
//
//   mw_inflate *z = mw_inflate_new(MW_CODING_GZIP, 1 << 20);
//   mw_inflate_feed(z, data, is_last);                       // only when it is hungry: new, or after MW_INFLATE_MORE
//   while ((rc = mw_inflate_next(z, &piece, &why)) == MW_INFLATE_PIECE) …
//
// gzip may have several members, one after the other (RFC 1952 2.2). "deflate" is zlib's format or, because some clients send that,
// raw deflate; the first two bytes tell. Checksums are checked. Anything after the end is an error.

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "http/coding.h"

/* ffi-begin */
typedef struct mw_inflate mw_inflate;

typedef enum mw_inflate_result {
  MW_INFLATE_ERROR = -2, /**< It is damaged, ends too early or has something after its end: `why` is a sentence. */
  MW_INFLATE_LIMIT,      /**< More than the limit comes out. */
  MW_INFLATE_MORE,       /**< Feed it. */
  MW_INFLATE_PIECE,      /**< `piece` is valid until the next call; there may be more. */
  MW_INFLATE_DONE,       /**< All of it came out. */
} mw_inflate_result;

/** `coding` is gzip or deflate. */
mw_inflate *mw_inflate_new(mw_coding coding, uint64_t max_bytes);
/** NULL is harmless. */
void mw_inflate_free(mw_inflate *inflate);
/** Gives it compressed bytes, which it copies; `last`: no more come. */
void mw_inflate_feed(mw_inflate *inflate, mw_str data, bool last);
/** True when the next thing to do is to feed it. */
bool mw_inflate_is_hungry(const mw_inflate *inflate);
/** After an error or the limit it gives the same again. */
mw_inflate_result mw_inflate_next(mw_inflate *inflate, mw_str *piece, const char **why);
/* ffi-end */
