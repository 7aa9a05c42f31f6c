// SPDX-License-Identifier: MIT

// Lines of the access log.

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "http/access_log.h"

static mw_str cut(mw_str text) { return text.len > MW_ACCESS_MAX_FIELD ? mw_str_of(text.ptr, MW_ACCESS_MAX_FIELD) : text; }

static mw_str shown_target(const mw_access_entry *entry) {
  ptrdiff_t mark = entry->hides_query ? mw_str_find_byte(entry->target, '?') : -1;
  return mark < 0 ? entry->target : mw_str_of(entry->target.ptr, (size_t)mark);
}

/* ---- combined ---- */

// As Apache and nginx write a client's bytes: what is not plain ASCII as \xHH.
static void add_escaped(mw_buf *out, mw_str text) {
  static const char hex[] = "0123456789ABCDEF";
  text = cut(text);
  if (!text.len) {
    mw_buf_add_byte(out, '-');
    return;
  }
  char *to = mw_buf_reserve(out, 4 * text.len), *start = to;
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if (c >= ' ' && c < 127 && c != '"' && c != '\\') {
      *to++ = (char)c;
    } else {
      *to++ = '\\';
      *to++ = 'x';
      *to++ = hex[c >> 4];
      *to++ = hex[c & 15];
    }
  }
  out->len += (size_t)(to - start);
}

static void add_quoted(mw_buf *out, mw_str text) {
  mw_buf_add(out, " \"", 2);
  add_escaped(out, text);
  mw_buf_add_byte(out, '"');
}

// "[25/Nov/2026:16:10:26 +0000]". Not by the locale: programs read it.
static void add_time(mw_buf *out, int64_t wall_us) {
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  static __thread time_t last = -1;
  static __thread char text[48];
  static __thread size_t len;
  time_t seconds = (time_t)(wall_us / 1000000);
  if (seconds != last || !len) {
    mw_buf made = MW_BUF_INIT;
    struct tm tm;
    gmtime_r(&seconds, &tm);
    mw_buf_printf(&made, "[%02d/%.3s/%04d:%02d:%02d:%02d +0000]", tm.tm_mday, months + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000, tm.tm_hour,
                  tm.tm_min, tm.tm_sec);
    len = made.len < sizeof text ? made.len : sizeof text;
    memcpy(text, made.ptr, len);
    mw_buf_deinit(&made);
    last = seconds;
  }
  mw_buf_add(out, text, len);
}

static void add_combined(const mw_access_entry *entry, mw_buf *out) {
  add_escaped(out, entry->ip);
  mw_buf_add(out, " - - ", 5);
  add_time(out, entry->wall_us);
  mw_buf_add(out, " \"", 2);
  if (entry->method.len) {
    add_escaped(out, entry->method);
    mw_buf_add_byte(out, ' ');
    add_escaped(out, shown_target(entry));
    mw_buf_add(out, entry->minor ? " HTTP/1.1" : " HTTP/1.0", 9);
  } else {
    mw_buf_add_byte(out, '-');
  }
  mw_buf_add(out, "\" ", 2);
  mw_buf_add_u64(out, (uint64_t)entry->status);
  mw_buf_add_byte(out, ' ');
  mw_buf_add_u64(out, entry->bytes);
  add_quoted(out, entry->referer);
  add_quoted(out, entry->user_agent);
}

/* ---- JSON ---- */

static void add_member(mw_buf *out, const char *key, mw_str text) {
  if (!text.len) return;
  mw_buf_add_cstr(out, key);
  mw_json_add_string(out, cut(text));
}

static void add_ms(mw_buf *out, int64_t ns) {
  uint64_t us = (uint64_t)(ns + 500) / 1000, rest = us % 1000;
  mw_buf_add_u64(out, us / 1000);
  mw_buf_add(out, (char[]){'.', (char)('0' + rest / 100), (char)('0' + rest / 10 % 10), (char)('0' + rest % 10)}, 4);
}

static void add_json(const mw_access_entry *entry, mw_buf *out) {
  char time_text[MW_CLOCK_TEXT];
  int len = mw_clock_format(entry->wall_us, time_text);
  mw_buf_add_cstr(out, "{\"time\":");
  mw_json_add_string(out, mw_str_of(time_text, (size_t)len));
  add_member(out, ",\"ip\":", entry->ip);
  if (!mw_str_eq(entry->ip, entry->peer)) add_member(out, ",\"peer\":", entry->peer);
  add_member(out, ",\"method\":", entry->method);
  add_member(out, ",\"target\":", shown_target(entry));
  mw_buf_add_cstr(out, entry->minor ? ",\"protocol\":\"HTTP/1.1\",\"status\":" : ",\"protocol\":\"HTTP/1.0\",\"status\":");
  mw_buf_add_u64(out, (uint64_t)entry->status);
  mw_buf_add_cstr(out, ",\"bytes\":");
  mw_buf_add_u64(out, entry->bytes);
  mw_buf_add_cstr(out, ",\"duration_ms\":");
  add_ms(out, entry->duration_ns);
  add_member(out, ",\"route\":", entry->route);
  add_member(out, ",\"trace_id\":", entry->trace_id);
  add_member(out, ",\"tls\":", entry->tls);
  add_member(out, ",\"host\":", entry->host);
  add_member(out, ",\"referer\":", entry->referer);
  add_member(out, ",\"user_agent\":", entry->user_agent);
  mw_buf_add_byte(out, '}');
}

void mw_access_format_line(mw_access_format format, const mw_access_entry *entry, mw_buf *out) {
  if (format == MW_ACCESS_JSON) add_json(entry, out);
  else add_combined(entry, out);
  mw_buf_add_byte(out, '\n');
}
