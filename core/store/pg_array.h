// SPDX-License-Identifier: MIT
#pragma once

// Arrays in PostgreSQL's binary form, so that a group of any size is a handful of parameters of one prepared
// statement and payloads need no quoting.
//
//   mw_pg_array ids; mw_pg_array_init(&ids, MW_PG_UUID); mw_pg_array_add_id(&ids, &id); …
//   mw_pg_params_add_array(&params, &ids);

#include <stdint.h>

#include "base/buf.h"
#include "base/id.h"
#include "store/pg_value.h"

enum {
  MW_PG_INT8 = 20,
  MW_PG_TEXT = 25,
  MW_PG_UUID = 2950
};

typedef struct mw_pg_array {
  mw_buf buf;
  uint32_t count;
  bool has_null;
} mw_pg_array;

/** Empties it (the memory is kept) for elements of the type with that OID. */
void mw_pg_array_init(mw_pg_array *array, uint32_t oid);
void mw_pg_array_deinit(mw_pg_array *array);
void mw_pg_array_add_i64(mw_pg_array *array, int64_t value);
void mw_pg_array_add_id(mw_pg_array *array, const mw_id *id);
void mw_pg_array_add_text(mw_pg_array *array, mw_str text);
/** Adds the text, or NULL for an empty one. */
void mw_pg_array_add_text_or_null(mw_pg_array *array, mw_str text);

/** Parameters over fixed arrays of `room` entries, for statements of the engine. */
#define MW_PG_PARAMS_ROOM 24
typedef struct mw_pg_binds {
  const char *values[MW_PG_PARAMS_ROOM];
  int lengths[MW_PG_PARAMS_ROOM], formats[MW_PG_PARAMS_ROOM];
  char numbers[MW_PG_PARAMS_ROOM][24];
  int count;
} mw_pg_binds;

/** Appends a parameter; arrays and texts are borrowed until the op is done. */
void mw_pg_bind_array(mw_pg_binds *binds, mw_pg_array *array);
void mw_pg_bind_i64(mw_pg_binds *binds, int64_t value);
/** `text` ends in zero; NULL is NULL. */
void mw_pg_bind_text(mw_pg_binds *binds, const char *text);
mw_pg_params mw_pg_binds_params(mw_pg_binds *binds);
