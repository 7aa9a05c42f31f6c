// SPDX-License-Identifier: MIT
#pragma once

// mw.core.json: JSON to Lua values and back, without a tree in between. lua/mw/json.lua is its public face and says what the
// values look like (design/api.md, "Values"). Other bindings that read or answer JSON call the functions below.
//
//   json.decode(text [, {null = json.null}]) -> value | nil, err       a lone null is nil, without err
//   json.decode(text, {raw = {input = true}})                          these members of the outermost object come as boxes
//   json.encode(value [, {sort = true, name = "input"}]) -> text | nil, err
//   json.check(text) -> true | nil, err          json.raw(text) -> box | nil, err      json.box(text) -> box, not checked
//   json.array([table]) -> table                 json.is_array(value) -> boolean       json.null

#include <lua.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/** Registers `mw.core.json` in package.preload. */
int mw_open_json(lua_State *L);

typedef struct mw_json_decode_opts {
  mw_json_limits limits; /**< Depth at most 200 here. */
  bool nulls;            /**< Show the nulls of objects, and a lone one, as json.null. */
  int raw;               /**< Stack index (positive) of a set of names: such members of the outermost object become boxes. 0: none. */
} mw_json_decode_opts;

/** Pushes the value of `text`. Returns 0, or a code with nothing pushed and `err` filled. `opts` may be NULL. Never yields; runs no Lua
 *  code; raises only when Lua's memory is used up, and leaks nothing then. */
int mw_json_push(lua_State *L, mw_str text, const mw_json_decode_opts *opts, mw_err *err);

typedef struct mw_json_encode_opts {
  bool sort;         /**< Members in bytewise order of their names; otherwise in Lua's order. */
  const char *name;  /**< What errors call the value. NULL: "value". */
  size_t max_bytes;  /**< 0: 64 MiB. */
} mw_json_encode_opts;

/** Appends the value at `index` as JSON to `out`, which the caller owns so that an error of Lua's cannot leak it (vm/scratch.h). Returns
 *  0, or MW_EENCODE with the path of the culprit in `err` and `out` as it was; MW_EKILLED when a hook was set meanwhile (the watchdog
 *  stops the task). `opts` may be NULL. Runs no Lua code, no metamethods. */
int mw_json_encode(lua_State *L, int index, const mw_json_encode_opts *opts, mw_buf *out, mw_err *err);

/** Pushes json.null. */
void mw_json_push_null(lua_State *L);
/** Marks the table on top as an array. */
void mw_json_mark_array(lua_State *L);
/** Pushes a fresh metatable that marks a table as an array and may carry more (an `__index`). */
void mw_json_push_array_meta(lua_State *L);
/** Pushes a box whose bytes are written as they stand when it is encoded. `text` must be one JSON value. */
void mw_json_push_box(lua_State *L, mw_str text);
