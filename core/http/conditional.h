// SPDX-License-Identifier: MIT
#pragma once

// Conditional requests (RFC 9110 13): whether what the client has, or expects, is what is there. Pure.
//
//   mw_conditional c = {.etag = …, .modified = …, .is_read = true, .if_none_match = header, …};
//   switch (mw_conditional_evaluate(&c)) …             // 200: go on; 304; 412
//   if (!mw_conditional_range_holds(&c)) …             // If-Range: send the whole

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* ffi-begin */
typedef struct mw_conditional {
  mw_str etag;      /**< With its quotes; empty: there is none. */
  int64_t modified; /**< Last-Modified in seconds since 1970. */
  int64_t now;      /**< The same. */
  bool is_read;     /**< GET or HEAD. */
  mw_str if_match, if_none_match, if_modified_since, if_unmodified_since, if_range; /**< The headers; `.ptr` NULL: not there. */
} mw_conditional;

/** Returns 200, 304 or 412, in the order of RFC 9110 13.2.2. A date that is none counts as not there. */
int mw_conditional_evaluate(const mw_conditional *conditional);
/** True when a range may be sent: there is no If-Range, or it names what is there by a strong validator. A date is strong when it is that of
 *  the last change and a second has passed since. */
bool mw_conditional_range_holds(const mw_conditional *conditional);
/* ffi-end */
