// SPDX-License-Identifier: MIT
#include "bind/http_trace.h"

#include <string.h>

#include "base/rand.h"

static bool is_hex(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) return false;
  }
  return true;
}

static bool is_zero(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (text[i] != '0') return false;
  }
  return true;
}

// "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", later versions with more behind a "-".
static bool is_valid(mw_str header) {
  const char *p = header.ptr;
  if (header.len < 55 || p[2] != '-' || p[35] != '-' || p[52] != '-') return false;
  if (!is_hex(p, 2) || !is_hex(p + 3, 32) || !is_hex(p + 36, 16) || !is_hex(p + 53, 2)) return false;
  if (p[0] == 'f' && p[1] == 'f') return false;
  if (header.len > 55 && ((p[0] == '0' && p[1] == '0') || p[55] != '-')) return false;
  return !is_zero(p + 3, 32) && !is_zero(p + 36, 16);
}

void mw_http_trace_id(mw_str traceparent, char text[MW_TRACE_ID_LEN]) {
  static const char digits[] = "0123456789abcdef";
  if (traceparent.ptr && is_valid(traceparent)) {
    memcpy(text, traceparent.ptr + 3, MW_TRACE_ID_LEN);
    return;
  }
  uint64_t halves[2] = {mw_rand_u64() | 1, mw_rand_u64()};
  const unsigned char *bytes = (const unsigned char *)halves;
  for (int i = 0; i < 16; i++) {
    text[2 * i] = digits[bytes[i] >> 4];
    text[2 * i + 1] = digits[bytes[i] & 15];
  }
}
