// SPDX-License-Identifier: MIT
#include "base/duration.h"

#include <math.h>

#define SECOND ((int64_t)1000000)
#define LONGEST ((int64_t)36525 * 24 * 3600 * SECOND) // 100 years

static const struct { const char *name; int64_t us; } units[] = {
    {"w", 7 * 24 * 3600 * SECOND}, {"d", 24 * 3600 * SECOND}, {"h", 3600 * SECOND},
    {"m", 60 * SECOND},            {"s", SECOND},             {"ms", 1000},
};
enum { UNITS = sizeof units / sizeof *units };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Takes "12" or "2.5" off `rest` as millionths; false when there is none or it is beyond any duration.
static bool take_number(mw_str *rest, double *number) {
  double value = 0, unit = 1;
  size_t i = 0, digits = 0;
  for (; i < rest->len && is_digit(rest->ptr[i]); i++, digits++) value = value * 10 + (rest->ptr[i] - '0');
  if (digits == 0) return false;
  if (i < rest->len && rest->ptr[i] == '.') {
    digits = 0;
    double scaled = 0;
    for (i++; i < rest->len && is_digit(rest->ptr[i]); i++, digits++) {
      if (digits >= 12) continue;
      scaled = scaled * 10 + (rest->ptr[i] - '0');
      unit *= 10;
    }
    if (digits == 0) return false;
    value += scaled / unit;
  }
  *rest = mw_str_of(rest->ptr + i, rest->len - i);
  *number = value;
  return true;
}

// Takes letters off `rest` and returns their unit's index, or -1. No letters at all: seconds.
static int take_unit(mw_str *rest) {
  size_t len = 0;
  while (len < rest->len && is_letter(rest->ptr[len])) len++;
  mw_str name = mw_str_of(rest->ptr, len);
  *rest = mw_str_of(rest->ptr + len, rest->len - len);
  for (int i = 0; i < UNITS; i++)
    if (mw_str_eq(name, mw_str_from(units[i].name))) return i;
  return -1;
}

static bool parse(mw_str rest, double *total) {
  double number;
  int last = -1;
  *total = 0;
  if (!take_number(&rest, &number)) return false;
  if (rest.len == 0) {
    *total = number * (double)SECOND;
    return true;
  }
  for (;;) {
    int unit = take_unit(&rest);
    if (unit <= last) return false; // unknown, or not from large to small
    last = unit;
    *total += number * (double)units[unit].us;
    if (rest.len == 0) return true;
    if (!take_number(&rest, &number)) return false;
  }
}

int mw_duration_parse(mw_str text, int64_t *out_us, mw_err *err) {
  double total;
  int shown = text.len > 40 ? 40 : (int)text.len;
  if (!parse(text, &total)) {
    return mw_err_set(err, MW_EINVALID,
                      "\"%.*s\" is not a duration: write 250ms, 10s, 5m, 2h, 3d, 1w or 1h30m; a bare number is seconds",
                      shown, text.ptr);
  }
  if (!(total <= (double)LONGEST)) {
    return mw_err_set(err, MW_EINVALID, "the duration \"%.*s\" is longer than 100 years", shown, text.ptr);
  }
  *out_us = (int64_t)llround(total);
  return 0;
}

int mw_duration_from_seconds(double seconds, int64_t *out_us, mw_err *err) {
  if (isnan(seconds)) return mw_err_set(err, MW_EINVALID, "a duration cannot be NaN");
  if (seconds < 0) return mw_err_set(err, MW_EINVALID, "a duration cannot be negative, got %g seconds", seconds);
  if (seconds > (double)(LONGEST / SECOND)) {
    return mw_err_set(err, MW_EINVALID, "%g seconds are longer than 100 years", seconds);
  }
  *out_us = (int64_t)llround(seconds * (double)SECOND);
  return 0;
}
