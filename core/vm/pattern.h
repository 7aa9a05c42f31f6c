// SPDX-License-Identifier: MIT
#pragma once

// Lua 5.1's patterns with a bound on the work of one call. The pattern is compiled into a row of items; since Lua patterns have no
// alternatives and repeat only single characters, the number of the capture at each place is known from the pattern, and going back
// needs one remembered position a repeated item: no recursion.
//
// A malformed pattern is an error only when matching reaches the malformed place, as in stock Lua.
//
//   mw_pattern p;
//   mw_pattern_init(&p, subject, pattern, space);            // `space`: mw_pattern_space(pattern) bytes, 0 bytes for short ones
//   const char *end = mw_pattern_match(&p, at);              // NULL: no match, or p.error says why
//   p.captures[0].start …

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define MW_PATTERN_CAPTURES 32
#define MW_PATTERN_INLINE 24

typedef struct mw_pattern_item {
  uint8_t kind;
  uint8_t repeat; // 0, '*', '+', '-' or '?'
  uint8_t byte, byte2;
  uint16_t classes;
  int16_t back;   // the repeated item to go back to next, while matching
  union {
    const uint8_t *set; // 32 bytes, a bit a byte
    const char *error;
  };
  const char *low, *at; // while matching: how far back it may go, where it is
} mw_pattern_item;

typedef struct mw_pattern_capture {
  const char *start;
  ptrdiff_t len; // MW_PATTERN_POSITION, MW_PATTERN_UNFINISHED or a length
} mw_pattern_capture;

enum { MW_PATTERN_POSITION = -1, MW_PATTERN_UNFINISHED = -2 };

typedef struct mw_pattern {
  mw_str subject;
  bool anchored;
  int count; // of captures
  mw_pattern_capture captures[MW_PATTERN_CAPTURES];
  int64_t steps;       // left
  const char *error;   // set when matching met a malformed place or ran out of steps
  bool (*interrupted)(void *arg); // asked every now and then; true ends the match with `error`
  void *arg;
  mw_pattern_item *items;
  mw_pattern_item inline_items[MW_PATTERN_INLINE];
  uint8_t inline_sets[2][32];
} mw_pattern;

/** Bytes of memory that this pattern needs besides the struct; 0 for short ones. SIZE_MAX: it is too long. */
size_t mw_pattern_space(mw_str pattern);
/** Compiles. A "^" in front is not the anchor when `plain_caret` (gmatch). `space` must live as long as the matching. */
void mw_pattern_init(mw_pattern *p, mw_str subject, mw_str pattern, bool plain_caret, void *space);
/** Matches at `at`; returns where the match ends or NULL. */
const char *mw_pattern_match(mw_pattern *p, const char *at);
/** Tries `at` and each later place (unless anchored); `*start` says where it matched. */
const char *mw_pattern_search(mw_pattern *p, const char *at, const char **start);
/** True when the pattern has no special characters. */
bool mw_pattern_is_plain(mw_str pattern);
