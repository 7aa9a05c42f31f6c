// SPDX-License-Identifier: MIT
#pragma once

// Percent-decoding: of request paths, so that they can be matched, and of single values.

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

/** What a decoded "%2F" is while a path is matched: a byte that no path can hold (NUL is refused), so that it never splits a segment. */
#define MW_PATH_SLASH '\0'

/** Decodes the path of a target (without its query) into `out`, which has room for `raw.len` bytes, and sets `*len`. Duplicate slashes
 *  become one; "%2F" becomes MW_PATH_SLASH and sets `*has_slash`. Returns 0, or MW_EINVALID for a path that does not begin with "/",
 *  a "%" without two hex digits, a NUL or control character, or a "." or ".." segment. */
int mw_path_decode(mw_str raw, char *out, size_t *len, bool *has_slash, mw_err *err);
/** Turns MW_PATH_SLASH back to "/" in a matched path, in place. */
void mw_path_restore(char *path, size_t len);

/** Decodes a component into `out` (room for `raw.len` bytes); "+" becomes a space when `plus`. Returns the length, or -1 for a "%"
 *  without two hex digits. Any byte can come out, NUL included. */
ptrdiff_t mw_path_unescape(mw_str raw, bool plus, char *out);
/** The value of a hex digit, or -1. */
int mw_path_hex(char c);
