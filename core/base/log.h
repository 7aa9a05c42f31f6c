// SPDX-License-Identifier: MIT
#pragma once

// Log lines of the program itself: one line an event, JSON when stderr is no terminal, coloured text when it is.
// A line is written with one write(2), so lines of threads and processes do not mix. Thread-safe. Never fails.
//
//   mw_log(MW_LOG_INFO, "http", "listening", MW_LOG_S("address", addr), MW_LOG_I("workers", n));

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* ffi-begin */
typedef enum mw_log_level {
  MW_LOG_DEBUG,
  MW_LOG_INFO,
  MW_LOG_WARN,
  MW_LOG_ERROR,
  MW_LOG_FATAL
} mw_log_level;

typedef enum mw_log_kind { MW_LOG_KIND_STR, MW_LOG_KIND_INT, MW_LOG_KIND_NUM, MW_LOG_KIND_BOOL, MW_LOG_KIND_JSON } mw_log_kind;

typedef struct mw_log_field {
  const char *name; /**< NULL ends the list. */
  mw_log_kind kind;
  mw_str str; /**< For STR, and for JSON: text that is already JSON. */
  int64_t i;
  double num;
} mw_log_field;
/* ffi-end */

#define MW_LOG_S(name, text) ((mw_log_field){(name), MW_LOG_KIND_STR, mw_str_from(text), 0, 0})
#define MW_LOG_STR(name, slice) ((mw_log_field){(name), MW_LOG_KIND_STR, (slice), 0, 0})
#define MW_LOG_I(name, value) ((mw_log_field){(name), MW_LOG_KIND_INT, {0, 0}, (int64_t)(value), 0})
#define MW_LOG_F(name, value) ((mw_log_field){(name), MW_LOG_KIND_NUM, {0, 0}, 0, (value)})
#define MW_LOG_B(name, value) ((mw_log_field){(name), MW_LOG_KIND_BOOL, {0, 0}, (value), 0})
#define MW_LOG_JSON(name, slice) ((mw_log_field){(name), MW_LOG_KIND_JSON, (slice), 0, 0})

/** Writes a line: level, area ("http", "store", "plugin"), message, then any fields. */
#define mw_log(level, area, ...) mw_log_args_((level), (area), __VA_ARGS__, (mw_log_field){0})
#define mw_log_args_(level, area, message, ...)                                                                \
  mw_log_write((level), (area), (message), (const mw_log_field[]){__VA_ARGS__})

/* ffi-begin */
void mw_log_write(mw_log_level level, const char *area, const char *message, const mw_log_field *fields);

typedef enum mw_log_format { MW_LOG_FORMAT_AUTO, MW_LOG_FORMAT_JSON, MW_LOG_FORMAT_PRETTY } mw_log_format;

/** Sets the lowest level written and the format. Call before threads start. Defaults: info, auto. */
void mw_log_configure(mw_log_level lowest, mw_log_format format);
/** Writes `text` as it stands, but only where a person reads along: pretty lines on a terminal. False when it was not written. */
bool mw_log_say(const char *text);
/** True when a line of `level` would be written. */
bool mw_log_is_on(mw_log_level level);
/** Returns "debug", "info", "warn", "error" or "fatal". */
const char *mw_log_level_name(mw_log_level level);
/** Parses such a name; returns false on anything else. */
bool mw_log_level_parse(mw_str name, mw_log_level *level);
/** Sends lines to `fd` instead of stderr. For specs and for the log file. */
void mw_log_to_fd(int fd);
/* ffi-end */

/** What a diverted line is given to: JSON, without its line end; borrowed until it returns. */
typedef void (*mw_log_line_cb)(mw_str line, void *arg);
/** Gives every line of the calling thread, of any level, to `cb` instead of writing it; NULL: writes again. For specs of plugins. */
void mw_log_divert(mw_log_line_cb cb, void *arg);
