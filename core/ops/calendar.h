// SPDX-License-Identifier: MIT
#pragma once

// Days of the proleptic Gregorian calendar as numbers: 0 is 1 January 1970, a Thursday. Valid for the years 1 to 9999.
// The conversions are those of Howard Hinnant, "chrono-compatible low-level date algorithms".

#include <stdbool.h>
#include <stdint.h>

#define MW_DAY_S INT64_C(86400)

typedef struct mw_date {
  int year, month, day; /**< month 1 … 12, day 1 … 31. */
} mw_date;

static inline int64_t mw_calendar_day(int year, int month, int day) {
  int64_t y = month <= 2 ? year - 1 : year;
  int64_t era = (y >= 0 ? y : y - 399) / 400;
  int64_t of_era = y - era * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static inline mw_date mw_calendar_date(int64_t number) {
  int64_t z = number + 719468;
  int64_t era = (z >= 0 ? z : z - 146096) / 146097;
  int64_t of_era = z - era * 146097;
  int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t month = (5 * of_year + 2) / 153;
  int m = (int)(month < 10 ? month + 3 : month - 9);
  return (mw_date){(int)(year_of_era + era * 400 + (m <= 2)), m, (int)(of_year - (153 * month + 2) / 5 + 1)};
}

static inline bool mw_calendar_is_leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

static inline int mw_calendar_month_days(int year, int month) {
  static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month == 2 && mw_calendar_is_leap(year) ? 29 : days[month - 1];
}

/** 0 is Sunday. */
static inline int mw_calendar_weekday(int64_t number) { return (int)(((number % 7) + 11) % 7); }

/** Day of an instant, rounding down also before 1970. */
static inline int64_t mw_calendar_day_of(int64_t seconds) {
  return seconds >= 0 ? seconds / MW_DAY_S : -((MW_DAY_S - 1 - seconds) / MW_DAY_S);
}
