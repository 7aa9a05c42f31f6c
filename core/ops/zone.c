// SPDX-License-Identifier: MIT

// A file lists the changes up to some year; after the last one a rule goes on for ever, written as in POSIX's TZ ("CET-1CEST,M3.5.0,M10.5.0/3").

#include "ops/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "ops/calendar.h"

#define FOLDER "/usr/share/zoneinfo/"
#define MAX_FILE_BYTES (256 * 1024)
#define MAX_NAME 64
#define HEADER_BYTES 44
#define MAX_OFFSET_S (26 * 3600)

typedef enum day_kind { DAY_MONTH, DAY_JULIAN, DAY_OF_YEAR } day_kind;

typedef struct rule_day { // when in a year, in wall time of before
  day_kind kind;
  int month, week, day; // DAY_MONTH: week 5 is the last; the others: day
  int32_t time_s;
} rule_day;

struct mw_zone {
  size_t count;
  int64_t *at_s;    // sorted
  int32_t *offsets; // from at_s[i] on
  int32_t first;    // before at_s[0]
  bool has_rule, has_summer;
  int32_t standard, summer; // of the rule
  rule_day to_summer, to_standard;
};

/* ---- the rule ---- */

typedef struct text {
  const char *at, *end;
} text;

static bool take(text *t, char c) {
  if (t->at == t->end || *t->at != c) return false;
  t->at++;
  return true;
}

static bool read_number(text *t, int highest, int *out) {
  int value = 0;
  const char *from = t->at;
  while (t->at < t->end && *t->at >= '0' && *t->at <= '9' && t->at - from < 4) value = value * 10 + (*t->at++ - '0');
  *out = value;
  return t->at > from && value <= highest;
}

static bool skip_name(text *t) {
  const char *from = t->at;
  if (take(t, '<')) {
    while (t->at < t->end && *t->at != '>') t->at++;
    return take(t, '>');
  }
  while (t->at < t->end && ((*t->at >= 'A' && *t->at <= 'Z') || (*t->at >= 'a' && *t->at <= 'z'))) t->at++;
  return t->at - from >= 3;
}

// [+-]hh[:mm[:ss]]
static bool read_time(text *t, int highest_hour, int32_t *out) {
  int sign = take(t, '-') ? -1 : 1, hours, minutes = 0, seconds = 0;
  if (sign > 0) take(t, '+');
  if (!read_number(t, highest_hour, &hours)) return false;
  if (take(t, ':') && !read_number(t, 59, &minutes)) return false;
  if (t->at > t->end - 1) return *out = sign * (hours * 3600 + minutes * 60), true;
  if (take(t, ':') && !read_number(t, 59, &seconds)) return false;
  *out = sign * (hours * 3600 + minutes * 60 + seconds);
  return true;
}

static bool read_rule_day(text *t, rule_day *out) {
  bool ok;
  out->time_s = 2 * 3600;
  if (take(t, 'M')) {
    out->kind = DAY_MONTH;
    ok = read_number(t, 12, &out->month) && out->month >= 1 && take(t, '.') && read_number(t, 5, &out->week) && out->week >= 1 &&
         take(t, '.') && read_number(t, 6, &out->day);
  } else if (take(t, 'J')) {
    out->kind = DAY_JULIAN;
    ok = read_number(t, 365, &out->day) && out->day >= 1;
  } else {
    out->kind = DAY_OF_YEAR;
    ok = read_number(t, 365, &out->day);
  }
  return ok && (!take(t, '/') || read_time(t, 167, &out->time_s));
}

// POSIX writes offsets westward.
static bool read_rule(mw_zone *zone, mw_str footer) {
  text t = {footer.ptr, footer.ptr + footer.len};
  if (!skip_name(&t) || !read_time(&t, 24, &zone->standard)) return false;
  zone->standard = -zone->standard;
  if (t.at == t.end) return true;
  zone->has_summer = true;
  zone->summer = zone->standard + 3600;
  if (!skip_name(&t)) return false;
  if (t.at < t.end && *t.at != ',') {
    if (!read_time(&t, 24, &zone->summer)) return false;
    zone->summer = -zone->summer;
  }
  return take(&t, ',') && read_rule_day(&t, &zone->to_summer) && take(&t, ',') && read_rule_day(&t, &zone->to_standard) && t.at == t.end;
}

static int64_t day_in_year(const rule_day *rule, int year) {
  if (rule->kind == DAY_MONTH) {
    int64_t first = mw_calendar_day(year, rule->month, 1);
    int day = 1 + (rule->day - mw_calendar_weekday(first) + 7) % 7 + (rule->week - 1) * 7;
    if (day > mw_calendar_month_days(year, rule->month)) day -= 7;
    return first + day - 1;
  }
  int64_t new_year = mw_calendar_day(year, 1, 1);
  if (rule->kind == DAY_OF_YEAR) return new_year + rule->day;
  return new_year + rule->day - 1 + (rule->day > 59 && mw_calendar_is_leap(year)); // 29 February is never counted
}

