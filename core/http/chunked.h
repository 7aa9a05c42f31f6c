// SPDX-License-Identifier: MIT
#pragma once

// Chunked transfer coding, reading side, as strict as RFC 9112 7.1 lets one be: sizes are hex digits only, every line ends in CRLF,
// extensions and trailers are bounded, checked and ignored. It copies nothing and may be fed a byte at a time.
//
//   mw_chunked c; mw_chunked_init(&c);
//   while (data.len) switch (mw_chunked_feed(&c, &data, &piece, &why)) …   // MW_CHUNKED_PIECE: body bytes; DONE; ERROR

#include <stdint.h>

#include "base/str.h"

#define MW_CHUNKED_MAX_EXTENSIONS 4096
#define MW_CHUNKED_MAX_TRAILERS 8192

typedef struct mw_chunked {
  uint64_t left;       /**< Of the chunk that is being read. */
  uint32_t extensions; /**< Bytes of them in the whole body. */
  uint32_t trailers;
  uint8_t state, digits;
  uint8_t colon; /**< The trailer line has one. */
} mw_chunked;

typedef enum mw_chunked_result {
  MW_CHUNKED_ERROR = -1,
  MW_CHUNKED_MORE,  /**< The data is used up. */
  MW_CHUNKED_PIECE, /**< `piece` is body; feed again what is left. */
  MW_CHUNKED_DONE,  /**< The body and its trailers are over; the rest of the data is not part of it. */
} mw_chunked_result;

void mw_chunked_init(mw_chunked *chunked);
/** Takes what it reads off `data`. */
mw_chunked_result mw_chunked_feed(mw_chunked *chunked, mw_str *data, mw_str *piece, const char **why);
