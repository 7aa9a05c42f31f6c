// SPDX-License-Identifier: MIT
#pragma once

// Values on their way to PostgreSQL and back, and its errors as ours.
//
// Parameters go as text with their types left to the server, so that `WHERE id = $1` works for any column; a
// blob goes as bytes. Results: booleans, integers and floats become such values, bytea a blob, everything else
// (numeric, timestamps, uuid, json …) the server's text.


#include "base/arena.h"
#include "base/err.h"
#include "store/pq.h"
#include "store/value.h"

/** What PQsendQueryPrepared takes; arrays live in the arena. */
typedef struct mw_pg_params {
  int count;
  const char **values;
  int *lengths;
  int *formats;
} mw_pg_params;

/** Makes `wanted` parameters from `values`: missing ones are NULL. MW_EINVALID when there are more than the
 * statement takes, or for a text with a NUL byte, which PostgreSQL cannot hold. */
int mw_pg_params_make(mw_pg_params *params, mw_arena *arena, const mw_value *values, size_t count, int wanted,
                      mw_err *err);

/** Returns the value of one field, with its bytes copied into the arena. */
mw_value mw_pg_value_get(mw_arena *arena, const PGresult *result, int row, int column);

/** Five letters and a closing zero. */
#define MW_PG_SQLSTATE 6
/** Fills `err` and `sqlstate` from a failed result: the server's message, detail, hint and position. Returns
 * our code. */
int mw_pg_error_get(const PGresult *result, char sqlstate[MW_PG_SQLSTATE], mw_err *err);
/** Returns our code of a SQLSTATE (""  : MW_EUNAVAILABLE, because libpq leaves it out when the connection is
 * lost). */
int mw_pg_error_code(const char *sqlstate);
