// SPDX-License-Identifier: MIT
#pragma once

// For spec/fuzz/*_fuzz.c: one parser each, fed with bytes nobody chose. A target checks more than that nothing crashes: what must hold of
// every input (read in pieces it says the same as read whole, what was written reads back, a slice lies inside what it was cut from).
//
//   FUZZ(bytes) {
//     mw_url url;
//     if (mw_url_parse(bytes, &url, NULL) == 0) MUST(is_inside(url.host, bytes));
//   }
//
// In the fuzz preset libFuzzer drives it (clang); in the others replay.c runs it once over each file of spec/fuzz/corpus/NAME, so that
// what was found once stays found.

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** The body of the target; `bytes` lie in memory of exactly their length. */
#define FUZZ(bytes)                                                    \
  static void fuzz_one(mw_str bytes);                                  \
  int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {       \
    char *copy = malloc(size ? size : 1);                              \
    if (size) memcpy(copy, data, size);                                \
    fuzz_one(mw_str_of(copy, size));                                   \
    free(copy);                                                        \
    return 0;                                                          \
  }                                                                    \
  static void fuzz_one(mw_str bytes)

#define MUST(condition)                                                                     \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);        \
      abort();                                                                              \
    }                                                                                       \
  } while (0)

/** True when `part` is empty or a slice of `whole`. */
static inline bool is_inside(mw_str part, mw_str whole) {
  return part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

/** Takes the next line (or the rest) off `text`; false at its end. */
static inline bool next_line(mw_str *text, mw_str *line) { return text->len && mw_str_split(text, '\n', line); }

/** Cut points that depend on the input only: the length of the next piece of what is left, at least 1. */
typedef struct cutter {
  uint32_t state;
} cutter;

static inline size_t next_cut(cutter *c, size_t left) {
  c->state = c->state * 1664525u + 1013904223u;
  size_t len = (c->state >> 28) < 8 ? 1 + (c->state >> 16) % 4 : 1 + (c->state >> 8) % 97;
  return len < left ? len : left;
}

static inline cutter cutter_of(mw_str bytes) {
  cutter c = {(uint32_t)bytes.len + 1};
  for (size_t i = 0; i < bytes.len; i++) c.state = c.state * 31 + (unsigned char)bytes.ptr[i];
  return c;
}
