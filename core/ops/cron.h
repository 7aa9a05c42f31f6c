// SPDX-License-Identifier: MIT
#pragma once

// mw_cron: when a schedule is due. Pure: the time and the zone are passed in. An open value; copy it freely.
//
//   mw_cron cron; mw_cron_parse(MW_STR("30 2 * * MON-FRI"), &cron, &err);
//   int64_t at_s = mw_cron_next(&cron, zone, now_s);
//
// Expressions: five fields (minute hour day-of-month month day-of-week), or six with seconds in front. A field is a list of `*`, `7`,
// `1-5`, `*` or a range with a step (`*/15`, `0-30/10`, `5/20`: from 5 on), with names for months and weekdays (JAN, mon; Sunday is 0 and 7).
// Day of month also `L` (the last) and `L-3`; day of week also `5#3` (the third Friday) and `5L` or `L5` (the last one); `?` is `*` in both. When both days are
// restricted, either is enough (as cron has always had it). `@yearly @annually @monthly @weekly @daily @midnight @hourly`, and `@every 90s`, which
// is due at the multiples of its duration since 1970, so that a restart does not move it.
//
// Where the zone's clock changes: a schedule whose hour field begins with `*` follows the time that passes. One with set hours is due once
// for each time it names: a time that the change skips is due at the first instant after the gap (several of them once), one that comes twice
// only the first time.

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "ops/zone.h"

/* ffi-begin */
typedef struct mw_cron {
  uint64_t seconds, minutes;  /**< A bit each. */
  uint32_t hours, days, months, last_days; /**< days: bit 1 … 31; last_days: bit n is the n-th day before the last. */
  uint8_t weekdays;           /**< Bit 0 is Sunday. */
  uint8_t last_weekdays;      /**< The last such of a month. */
  uint8_t nth_weekdays[7];    /**< Bit n: the n-th such of a month, 1 … 5. */
  bool any_day, any_weekday;  /**< The field begins with `*` or `?`. */
  bool any_hour;
  int64_t every_s;            /**< Over 0: `@every`, and nothing else counts. */
} mw_cron;

/** Parses an expression. MW_EINVALID says which field, and what it may be. */
int mw_cron_parse(mw_str text, mw_cron *out, mw_err *err);
/** The first due second after `after_s` (UTC), or INT64_MAX when none comes within a hundred years ("0 0 30 2 *"). */
int64_t mw_cron_next(const mw_cron *cron, const mw_zone *zone, int64_t after_s);
/* ffi-end */
