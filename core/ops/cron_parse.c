// SPDX-License-Identifier: MIT
#include <string.h>

#include "base/duration.h"
#include "ops/cron.h"

#define MAX_TEXT 256

typedef struct field {
  const char *name;
  int low, high;
  const char *names; // three letters each, from `low` on; NULL: numbers only
} field;

enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY };

static const field fields[] = {
    {"second", 0, 59, NULL},
    {"minute", 0, 59, NULL},
    {"hour", 0, 23, NULL},
    {"day of month", 1, 31, NULL},
    {"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"},
    {"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT"},
};

static const struct {
  const char *name, *text;
} aliases[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
    {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
};

static int refuse(const field *f, mw_str item, const char *why, mw_err *err) {
  return mw_err_set(err, MW_EINVALID, "the %s \"%.*s\" %s", f->name, MW_STR_FMT(item), why);
}

// A number or a name; how many bytes it takes, 0 for neither.
static size_t read_value(const field *f, mw_str text, int *out) {
  size_t digits = 0;
  int value = 0;
  while (digits < text.len && digits < 3 && text.ptr[digits] >= '0' && text.ptr[digits] <= '9') value = value * 10 + (text.ptr[digits++] - '0');
  *out = value;
  if (digits || !f->names || text.len < 3) return digits;
  for (size_t i = 0; i * 3 < strlen(f->names); i++)
    if (mw_str_eq_nocase(mw_str_of(text.ptr, 3), mw_str_of(f->names + i * 3, 3))) return *out = (int)i + (f->low == 1), (size_t)3;
  return 0;
}

static mw_str rest_of(mw_str text, size_t taken) { return mw_str_of(text.ptr + taken, text.len - taken); }

static bool read_whole(const field *f, mw_str text, int *out) {
  size_t taken = read_value(f, text, out);
  return taken && taken == text.len && *out >= f->low && *out <= f->high;
}

// "5", "MON-FRI", "*", "10-40/5", "*/15", "5/20"
static int read_range(const field *f, mw_str item, uint64_t *bits, mw_err *err) {
  mw_str range = item;
  int first, last, step = 1;
  ptrdiff_t slash = mw_str_find_byte(item, '/');
  if (slash >= 0) {
    uint64_t n;
    range.len = (size_t)slash;
    if (!mw_str_parse_u64(rest_of(item, (size_t)slash + 1), &n) || n == 0 || n > 60) return refuse(f, item, "needs a step from 1 to 60 after \"/\"", err);
    step = (int)n;
  }
  ptrdiff_t dash = mw_str_find_byte(range, '-');
  if (mw_str_eq(range, MW_STR("*"))) {
    first = f->low;
    last = f->high;
  } else if (dash >= 0) {
    if (!read_whole(f, mw_str_of(range.ptr, (size_t)dash), &first) || !read_whole(f, rest_of(range, (size_t)dash + 1), &last))
      return refuse(f, item, "is no range of it", err);
    if (first > last) return refuse(f, item, "goes backwards; write two ranges, such as FRI-SAT,SUN", err);
  } else {
    if (!read_whole(f, range, &first)) return mw_err_set(err, MW_EINVALID, "the %s \"%.*s\" is not %s%d to %d", f->name, MW_STR_FMT(item),
                                                         f->names ? "a name, or a number from " : "a number from ", f->low, f->high);
    last = slash >= 0 ? f->high : first;
  }
  if (last == 7 && f == &fields[WEEKDAY] && range.len == 1 && range.ptr[0] == '*') last = 6;
  for (int i = first; i <= last; i += step) *bits |= UINT64_C(1) << i;
  return 0;
}

// "L", "L-3"
static bool read_last_day(mw_str item, mw_cron *out) {
  uint64_t n = 0;
  if (!item.len || (item.ptr[0] | 0x20) != 'l') return false;
  if (item.len > 1 && (item.ptr[1] != '-' || !mw_str_parse_u64(rest_of(item, 2), &n) || n > 30)) return false;
  out->last_days |= 1u << n;
  return true;
}

// "5L", "L5", "FRI#2"
static bool read_special_weekday(mw_str item, mw_cron *out) {
  const field *f = &fields[WEEKDAY];
  int day;
  bool leading = item.len > 1 && (item.ptr[0] | 0x20) == 'l';
  mw_str text = leading ? rest_of(item, 1) : item;
  size_t taken = read_value(f, text, &day);
  if (!taken || day > 7) return false;
  mw_str tail = rest_of(text, taken);
  bool trailing = tail.len == 1 && (tail.ptr[0] | 0x20) == 'l';
  if (leading ? tail.len == 0 : trailing) return out->last_weekdays |= (uint8_t)(1 << day % 7), true;
  if (leading || tail.len != 2 || tail.ptr[0] != '#' || tail.ptr[1] < '1' || tail.ptr[1] > '5') return false;
  return out->nth_weekdays[day % 7] |= (uint8_t)(1 << (tail.ptr[1] - '0')), true;
}

static int read_field(int which, mw_str text, mw_cron *out, uint64_t *bits, mw_err *err) {
  const field *f = &fields[which];
  bool is_day = which == DAY || which == WEEKDAY;
  mw_str rest = text, item;
  *bits = 0;
  if (is_day && mw_str_eq(text, MW_STR("?"))) text = rest = MW_STR("*");
  while (mw_str_split(&rest, ',', &item)) {
    if (!item.len) return refuse(f, text, "has an empty place in its list", err);
    if (which == DAY && read_last_day(item, out)) continue;
    if (which == WEEKDAY && read_special_weekday(item, out)) continue;
    int rc = read_range(f, item, bits, err);
    if (rc) return rc;
  }
  if (text.len && text.ptr[text.len - 1] == ',') return refuse(f, text, "has an empty place in its list", err);
  if (which == DAY) out->any_day = text.ptr[0] == '*';
  if (which == WEEKDAY) out->any_weekday = text.ptr[0] == '*';
  if (which == HOUR) out->any_hour = text.ptr[0] == '*';
  return 0;
}

static bool is_space(char c) { return c == ' ' || c == '\t'; }

// Splits at white space; returns how many, or 7 for more than six.
static int split(mw_str text, mw_str parts[6]) {
  int count = 0;
  for (size_t i = 0; i < text.len;) {
    while (i < text.len && is_space(text.ptr[i])) i++;
    size_t from = i;
    while (i < text.len && !is_space(text.ptr[i])) i++;
    if (i == from) break;
    if (count == 6) return 7;
    parts[count++] = mw_str_of(text.ptr + from, i - from);
  }
  return count;
}

static int read_fields(mw_str text, mw_cron *out, mw_err *err) {
  mw_str parts[6];
  uint64_t bits[6] = {1};
  int count = split(text, parts);
  if (count != 5 && count != 6)
    return mw_err_set(err, MW_EINVALID, "\"%.*s\" has %s fields; five are minute hour day month weekday, and six have seconds in front", MW_STR_FMT(text),
                      count > 6 ? "too many" : count == 0 ? "no" : "too few");
  for (int i = 0; i < count; i++) {
    int which = i + 6 - count, rc = read_field(which, parts[i], out, &bits[which], err);
    if (rc) return rc;
  }
  out->seconds = bits[SECOND];
  out->minutes = bits[MINUTE];
  out->hours = (uint32_t)bits[HOUR];
  out->days = (uint32_t)bits[DAY];
  out->months = (uint32_t)bits[MONTH];
  out->weekdays = (uint8_t)((bits[WEEKDAY] & 0x7f) | (bits[WEEKDAY] >> 7 & 1)); // 7 is Sunday too
  return 0;
}

static int read_every(mw_str text, mw_cron *out, mw_err *err) {
  int64_t us;
  int rc = mw_duration_parse(text, &us, err);
  if (rc) return rc;
  if (us < 1000000 || us % 1000000) return mw_err_set(err, MW_EINVALID, "@every needs whole seconds, at least one: @every 90s");
  out->every_s = us / 1000000;
  return 0;
}

int mw_cron_parse(mw_str text, mw_cron *out, mw_err *err) {
  *out = (mw_cron){0};
  text = mw_str_trim(text);
  if (text.len > MAX_TEXT) return mw_err_set(err, MW_EINVALID, "the schedule is longer than %d bytes", MAX_TEXT);
  if (!text.len || text.ptr[0] != '@') return read_fields(text, out, err);
  if (text.len > 7 && mw_str_eq_nocase(mw_str_of(text.ptr, 7), MW_STR("@every "))) return read_every(mw_str_trim(rest_of(text, 7)), out, err);
  for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
    if (mw_str_eq_nocase(text, mw_str_from(aliases[i].name))) return read_fields(mw_str_from(aliases[i].text), out, err);
  return mw_err_set(err, MW_EINVALID, "\"%.*s\" is not known: @yearly, @monthly, @weekly, @daily, @hourly or @every 90s", MW_STR_FMT(text));
}
