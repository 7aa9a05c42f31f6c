// SPDX-License-Identifier: MIT
#pragma once

// Parameters behind a header's value, as in `form-data; name="a b"; filename*=UTF-8''a%20b`. Pure, copies only what was quoted.
//
//   mw_str rest = value, kind, name, text;
//   mw_params_begin(&rest, &kind);                                     // "form-data"
//   while ((rc = mw_params_next(&rest, scratch, &name, &text)) == 1) …  // scratch: value.len bytes, used anew by each call
//   if (rc < 0) …                                                      // MW_EINVALID: not of this form

#include "base/str.h"

/* ffi-begin */
/** Takes what stands before the first ";" off `rest`. */
void mw_params_begin(mw_str *rest, mw_str *value);
/** Returns 1 with a parameter, 0 at the end, or MW_EINVALID. In a quoted text `\"` and `\\` stand for themselves; any other backslash is
 *  kept, because browsers send a file's name so. */
int mw_params_next(mw_str *rest, char *scratch, mw_str *name, mw_str *value);
/** Decodes an extended value (RFC 8187), charset'language'percent-encoded, into UTF-8 at `out` (2 * value.len bytes). Returns its length, or
 *  MW_EINVALID: a charset other than UTF-8 and ISO-8859-1, a bad "%", no UTF-8. */
ptrdiff_t mw_params_decode(mw_str value, char *out);
/* ffi-end */
