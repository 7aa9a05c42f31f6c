// SPDX-License-Identifier: MIT
#pragma once

// What the JSON reader and writer share: finding the end of a run of plain characters eight bytes at a time, UTF-8
// sequences, and strtod without a locale. Used by base/json*.c only.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** Returns the first byte in [p, end) that is a quote, a backslash, a control character or not ASCII; else `end`. */
static inline const unsigned char *mw_json_scan_plain(const unsigned char *p, const unsigned char *end) {
  const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
  for (; end - p >= 8; p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    // A byte's high bit is set when it is a hit or when a lower byte of the word is: exact enough to stop here.
    uint64_t hit = ((quote - ones) | (slash - ones) | (word - ones * 0x20) | word) & highs;
    if (hit) break;
  }
  for (; p < end; p++)
    if (*p < 0x20 || *p == '"' || *p == '\\' || *p >= 0x80) return p;
  return end;
}

/** Returns the length of the well-formed UTF-8 sequence at `p` (RFC 3629), or 0. */
size_t mw_json_utf8_len(const unsigned char *p, const unsigned char *end);
/** Reads a zero-terminated number with '.' as its decimal point, whatever the locale. */
double mw_json_strtod(const char *text);
