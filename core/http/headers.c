// SPDX-License-Identifier: MIT
#include "http/headers.h"

#include <stdint.h>

// tchar of RFC 9110, a bit a byte.
static const uint64_t token_bytes[4] = {0x03ff6cfa00000000u, 0x57ffffffc7fffffeu, 0, 0};

static bool is_token_byte(unsigned char c) { return token_bytes[c >> 6] >> (c & 63) & 1; }

bool mw_headers_is_token(mw_str text) {
  for (size_t i = 0; i < text.len; i++) {
    if (!is_token_byte((unsigned char)text.ptr[i])) return false;
  }
  return text.len > 0;
}

// True when one of eight bytes may be a control character: below 0x20, or 0x7f. Bytes from 0x80 on may be taken for one too.
static bool may_have_control(const char *eight) {
  uint64_t v, ones = 0x0101010101010101u, high = 0x80 * ones;
  memcpy(&v, eight, sizeof v);
  uint64_t del = v ^ (0x7f * ones);
  return ((v - 0x20 * ones) | (del - ones) | v) & high;
}

bool mw_headers_is_value(mw_str text) {
  size_t i = 0;
  while (i + 8 <= text.len && !may_have_control(text.ptr + i)) i += 8;
  for (; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
  }
  return true;
}

size_t mw_headers_find(const mw_header *list, size_t count, mw_str name, size_t from) {
  for (size_t i = from; i < count; i++) {
    if (list[i].name.len == name.len && mw_str_eq_nocase(list[i].name, name)) return i;
  }
  return count;
}

bool mw_headers_list_has(mw_str list, mw_str item) {
  mw_str piece;
  while (list.len && mw_str_split(&list, ',', &piece)) {
    if (mw_str_eq_nocase(mw_str_trim(piece), item)) return true;
  }
  return false;
}
