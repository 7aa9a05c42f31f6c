// SPDX-License-Identifier: MIT
#include "http/date.h"

#include <stdio.h>
#include <time.h>

static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const int64_t FIRST = -62167219200, LAST = 253402300799; // the years 0 and 9999

int mw_date_format(int64_t seconds, char *text) {
  time_t t = (time_t)(seconds < FIRST ? FIRST : seconds > LAST ? LAST : seconds);
  struct tm tm;
  gmtime_r(&t, &tm);
  // Not by the locale: the names are the protocol's.
  return snprintf(text, MW_DATE_TEXT, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday % 100,
                  months + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
}

// Reads text by a pattern: "9" a digit, "#" a digit or a blank before one, "Aaa" a month, anything else itself. The digits go into numbers in order of
// their groups.
static bool read(mw_str text, const char *pattern, int *month, int numbers[5]) {
  size_t at = 0;
  int group = -1;
  bool in_group = false;
  for (const char *p = pattern; *p; p++, at++) {
    if (at >= text.len) return false;
    char c = text.ptr[at];
    bool is_digit = *p == '9' || *p == '#';
    if (is_digit && !in_group) numbers[++group] = 0;
    in_group = is_digit;
    if (is_digit) {
      if (*p == '#' && c == ' ') continue;
      if (c < '0' || c > '9') return false;
      numbers[group] = numbers[group] * 10 + (c - '0');
    } else if (*p == 'A') {
      if (at + 3 > text.len) return false;
      for (*month = 0; *month < 12 && memcmp(months + 3 * *month, text.ptr + at, 3) != 0;) ++*month;
      if (*month == 12) return false;
      p += 2;
      at += 2;
    } else if (c != *p) {
      return false;
    }
  }
  return at == text.len;
}

static int days_in(int year, int month) {
  static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return lengths[month] + (month == 1 && leap);
}

static bool to_seconds(int year, int month, int day, int hour, int minute, int second, int64_t *seconds) {
  if (day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60) return false;
  struct tm tm = {.tm_year = year - 1900, .tm_mon = month, .tm_mday = day, .tm_hour = hour, .tm_min = minute, .tm_sec = second};
  *seconds = (int64_t)timegm(&tm);
  return true;
}

static int full_year(int two_digits, int64_t now) {
  time_t t = (time_t)now;
  struct tm tm;
  gmtime_r(&t, &tm);
  int year = tm.tm_year + 1900, guess = year - year % 100 + two_digits;
  return guess > year + 50 ? guess - 100 : guess;
}

// The name of the day is not checked against the date, nor is it used.
static bool skip_day(mw_str *text, bool is_long) {
  static const char *const names[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  for (int i = 0; i < 7; i++) {
    mw_str name = is_long ? mw_str_from(names[i]) : mw_str_of(days + 3 * i, 3);
    if (!mw_str_starts_with(*text, name)) continue;
    *text = mw_str_of(text->ptr + name.len, text->len - name.len);
    return true;
  }
  return false;
}

bool mw_date_parse(mw_str text, int64_t now, int64_t *seconds) {
  int month = 0, n[5] = {0};
  mw_str whole = text;
  if (skip_day(&text, false)) {
    if (read(text, ", 99 Aaa 9999 99:99:99 GMT", &month, n)) return to_seconds(n[1], month, n[0], n[2], n[3], n[4], seconds);
    if (read(text, " Aaa #9 99:99:99 9999", &month, n)) return to_seconds(n[4], month, n[0], n[1], n[2], n[3], seconds);
  }
  if (!skip_day(&whole, true) || !read(whole, ", 99-Aaa-99 99:99:99 GMT", &month, n)) return false;
  return to_seconds(full_year(n[1], now), month, n[0], n[2], n[3], n[4], seconds);
}