// The two changes of a year by the rule, in order.
static void rule_changes(const mw_zone *zone, int year, mw_zone_change out[2]) {
  int64_t to_summer = day_in_year(&zone->to_summer, year) * MW_DAY_S + zone->to_summer.time_s - zone->standard;
  int64_t to_standard = day_in_year(&zone->to_standard, year) * MW_DAY_S + zone->to_standard.time_s - zone->summer;
  mw_zone_change summer = {to_summer, zone->standard, zone->summer}, standard = {to_standard, zone->summer, zone->standard};
  out[0] = to_summer < to_standard ? summer : standard;
  out[1] = to_summer < to_standard ? standard : summer;
}

/* ---- the file ---- */

static uint32_t read_u32(const char *at) {
  const unsigned char *p = (const unsigned char *)at;
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t read_i64(const char *at) { return (int64_t)((uint64_t)read_u32(at) << 32 | read_u32(at + 4)); }

typedef struct block {
  size_t leap, times, types, chars, isstd, isut;
} block;

static bool read_header(mw_str bytes, block *out) {
  if (bytes.len < HEADER_BYTES || memcmp(bytes.ptr, "TZif", 4) != 0) return false;
  const char *p = bytes.ptr + 20;
  *out = (block){.isut = read_u32(p), .isstd = read_u32(p + 4), .leap = read_u32(p + 8), .times = read_u32(p + 12),
                 .types = read_u32(p + 16), .chars = read_u32(p + 20)};
  return out->leap < 1000 && out->times < 10000 && out->types >= 1 && out->types <= 256 && out->chars < 10000 && out->isstd <= 256 && out->isut <= 256;
}

static size_t block_bytes(const block *b, size_t time_size) {
  return b->times * (time_size + 1) + b->types * 6 + b->chars + b->leap * (time_size + 4) + b->isstd + b->isut;
}

static mw_str from(mw_str bytes, size_t at) { return mw_str_of(bytes.ptr + at, bytes.len - at); }

static bool read_offset(const char *types, size_t type, size_t count, int32_t *out) {
  if (type >= count) return false;
  *out = (int32_t)read_u32(types + type * 6);
  return *out > -MAX_OFFSET_S && *out < MAX_OFFSET_S;
}

static bool read_changes(mw_zone *zone, const char *data, const block *b) {
  const char *indexes = data + b->times * 8, *types = indexes + b->times;
  if (!read_offset(types, 0, b->types, &zone->first)) return false;
  zone->at_s = mw_alloc((b->times + 1) * sizeof *zone->at_s);
  zone->offsets = mw_alloc((b->times + 1) * sizeof *zone->offsets);
  int32_t before = zone->first;
  for (size_t i = 0; i < b->times; i++) {
    int64_t at = read_i64(data + i * 8);
    int32_t offset;
    if (!read_offset(types, (unsigned char)indexes[i], b->types, &offset)) return false;
    if (i && at <= read_i64(data + (i - 1) * 8)) return false;
    if (offset == before) continue; // only its name changed
    zone->at_s[zone->count] = at;
    zone->offsets[zone->count++] = before = offset;
  }
  return true;
}

static bool read_zone(mw_zone *zone, mw_str bytes) {
  block first, second;
  if (!read_header(bytes, &first) || bytes.ptr[4] < '2') return false;
  size_t skip = HEADER_BYTES + block_bytes(&first, 4);
  if (bytes.len < skip || !read_header(from(bytes, skip), &second)) return false;
  mw_str data = from(bytes, skip + HEADER_BYTES);
  size_t size = block_bytes(&second, 8);
  if (data.len < size || !read_changes(zone, data.ptr, &second)) return false;
  mw_str footer = from(data, size);
  if (footer.len < 2 || footer.ptr[0] != '\n' || footer.ptr[footer.len - 1] != '\n') return false;
  footer = mw_str_of(footer.ptr + 1, footer.len - 2);
  zone->has_rule = footer.len > 0;
  return !footer.len || read_rule(zone, footer);
}

int mw_zone_parse(mw_str bytes, mw_zone **out, mw_err *err) {
  mw_zone *zone = MW_NEW(mw_zone);
  if (read_zone(zone, bytes)) return *out = zone, 0;
  mw_zone_free(zone);
  return mw_err_set(err, MW_EINVALID, "it is no time zone file (TZif, version 2 or later)");
}

void mw_zone_free(mw_zone *zone) {
  if (!zone) return;
  mw_free(zone->at_s);
  mw_free(zone->offsets);
  mw_free(zone);
}

// "Area/City": letters, digits, "_", "+", "-"; never a path that leaves the folder.
static bool is_name(const char *name) {
  size_t len = strlen(name);
  if (len == 0 || len > MAX_NAME || name[0] == '/' || name[len - 1] == '/') return false;
  for (const char *p = name; *p; p++) {
    bool plain = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '_' || *p == '+' || *p == '-';
    if (!plain && !(*p == '/' && p[1] != '/')) return false;
  }
  return true;
}

static mw_zone *new_utc(void) {
  mw_zone *zone = MW_NEW(mw_zone);
  zone->has_rule = true;
  return zone;
}

static ssize_t read_file(const char *path, char *bytes, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return -errno;
  size_t len = 0;
  ssize_t n;
  while (len < size && (n = read(fd, bytes + len, size - len)) > 0) len += (size_t)n;
  close(fd);
  return (ssize_t)len;
}

int mw_zone_load(const char *name, mw_zone **out, mw_err *err) {
  char path[sizeof FOLDER + MAX_NAME];
  if (!is_name(name)) return mw_err_set(err, MW_EINVALID, "a time zone is written like \"Europe/Berlin\" or \"UTC\"");
  if (strcmp(name, "UTC") == 0) return *out = new_utc(), 0;
  strcpy(strcpy(path, FOLDER) + sizeof FOLDER - 1, name);
  char *bytes = mw_alloc(MAX_FILE_BYTES);
  ssize_t len = read_file(path, bytes, MAX_FILE_BYTES);
  int rc;
  if (len <= 0) {
    bool no_data = access(FOLDER, F_OK) != 0;
    rc = mw_err_set(err, MW_ENOTFOUND, no_data ? "there is no time zone database; install it (Debian: apt-get install tzdata)"
                                               : "there is no time zone \"%s\"; they are written like \"Europe/Berlin\"", name);
  } else if ((rc = mw_zone_parse(mw_str_of(bytes, (size_t)len), out, err))) {
    mw_err_wrap(err, "%s", path);
  }
  mw_free(bytes);
  return rc;
}

/* ---- asking ---- */

static int64_t last_in_file(const mw_zone *zone) { return zone->count ? zone->at_s[zone->count - 1] : INT64_MIN; }

// How many changes of the file are at or before an instant.
static size_t changes_until(const mw_zone *zone, int64_t utc_s) {
  size_t low = 0, high = zone->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (zone->at_s[middle] <= utc_s) low = middle + 1;
    else high = middle;
  }
  return low;
}

