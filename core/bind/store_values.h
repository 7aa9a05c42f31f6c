// SPDX-License-Identifier: MIT
#pragma once

// Lua values to statement parameters and rows to Lua tables; for bind_store.c and store_tx.c.

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "store/store.h"

/** Most parameters of a statement. */
#define MW_STORE_MAX_PARAMS 65535

/** Reads a list of parameters (nil: none) at `index` into `arena`; raises for a value no column can hold. `for_sqlite`: ids become
 *  16-byte blobs. Texts stay borrowed from the stack. */
const mw_value *mw_store_read_params(lua_State *L, int index, mw_arena *arena, bool for_sqlite, size_t *count);
/** Pushes a list of rows, an array in JSON, with a field `affected`. With `ids` a blob of 16 bytes becomes an id's text. */
void mw_store_push_rows(lua_State *L, const mw_rows *rows, bool ids);
/** Pushes nil and an error object with `sqlstate`; returns 2. */
int mw_store_push_failure(lua_State *L, int status, const mw_err *err, const char *sqlstate);
