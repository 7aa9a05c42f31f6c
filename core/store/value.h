// SPDX-License-Identifier: MIT
#pragma once

// mw_value and mw_rows: what goes into a statement and what comes out, the same for both engines.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

typedef enum mw_value_kind {
  MW_VALUE_NULL,
  MW_VALUE_BOOL, /**< `i` */
  MW_VALUE_INT,  /**< `i` */
  MW_VALUE_NUM,  /**< `num` */
  MW_VALUE_TEXT, /**< `str`, UTF-8; also what a database gives as text (numeric, timestamps, json …) */
  MW_VALUE_BLOB, /**< `str` */
} mw_value_kind;

typedef struct mw_value {
  mw_value_kind kind;
  int64_t i;
  double num;
  mw_str str;
} mw_value;

#define MW_VALUE_OF_INT(v) ((mw_value){.kind = MW_VALUE_INT, .i = (v)})
#define MW_VALUE_OF_TEXT(s) ((mw_value){.kind = MW_VALUE_TEXT, .str = (s)})
#define MW_VALUE_OF_BLOB(s) ((mw_value){.kind = MW_VALUE_BLOB, .str = (s)})
#define MW_VALUE_OF_NULL ((mw_value){.kind = MW_VALUE_NULL})

/** A whole result. Borrowed by a callback until it returns. */
typedef struct mw_rows {
  size_t columns;
  const mw_str *names;    /**< `columns` of them. */
  size_t count;
  const mw_value *values; /**< Row by row: value of row r, column c is `values[r * columns + c]`. */
  int64_t affected;       /**< Rows that an INSERT, UPDATE or DELETE touched. */
} mw_rows;
