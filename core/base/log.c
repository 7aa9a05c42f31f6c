// SPDX-License-Identifier: MIT
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

// A text longer than this is cut, and fields that would make the line longer than LINE are left out and said so.
enum { TEXT = 16 * 1024, LINE = 64 * 1024, PATIENCE_MS = 100 };

static _Atomic int lowest_level = MW_LOG_INFO;
static _Atomic int line_format = MW_LOG_FORMAT_AUTO;
static _Atomic int out_fd = STDERR_FILENO;
static _Atomic int fd_is_terminal = -1; // not looked at yet

static _Thread_local mw_log_line_cb divert_cb;
static _Thread_local void *divert_arg;

static const char *const names[] = {"debug", "info", "warn", "error", "fatal"};

const char *mw_log_level_name(mw_log_level level) { return names[level]; }

bool mw_log_level_parse(mw_str name, mw_log_level *level) {
  for (int i = MW_LOG_DEBUG; i <= MW_LOG_FATAL; i++) {
    if (!mw_str_eq(name, mw_str_from(names[i]))) continue;
    *level = (mw_log_level)i;
    return true;
  }
  return false;
}

void mw_log_configure(mw_log_level lowest, mw_log_format format) {
  lowest_level = (int)lowest;
  line_format = (int)format;
}

void mw_log_to_fd(int fd) {
  out_fd = fd;
  fd_is_terminal = -1;
}

void mw_log_divert(mw_log_line_cb cb, void *arg) {
  divert_cb = cb;
  divert_arg = arg;
}

bool mw_log_is_on(mw_log_level level) { return (int)level >= lowest_level || divert_cb; }

static bool is_pretty(void) {
  if (line_format != MW_LOG_FORMAT_AUTO) return line_format == MW_LOG_FORMAT_PRETTY;
  if (fd_is_terminal < 0) fd_is_terminal = isatty(out_fd);
  return fd_is_terminal != 0;
}

bool mw_log_say(const char *text) {
  if (!is_pretty() || !isatty(out_fd)) return false;
  size_t len = strlen(text);
  return write(out_fd, text, len) == (ssize_t)len;
}

static mw_str cut(mw_str text) {
  if (text.len <= TEXT) return text;
  text.len = TEXT;
  while (text.len && ((unsigned char)text.ptr[text.len] & 0xC0) == 0x80) text.len--;
  return text;
}

// White space between JSON tokens may hold line breaks; within its strings they are escaped.
static void add_json_on_one_line(mw_buf *line, mw_str json) {
  size_t at = line->len;
  mw_buf_add_str(line, json.len ? json : MW_STR("null"));
  for (; at < line->len; at++)
    if (line->ptr[at] == '\n' || line->ptr[at] == '\r') line->ptr[at] = ' ';
}

static void add_value(mw_buf *line, const mw_log_field *field) {
  switch (field->kind) {
  case MW_LOG_KIND_STR: mw_json_add_string(line, cut(field->str)); break;
  case MW_LOG_KIND_INT: mw_buf_add_i64(line, field->i); break;
  case MW_LOG_KIND_NUM:
    if (mw_json_add_number(line, field->num)) mw_buf_add_cstr(line, "null");
    break;
  case MW_LOG_KIND_BOOL: mw_buf_add_cstr(line, field->i ? "true" : "false"); break;
  case MW_LOG_KIND_JSON: add_json_on_one_line(line, field->str); break;
  }
}

static void add_json(mw_buf *line, mw_log_level level, const char *area, const char *message,
                     const mw_log_field *fields) {
  char time_text[MW_CLOCK_TEXT];
  mw_clock_format(mw_clock_wall_us(), time_text);
  mw_buf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"area\":", time_text, names[level]);
  mw_json_add_string(line, mw_str_from(area));
  mw_buf_add_cstr(line, ",\"message\":");
  mw_json_add_string(line, cut(mw_str_from(message)));
  for (const mw_log_field *f = fields; f && f->name; f++) {
    size_t before = line->len;
    mw_buf_add_byte(line, ',');
    mw_json_add_string(line, mw_str_from(f->name));
    mw_buf_add_byte(line, ':');
    add_value(line, f);
    if (line->len <= LINE) continue;
    line->len = before;
    mw_buf_add_cstr(line, ",\"truncated\":true");
    break;
  }
  mw_buf_add_cstr(line, "}\n");
}

#define INDENTED_BREAK "\n    "

static bool is_bare(mw_str text) {
  for (size_t i = 0; i < text.len; i++)
    if ((unsigned char)text.ptr[i] <= ' ' || text.ptr[i] == '"' || text.ptr[i] == '=') return false;
  return text.len > 0;
}

static void add_pretty(mw_buf *line, mw_log_level level, const char *area, const char *message,
                       const mw_log_field *fields) {
  static const char *const colours[] = {"\033[2m", "\033[32m", "\033[33m", "\033[31m", "\033[1;31m"};
  bool coloured = fd_is_terminal > 0 && !getenv("NO_COLOR");
  const char *dim = coloured ? "\033[2m" : "", *plain = coloured ? "\033[0m" : "";
  int64_t now = mw_clock_wall_us();
  time_t seconds = (time_t)(now / 1000000);
  struct tm tm;
  localtime_r(&seconds, &tm);
  mw_buf_printf(line, "%s%02d:%02d:%02d.%03d%s %s%-5s%s %s%-8s%s ", dim, tm.tm_hour, tm.tm_min, tm.tm_sec,
                (int)(now / 1000 % 1000), plain, coloured ? colours[level] : "", names[level], plain, dim, area, plain);
  mw_buf_add_plain(line, cut(mw_str_from(message)), INDENTED_BREAK);
  for (const mw_log_field *f = fields; f && f->name; f++) {
    size_t before = line->len;
    mw_buf_printf(line, " %s%s=%s", dim, f->name, plain);
    if (f->kind == MW_LOG_KIND_STR && (is_bare(f->str) || mw_str_find_byte(f->str, '\n') >= 0)) {
      mw_buf_add_plain(line, cut(f->str), INDENTED_BREAK);
    } else {
      add_value(line, f);
    }
    if (line->len <= LINE) continue;
    line->len = before;
    mw_buf_add_cstr(line, " …");
    break;
  }
  mw_buf_add_byte(line, '\n');
}

// A reader that stopped reading must not stop the server: after a moment the line is given up.
static void write_line(const mw_buf *line) {
  int fd = out_fd;
  const char *at = line->ptr;
  size_t left = line->len;
  while (left) {
    ssize_t wrote = write(fd, at, left);
    if (wrote > 0) {
      at += wrote;
      left -= (size_t)wrote;
    } else if (wrote < 0 && errno == EAGAIN) {
      struct pollfd ready = {fd, POLLOUT, 0};
      if (poll(&ready, 1, PATIENCE_MS) <= 0) return;
    } else if (wrote == 0 || errno != EINTR) return;
  }
}

void mw_log_write(mw_log_level level, const char *area, const char *message, const mw_log_field *fields) {
  if (!mw_log_is_on(level)) return;
  int saved = errno;
  mw_buf line = MW_BUF_INIT;
  mw_buf_reserve(&line, 500);
  if (divert_cb) {
    add_json(&line, level, area, message, fields);
    divert_cb(mw_str_of(line.ptr, line.len - 1), divert_arg);
  } else {
    if (is_pretty()) add_pretty(&line, level, area, message, fields);
    else add_json(&line, level, area, message, fields);
    write_line(&line);
  }
  mw_buf_deinit(&line);
  errno = saved;
}
