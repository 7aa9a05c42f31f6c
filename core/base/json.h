// SPDX-License-Identifier: MIT
#pragma once

// JSON (RFC 8259) without a tree: a pull reader that hands out one token at a time, and writers for the pieces. Whoever
// wants values (Lua, rows) builds them while reading, so nothing is walked twice. The reader accepts exactly what the
// RFC accepts: UTF-8 only, no BOM, no NaN, no trailing commas, no lone surrogate escapes, nothing after the value.
// Not thread-safe; owns nothing but a buffer for strings with escapes.
//
//   mw_json_reader r; mw_json_reader_init(&r, text, &limits);
//   while ((token = mw_json_read(&r)) > MW_JSON_END) …
//   if (token == MW_JSON_ERROR) … r.err (text with line, column and what was expected)
//   mw_json_reader_deinit(&r);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* ffi-begin */
typedef struct mw_json_limits {
  size_t max_bytes; /**< 0: 64 MiB. */
  int max_depth;    /**< 0: 100. At most 1000. */
} mw_json_limits;

typedef enum mw_json_token {
  MW_JSON_ERROR = -1,
  MW_JSON_END = 0, /**< The value is complete and nothing but white space follows. */
  MW_JSON_NULL,
  MW_JSON_FALSE,
  MW_JSON_TRUE,
  MW_JSON_NUMBER, /**< `number`, and `integer` when is_integer. `raw` is its text. */
  MW_JSON_STRING, /**< `text` decoded. */
  MW_JSON_KEY,    /**< `text` decoded; the member's value comes next. */
  MW_JSON_ARRAY_BEGIN,
  MW_JSON_ARRAY_END,
  MW_JSON_OBJECT_BEGIN,
  MW_JSON_OBJECT_END,
} mw_json_token;

typedef struct mw_json_reader {
  const char *begin, *at, *end;
  mw_str text;      /**< Of STRING and KEY: decoded bytes, valid until the next read (points into the input when it had
                         no escapes). */
  mw_str raw;       /**< The token's bytes in the input. */
  double number;
  int64_t integer;  /**< Valid when is_integer. */
  bool is_integer;  /**< Written without fraction or exponent and fits 64 bits. */
  bool is_big;      /**< An integer whose magnitude is over 2^53: a double would lie. */
  mw_err err;
  mw_json_limits limits;
  int depth;        /**< Containers that are open. */
  int state;
  uint64_t objects[16]; /**< One bit a level: an object, else an array. */
  mw_buf scratch;       /**< Strings with escapes are decoded here; kept over a restart. */
} mw_json_reader;

/** Starts reading `input`, which must outlive the reader. `limits` may be NULL. */
void mw_json_reader_init(mw_json_reader *reader, mw_str input, const mw_json_limits *limits);
/** Starts again on another input, keeping the buffer. */
void mw_json_reader_restart(mw_json_reader *reader, mw_str input, const mw_json_limits *limits);
void mw_json_reader_deinit(mw_json_reader *reader);
/** Returns the next token. After ERROR and END it returns the same again. */
mw_json_token mw_json_read(mw_json_reader *reader);
/** Skips the value that comes next (at the start or after a KEY); `raw` is its whole text. Returns 0 or the error. */
int mw_json_skip(mw_json_reader *reader);

/** Checks a whole text; returns 0, or MW_EJSON / MW_ELIMIT / MW_EUTF8 with line and column in `err`. */
int mw_json_check(mw_str input, const mw_json_limits *limits, mw_err *err);

/** Appends `text` as a JSON string with quotes. Ill-formed UTF-8 becomes U+FFFD. `<`, `>`, `&` stay as they are. */
void mw_json_add_string(mw_buf *out, mw_str text);
/** The same, but refuses ill-formed UTF-8: returns MW_EUTF8 and appends nothing. */
int mw_json_add_string_strict(mw_buf *out, mw_str text);
/** Appends the shortest text that reads back as the same double; integers up to 2^53 without fraction. Returns
 *  MW_EINVALID (and appends nothing) for NaN and infinities. */
int mw_json_add_number(mw_buf *out, double number);
/* ffi-end */
