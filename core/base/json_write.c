// SPDX-License-Identifier: MIT
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_scan.h"

// Decodes one UTF-8 sequence's length at `p` (RFC 3629); 0 when it is ill-formed.
size_t mw_json_utf8_len(const unsigned char *p, const unsigned char *end) {
  unsigned char c = *p, low = 0x80, high = 0xBF;
  size_t len;
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) len = 2;
  else if (c >= 0xE0 && c <= 0xEF) {
    len = 3;
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
  } else if (c >= 0xF0 && c <= 0xF4) {
    len = 4;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
  } else return 0;
  if ((size_t)(end - p) < len || p[1] < low || p[1] > high) return 0;
  for (size_t i = 2; i < len; i++)
    if ((p[i] & 0xC0) != 0x80) return 0;
  return len;
}

static void add_escape(mw_buf *out, unsigned char c) {
  static const char hex[] = "0123456789abcdef";
  switch (c) {
  case '"': mw_buf_add(out, "\\\"", 2); return;
  case '\\': mw_buf_add(out, "\\\\", 2); return;
  case '\n': mw_buf_add(out, "\\n", 2); return;
  case '\r': mw_buf_add(out, "\\r", 2); return;
  case '\t': mw_buf_add(out, "\\t", 2); return;
  case '\b': mw_buf_add(out, "\\b", 2); return;
  case '\f': mw_buf_add(out, "\\f", 2); return;
  default: mw_buf_add(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
  }
}

static int add_string(mw_buf *out, mw_str text, bool strict) {
  const unsigned char *p = (const unsigned char *)text.ptr, *end = p + text.len;
  size_t start = out->len;
  mw_buf_reserve(out, text.len + 2);
  mw_buf_add_byte(out, '"');
  while (p < end) {
    const unsigned char *plain = p;
    for (;;) { // the longest run that is copied as it stands
      p = mw_json_scan_plain(p, end);
      if (p == end || *p < 0x80) break;
      size_t len = mw_json_utf8_len(p, end);
      if (len == 0) break;
      p += len;
    }
    mw_buf_add(out, plain, (size_t)(p - plain));
    if (p == end) break;
    if (*p < 0x80) add_escape(out, *p);
    else if (strict) {
      out->len = start;
      return MW_EUTF8;
    } else mw_buf_add(out, "\xEF\xBF\xBD", 3);
    p++;
  }
  mw_buf_add_byte(out, '"');
  return 0;
}

void mw_json_add_string(mw_buf *out, mw_str text) { add_string(out, text, false); }

int mw_json_add_string_strict(mw_buf *out, mw_str text) { return add_string(out, text, true); }

static locale_t c_locale;
static void make_c_locale(void) { c_locale = newlocale(LC_ALL_MASK, "C", NULL); }

double mw_json_strtod(const char *text) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_c_locale);
  return c_locale ? strtod_l(text, NULL, c_locale) : strtod(text, NULL);
}

// printf writes the decimal point of the process's locale, which can be several bytes.
static void fix_point(char *text) {
  char *to = text;
  bool pointed = false;
  for (const char *from = text; *from; from++) {
    if ((*from >= '0' && *from <= '9') || *from == '-' || *from == '+' || *from == 'e') *to++ = *from;
    else if (!pointed) *to++ = '.', pointed = true;
  }
  *to = 0;
}

// Most fractions that people write have a few decimals: the fewest that give the number back are its shortest text,
// because the quotient of two exact doubles is correctly rounded.
static bool add_decimal(mw_buf *out, double number) {
  static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
  double size = fabs(number);
  if (size >= 1e9 || size < 1e-4) return false;
  for (int decimals = 1; decimals <= 6; decimals++) {
    double scaled = rint(size * powers[decimals]);
    if (scaled / powers[decimals] != size) continue;
    uint64_t digits = (uint64_t)scaled, unit = (uint64_t)powers[decimals];
    if (number < 0) mw_buf_add_byte(out, '-');
    mw_buf_add_u64(out, digits / unit);
    mw_buf_add_byte(out, '.');
    uint64_t rest = digits % unit;
    for (unit /= 10; unit; unit /= 10) mw_buf_add_byte(out, (char)('0' + rest / unit % 10));
    return true;
  }
  return false;
}

int mw_json_add_number(mw_buf *out, double number) {
  if (!isfinite(number)) return MW_EINVALID;
  if (fabs(number) <= 9007199254740992.0 && number == (double)(int64_t)number) {
    if (number == 0 && signbit(number)) mw_buf_add(out, "-0", 2);
    else mw_buf_add_i64(out, (int64_t)number);
    return 0;
  }
  if (add_decimal(out, number)) return 0;
  char text[48];
  int digits = fabs(number) < 0x1p-1022 ? 1 : 15; // every normal double keeps 15 digits, so fewer need no try
  for (; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, number);
    fix_point(text);
    if (mw_json_strtod(text) == number) break;
  }
  mw_buf_add_cstr(out, text);
  return 0;
}
