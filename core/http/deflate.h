// SPDX-License-Identifier: MIT
#pragma once

// Compresses: the other half of http/inflate.h, on zlib.
//
//   mw_deflate *z = mw_deflate_new(MW_CODING_GZIP, 1, false);
//   mw_deflate_add(z, text, MW_DEFLATE_END, &out);

#include "base/buf.h"
#include "http/coding.h"

typedef struct mw_deflate mw_deflate;

typedef enum mw_deflate_flush {
  MW_DEFLATE_GATHER, /**< zlib may keep some of it back. */
  MW_DEFLATE_FLUSH,  /**< All that was added can be read by the other side. Costs about 5 bytes. */
  MW_DEFLATE_END,    /**< Nothing follows. */
} mw_deflate_flush;

/** `coding` is gzip or deflate (zlib's format), `level` 1 (fast) to 9 (small). About 270 KiB; `lean`: about 70 KiB and a few per cent
 *  larger results, for what lives long. */
mw_deflate *mw_deflate_new(mw_coding coding, int level, bool lean);
/** NULL is harmless. */
void mw_deflate_free(mw_deflate *deflate);
/** Makes it as new. */
void mw_deflate_reset(mw_deflate *deflate);
/** Appends to `out`. Takes about 10 ms a MiB at level 1. */
void mw_deflate_add(mw_deflate *deflate, mw_str data, mw_deflate_flush flush, mw_buf *out);
