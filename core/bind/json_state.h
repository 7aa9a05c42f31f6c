// SPDX-License-Identifier: MIT
#pragma once

// What the halves of bind_json share: one reader and its buffers a Lua state. They are a userdata, so that an error that
// leaves a C function by longjmp leaks nothing, and so that decoding allocates nothing but the values. Decoding and encoding
// run no Lua code, hence one set is enough.

#include <lua.h>

#include "base/buf.h"
#include "base/json.h"

typedef struct mw_json_state {
  mw_json_reader reader;
  mw_buf out;  /**< Text that l_encode makes. */
  mw_buf keys; /**< Slices: names of the members of open objects, when they are sorted. */
  const void *array_mark, *box_mark; /**< lua_topointer of the metatables, to compare with; the registry holds them. */
} mw_json_state;

/** Pushes the state's array mark (a metatable). */
void mw_json_push_array_mark(lua_State *L);
/** Pushes the metatable of boxes. */
void mw_json_push_box_mark(lua_State *L);
/** Returns the state's set; pushes nothing. */
mw_json_state *mw_json_state_of(lua_State *L);
