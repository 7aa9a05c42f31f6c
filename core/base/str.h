// SPDX-License-Identifier: MIT
#pragma once

// mw_str: a borrowed slice of bytes. It owns nothing and need not end in zero.
//
//   mw_str name = MW_STR("content-type");
//   if (mw_str_eq_nocase(header, name)) …

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ffi-begin */
typedef struct mw_str {
  const char *ptr;
  size_t len;
} mw_str;
/* ffi-end */

/** A slice over a string literal. */
#define MW_STR(literal) ((mw_str){"" literal, sizeof(literal) - 1})
/** For printf: `printf("%.*s", MW_STR_FMT(s))`. */
#define MW_STR_FMT(s) (int)(s).len, (s).ptr

static inline mw_str mw_str_of(const char *ptr, size_t len) { return (mw_str){ptr, len}; }
/** Wraps a zero-terminated string; NULL becomes the empty slice. */
static inline mw_str mw_str_from(const char *text) { return (mw_str){text, text ? strlen(text) : 0}; }

static inline bool mw_str_eq(mw_str a, mw_str b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
/* ffi-begin */
/** Compares ASCII letters without case. */
bool mw_str_eq_nocase(mw_str a, mw_str b);
/** Orders bytewise; returns <0, 0, >0. */
int mw_str_cmp(mw_str a, mw_str b);
bool mw_str_starts_with(mw_str text, mw_str prefix);
bool mw_str_ends_with(mw_str text, mw_str suffix);
/** Returns the position of the first `byte`, or -1. */
ptrdiff_t mw_str_find_byte(mw_str text, char byte);
/** Strips spaces and tabs (RFC 9110 optional white space) on both sides. */
mw_str mw_str_trim(mw_str text);
/** Takes the part before the first `sep` off `rest` into `part`; returns false when `rest` was used up. */
bool mw_str_split(mw_str *rest, char sep, mw_str *part);
/** Parses a whole decimal integer; returns false on anything else or overflow. */
bool mw_str_parse_u64(mw_str text, uint64_t *out);
/** Returns the edit distance of two names, counted up to `limit`; serves "did you mean". */
size_t mw_str_distance(mw_str a, mw_str b, size_t limit);
/** True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool mw_str_is_utf8(mw_str text);
/* ffi-end */
