// SPDX-License-Identifier: MIT
#include <lauxlib.h>

#include "bind/bind_json.h"
#include "bind/json_state.h"

enum { MAX_DEPTH = 200 };

typedef struct decoder {
  lua_State *L;
  mw_json_reader *reader;
  int boxed; // stack index of the set of top members to box, or 0
  bool nulls;
} decoder;

static bool push_value(decoder *d, mw_json_token token, bool in_array);

// Values wait on the stack until a table of the right size can be made; deep levels get less room, because the C stack
// of Lua has 8,000 slots.
static int room_at(int depth) { return depth <= 16 ? 128 : depth <= 100 ? 32 : 4; }

// base: nothing, or the table when `made`; above it the waiting values.
static void flush_items(lua_State *L, int base, bool made, int *stored) {
  int count = lua_gettop(L) - base - made;
  if (!made) {
    lua_createtable(L, count, 0);
    lua_insert(L, base + 1);
  }
  for (int i = 0; i < count; i++) {
    lua_pushvalue(L, base + 2 + i);
    lua_rawseti(L, base + 1, ++*stored);
  }
  lua_settop(L, base + 1);
}

static bool push_array(decoder *d) {
  lua_State *L = d->L;
  int base = lua_gettop(L), room = room_at(d->reader->depth), stored = 0;
  bool made = false;
  luaL_checkstack(L, room + 8, "the JSON nests too deep");
  for (mw_json_token token; (token = mw_json_read(d->reader)) != MW_JSON_ARRAY_END;) {
    if (!push_value(d, token, true)) return false;
    if (lua_gettop(L) - base - made < room) continue;
    flush_items(L, base, made, &stored);
    made = true;
  }
  flush_items(L, base, made, &stored);
  mw_json_mark_array(L);
  return true;
}

static void flush_members(lua_State *L, int base, bool made) {
  int count = (lua_gettop(L) - base - made) / 2;
  if (!made) {
    lua_createtable(L, 0, count);
    lua_insert(L, base + 1);
  }
  for (int i = 0; i < count; i++) { // forward, so that the last of equal names wins
    lua_pushvalue(L, base + 2 + 2 * i);
    lua_pushvalue(L, base + 3 + 2 * i);
    lua_rawset(L, base + 1);
  }
  lua_settop(L, base + 1);
}

// The name is on top. Boxes its value when it is a member of the whole text that was asked for.
static bool push_boxed(decoder *d, bool *done) {
  lua_State *L = d->L;
  lua_pushvalue(L, -1);
  lua_rawget(L, d->boxed);
  *done = lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (!*done) return true;
  if (mw_json_skip(d->reader)) return false;
  mw_json_push_box(L, d->reader->raw);
  return true;
}

static bool push_object(decoder *d) {
  lua_State *L = d->L;
  int base = lua_gettop(L), room = room_at(d->reader->depth);
  bool made = false;
  luaL_checkstack(L, room + 8, "the JSON nests too deep");
  for (mw_json_token token; (token = mw_json_read(d->reader)) != MW_JSON_OBJECT_END;) {
    if (token != MW_JSON_KEY) return false;
    lua_pushlstring(L, d->reader->text.ptr, d->reader->text.len);
    bool boxed = false;
    if (d->boxed && d->reader->depth == 1 && !push_boxed(d, &boxed)) return false;
    if (!boxed && !push_value(d, mw_json_read(d->reader), false)) return false;
    if (lua_gettop(L) - base - made < room) continue;
    flush_members(L, base, made);
    made = true;
  }
  flush_members(L, base, made);
  return true;
}

static bool push_value(decoder *d, mw_json_token token, bool in_array) {
  lua_State *L = d->L;
  const mw_json_reader *r = d->reader;
  switch (token) {
  case MW_JSON_NULL:
    if (in_array || d->nulls) mw_json_push_null(L);
    else lua_pushnil(L);
    return true;
  case MW_JSON_FALSE: lua_pushboolean(L, 0); return true;
  case MW_JSON_TRUE: lua_pushboolean(L, 1); return true;
  case MW_JSON_NUMBER:
    if (r->is_big) lua_pushlstring(L, r->raw.ptr, r->raw.len);
    else lua_pushnumber(L, r->number);
    return true;
  case MW_JSON_STRING: lua_pushlstring(L, r->text.ptr, r->text.len); return true;
  case MW_JSON_ARRAY_BEGIN: return push_array(d);
  case MW_JSON_OBJECT_BEGIN: return push_object(d);
  default: return false;
  }
}

int mw_json_push(lua_State *L, mw_str text, const mw_json_decode_opts *opts, mw_err *err) {
  static const mw_json_decode_opts defaults = {{0, 0}, false, 0};
  if (!opts) opts = &defaults;
  mw_json_limits limits = opts->limits;
  if (limits.max_depth > MAX_DEPTH) limits.max_depth = MAX_DEPTH;

  int top = lua_gettop(L);
  luaL_checkstack(L, 8, "json");
  mw_json_reader *r = &mw_json_state_of(L)->reader;
  mw_json_reader_restart(r, text, &limits);
  decoder d = {L, r, opts->raw, opts->nulls};
  if (push_value(&d, mw_json_read(r), false) && mw_json_read(r) == MW_JSON_END) return 0;
  lua_settop(L, top);
  return mw_err_set(err, r->err.code, "%s", r->err.text);
}