static mw_zone_change file_change(const mw_zone *zone, size_t i) {
  return (mw_zone_change){zone->at_s[i], i ? zone->offsets[i - 1] : zone->first, zone->offsets[i]};
}

static bool follows_rule(const mw_zone *zone, int64_t utc_s) { return zone->has_rule && utc_s >= last_in_file(zone); }

static int year_of(int64_t utc_s) { return mw_calendar_date(mw_calendar_day_of(utc_s)).year; }

// The last change by the rule at or before an instant, or the first after it, among those later than the file's.
static bool rule_change(const mw_zone *zone, int64_t utc_s, bool after, mw_zone_change *out) {
  int64_t file = last_in_file(zone);
  int year = year_of(utc_s);
  bool found = false;
  if (!zone->has_summer || zone->summer == zone->standard) return false;
  for (int y = after ? year - 1 : year + 1; (after ? y <= year + 2 : y >= year - 2) && !found; y += after ? 1 : -1) {
    mw_zone_change two[2];
    rule_changes(zone, y, two);
    for (int k = 0; k < 2 && !found; k++) {
      const mw_zone_change *c = &two[after ? k : 1 - k];
      found = c->at_s > file && (after ? c->at_s > utc_s : c->at_s <= utc_s);
      if (found) *out = *c;
    }
  }
  return found;
}

mw_zone_change mw_zone_last_change(const mw_zone *zone, int64_t utc_s) {
  mw_zone_change change;
  if (follows_rule(zone, utc_s) && rule_change(zone, utc_s, false, &change)) return change;
  size_t n = changes_until(zone, utc_s);
  if (n) return file_change(zone, n - 1);
  return (mw_zone_change){INT64_MIN, zone->first, zone->first};
}

mw_zone_change mw_zone_next_change(const mw_zone *zone, int64_t utc_s) {
  mw_zone_change change;
  size_t n = changes_until(zone, utc_s);
  if (n < zone->count) return file_change(zone, n);
  if (zone->has_rule && rule_change(zone, utc_s, true, &change)) return change;
  int32_t offset = mw_zone_offset(zone, utc_s);
  return (mw_zone_change){INT64_MAX, offset, offset};
}

int32_t mw_zone_offset(const mw_zone *zone, int64_t utc_s) {
  mw_zone_change last = mw_zone_last_change(zone, utc_s);
  if (last.at_s == INT64_MIN && zone->has_rule && !zone->count) return zone->standard;
  return last.after;
}
