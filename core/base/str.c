// SPDX-License-Identifier: MIT
#include "base/str.h"

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

bool mw_str_eq_nocase(mw_str a, mw_str b) {
  if (a.len != b.len) return false;
  for (size_t i = 0; i < a.len; i++)
    if (lower(a.ptr[i]) != lower(b.ptr[i])) return false;
  return true;
}

int mw_str_cmp(mw_str a, mw_str b) {
  size_t n = a.len < b.len ? a.len : b.len;
  int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
  if (c) return c;
  return a.len < b.len ? -1 : a.len > b.len;
}

bool mw_str_starts_with(mw_str text, mw_str prefix) {
  return text.len >= prefix.len && (prefix.len == 0 || memcmp(text.ptr, prefix.ptr, prefix.len) == 0);
}

bool mw_str_ends_with(mw_str text, mw_str suffix) {
  if (text.len < suffix.len) return false;
  return suffix.len == 0 || memcmp(text.ptr + text.len - suffix.len, suffix.ptr, suffix.len) == 0;
}

ptrdiff_t mw_str_find_byte(mw_str text, char byte) {
  const char *at = text.len ? memchr(text.ptr, byte, text.len) : NULL;
  return at ? at - text.ptr : -1;
}

mw_str mw_str_trim(mw_str text) {
  while (text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\t')) text.ptr++, text.len--;
  while (text.len && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t')) text.len--;
  return text;
}

bool mw_str_split(mw_str *rest, char sep, mw_str *part) {
  if (!rest->ptr) return false;
  ptrdiff_t at = mw_str_find_byte(*rest, sep);
  if (at < 0) {
    *part = *rest;
    *rest = (mw_str){NULL, 0};
    return true;
  }
  *part = mw_str_of(rest->ptr, (size_t)at);
  *rest = mw_str_of(rest->ptr + at + 1, rest->len - (size_t)at - 1);
  return true;
}

bool mw_str_parse_u64(mw_str text, uint64_t *out) {
  uint64_t value = 0;
  if (text.len == 0) return false;
  for (size_t i = 0; i < text.len; i++) {
    unsigned digit = (unsigned)(text.ptr[i] - '0');
    if (digit > 9 || value > (UINT64_MAX - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *out = value;
  return true;
}

// Wagner-Fischer with one row; names longer than the row are simply "far".
size_t mw_str_distance(mw_str a, mw_str b, size_t limit) {
  enum { MAX = 64 };
  size_t row[MAX + 1];
  if (a.len > MAX || b.len > MAX) return limit;
  for (size_t j = 0; j <= b.len; j++) row[j] = j;
  for (size_t i = 1; i <= a.len; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.len; j++) {
      size_t best = diagonal + (lower(a.ptr[i - 1]) != lower(b.ptr[j - 1]));
      diagonal = row[j];
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      row[j] = best;
    }
  }
  return row[b.len] < limit ? row[b.len] : limit;
}

// RFC 3629: the second byte's range rules out overlong forms, surrogates and values above U+10FFFF.
bool mw_str_is_utf8(mw_str text) {
  if (!text.len) return true;
  const unsigned char *p = (const unsigned char *)text.ptr, *end = p + text.len;
  while (p < end) {
    uint64_t eight;
    for (; end - p >= 8; p += 8) { // most text is ASCII
      memcpy(&eight, p, sizeof eight);
      if (eight & 0x8080808080808080u) break;
    }
    if (p == end) break;
    unsigned char c = *p++;
    if (c < 0x80) continue;
    unsigned char low = 0x80, high = 0xBF;
    int more;
    if (c >= 0xC2 && c <= 0xDF) more = 1;
    else if (c >= 0xE0 && c <= 0xEF) {
      more = 2;
      if (c == 0xE0) low = 0xA0;
      if (c == 0xED) high = 0x9F;
    } else if (c >= 0xF0 && c <= 0xF4) {
      more = 3;
      if (c == 0xF0) low = 0x90;
      if (c == 0xF4) high = 0x8F;
    } else return false;
    for (; more > 0; more--, low = 0x80, high = 0xBF) {
      if (p == end || *p < low || *p > high) return false;
      p++;
    }
  }
  return true;
}
