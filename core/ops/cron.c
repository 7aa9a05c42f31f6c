// SPDX-License-Identifier: MIT

// Between two changes of the zone's offset wall time is UTC plus a constant, so the next time is looked for on the wall, piece by piece. At the seams the
// rule of the header decides what a skipped and a repeated time mean.

#include "ops/cron.h"

#include "ops/calendar.h"

#define MAX_YEARS 100

static int next_bit(uint64_t bits, int from) {
  if (from > 63) return -1;
  bits &= ~UINT64_C(0) << from;
  return bits ? __builtin_ctzll(bits) : -1;
}

/* ---- days ---- */

static bool fits_day_of_month(const mw_cron *cron, int day, int month_days) {
  return (cron->days >> day & 1) || (cron->last_days >> (month_days - day) & 1);
}

static bool fits_weekday(const mw_cron *cron, int weekday, int day, int month_days) {
  return (cron->weekdays >> weekday & 1) || (cron->nth_weekdays[weekday] >> ((day + 6) / 7) & 1) ||
         ((cron->last_weekdays >> weekday & 1) && day + 7 > month_days);
}

static bool fits_date(const mw_cron *cron, const mw_date *date, int64_t number) {
  int month_days = mw_calendar_month_days(date->year, date->month);
  bool by_day = fits_day_of_month(cron, date->day, month_days);
  bool by_weekday = fits_weekday(cron, mw_calendar_weekday(number), date->day, month_days);
  return cron->any_day || cron->any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

// The first day at or after `number` that fits, or -1 after `last`.
static int64_t next_day(const mw_cron *cron, int64_t number, int64_t last) {
  while (number <= last) {
    mw_date date = mw_calendar_date(number);
    if (!(cron->months >> date.month & 1)) {
      int month = next_bit(cron->months, date.month);
      number = month < 0 ? mw_calendar_day(date.year + 1, 1, 1) : mw_calendar_day(date.year, month, 1);
    } else if (fits_date(cron, &date, number)) {
      return number;
    } else {
      number++;
    }
  }
  return -1;
}

/* ---- times of a day ---- */

// The first second of the day at or after `second` that fits, or -1.
static int64_t next_time(const mw_cron *cron, int64_t second) {
  int h = (int)(second / 3600), m = (int)(second / 60 % 60), s = (int)(second % 60);
  int hour = next_bit(cron->hours, h);
  if (hour < 0) return -1;
  if (hour > h) m = s = 0;
  int sec = next_bit(cron->seconds, s);
  if (sec < 0 || !(cron->minutes >> m & 1)) {
    int minute = next_bit(cron->minutes, sec < 0 ? m + 1 : m);
    if (minute < 0) return hour == 23 ? -1 : next_time(cron, (hour + 1) * INT64_C(3600));
    if (minute > m) s = 0;
    m = minute;
    sec = next_bit(cron->seconds, s);
  }
  return hour * INT64_C(3600) + m * 60 + sec;
}

// The first wall time in [from, last] that fits, or INT64_MAX.
static int64_t next_wall(const mw_cron *cron, int64_t from, int64_t last) {
  int64_t day = mw_calendar_day_of(from), second = from - day * MW_DAY_S, last_day = mw_calendar_day_of(last);
  for (;; day++, second = 0) {
    int64_t found = next_day(cron, day, last_day);
    if (found < 0) return INT64_MAX;
    if (found > day) second = 0;
    day = found;
    int64_t time = next_time(cron, second);
    if (time < 0) continue;
    int64_t wall = day * MW_DAY_S + time;
    return wall <= last ? wall : INT64_MAX;
  }
}

/* ---- the zone ---- */

static bool is_due_in_gap(const mw_cron *cron, const mw_zone_change *change) {
  return change->after > change->before &&
         next_wall(cron, change->at_s + change->before, change->at_s + change->after - 1) != INT64_MAX;
}

int64_t mw_cron_next(const mw_cron *cron, const mw_zone *zone, int64_t after_s) {
  if (cron->every_s) {
    int64_t n = after_s / cron->every_s;
    if (after_s < 0 && after_s % cron->every_s) n--;
    return (n + 1) * cron->every_s;
  }
  int64_t at = after_s + 1, give_up = at + MAX_YEARS * INT64_C(366) * MW_DAY_S;
  mw_zone_change change = mw_zone_last_change(zone, at);
  while (at < give_up) {
    mw_zone_change next = mw_zone_next_change(zone, at);
    int32_t offset = mw_zone_offset(zone, at);
    int64_t end = next.at_s < give_up ? next.at_s : give_up, from = at + offset;
    bool seam = change.at_s != INT64_MIN && !cron->any_hour;
    if (seam && at == change.at_s && is_due_in_gap(cron, &change)) return at;
    // What comes a second time was due the first time.
    if (seam && change.after < change.before && from < change.at_s + change.before) from = change.at_s + change.before;
    int64_t wall = next_wall(cron, from, end + offset - 1);
    if (wall != INT64_MAX) return wall - offset;
    at = end;
    change = next;
  }
  return INT64_MAX;
}
