// SPDX-License-Identifier: MIT
#pragma once

// The Range header (RFC 9110 14.2). Pure.
//
//   mw_range ranges[MW_RANGE_MAX];
//   int n = mw_range_parse(MW_STR("bytes=0-99,-100"), size, ranges);      // 2, or 0: send the whole; -1: answer 416

#include <stdint.h>

#include "base/str.h"

/* ffi-begin */
enum {
  MW_RANGE_MAX = 16,       /* ranges that are answered */
  MW_RANGE_MAX_ASKED = 64, /* and that are looked at */
};

typedef struct mw_range {
  uint64_t first, last; /**< Both are part of it. */
} mw_range;

/** Reads which bytes of `size` are asked for. Ranges that overlap or touch become one and the result is in order. Returns how many; 0 when the
 *  header is to be ignored (another unit, malformed, more than MW_RANGE_MAX); -1 when nothing of it is there. */
int mw_range_parse(mw_str header, uint64_t size, mw_range ranges[16]);
/* ffi-end */
