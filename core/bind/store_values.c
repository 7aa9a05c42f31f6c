// SPDX-License-Identifier: MIT
#include "bind/store_values.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "bind/bind_json.h"
#include "vm/vm.h"

/* ---- parameters ---- */

static mw_value number_value(lua_Number number) {
  if (floor(number) == number && fabs(number) <= 9007199254740992.0) return MW_VALUE_OF_INT((int64_t)number);
  return (mw_value){.kind = MW_VALUE_NUM, .num = number};
}

static mw_value string_value(mw_str text) {
  bool is_text = mw_str_find_byte(text, 0) < 0 && mw_str_is_utf8(text);
  return is_text ? MW_VALUE_OF_TEXT(text) : MW_VALUE_OF_BLOB(text);
}

static mw_value id_value(lua_State *L, int position, mw_arena *arena, bool for_sqlite) {
  mw_id id;
  mw_str text = {NULL, 0};
  lua_getfield(L, -1, "id");
  if (lua_type(L, -1) == LUA_TSTRING) text.ptr = lua_tolstring(L, -1, &text.len);
  if (!text.ptr || !mw_id_parse(text, &id))
    luaL_error(L, "parameter %d is a table; a column holds text, numbers and booleans: encode it with mw.json.encode", position);
  mw_value value = for_sqlite ? MW_VALUE_OF_BLOB(mw_str_of(memcpy(mw_arena_alloc(arena, 16), id.bytes, 16), 16))
                              : MW_VALUE_OF_TEXT(mw_arena_str(arena, text));
  lua_pop(L, 1);
  return value;
}

static mw_value read_value(lua_State *L, int position, mw_arena *arena, bool for_sqlite) {
  mw_str text;
  switch (lua_type(L, -1)) {
  case LUA_TNIL: return MW_VALUE_OF_NULL;
  case LUA_TBOOLEAN: return (mw_value){.kind = MW_VALUE_BOOL, .i = lua_toboolean(L, -1)};
  case LUA_TNUMBER: return number_value(lua_tonumber(L, -1));
  case LUA_TSTRING: text.ptr = lua_tolstring(L, -1, &text.len); return string_value(text);
  case LUA_TTABLE: return id_value(L, position, arena, for_sqlite);
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, -1) == NULL) return MW_VALUE_OF_NULL; // mw.null
    break;
  default: break;
  }
  luaL_error(L, "parameter %d is a %s; a column holds text, numbers, booleans and nil", position, luaL_typename(L, -1));
  return MW_VALUE_OF_NULL;
}

// nil leaves holes, so the largest index counts, not #list.
static size_t last_index(lua_State *L, int index) {
  size_t last = 0;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    lua_Number key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (key < 1 || floor(key) != key) luaL_error(L, "the parameters must be a list: {first, second, …}");
    if (key > MW_STORE_MAX_PARAMS) luaL_error(L, "a statement takes at most %d parameters", MW_STORE_MAX_PARAMS);
    if ((size_t)key > last) last = (size_t)key;
  }
  return last;
}

const mw_value *mw_store_read_params(lua_State *L, int index, mw_arena *arena, bool for_sqlite, size_t *count) {
  *count = 0;
  if (lua_isnoneornil(L, index)) return NULL;
  luaL_checktype(L, index, LUA_TTABLE);
  size_t n = last_index(L, index);
  mw_value *values = mw_arena_alloc(arena, (n ? n : 1) * sizeof *values);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    values[i] = read_value(L, (int)i + 1, arena, for_sqlite);
    lua_pop(L, 1); // the list still holds the string
  }
  *count = n;
  return values;
}

/* ---- rows ---- */

// Beyond 2^53 a number would lie, so it comes as text, as in JSON.
static void push_integer(lua_State *L, int64_t value) {
  char digits[24];
  if (value <= 9007199254740992 && value >= -9007199254740992) {
    lua_pushnumber(L, (lua_Number)value);
    return;
  }
  snprintf(digits, sizeof digits, "%" PRId64, value);
  lua_pushstring(L, digits);
}

static void push_value(lua_State *L, const mw_value *value, bool ids) {
  char text[MW_ID_TEXT];
  switch (value->kind) {
  case MW_VALUE_NULL: lua_pushnil(L); break;
  case MW_VALUE_BOOL: lua_pushboolean(L, value->i != 0); break;
  case MW_VALUE_INT: push_integer(L, value->i); break;
  case MW_VALUE_NUM: lua_pushnumber(L, value->num); break;
  case MW_VALUE_TEXT: lua_pushlstring(L, value->str.ptr ? value->str.ptr : "", value->str.len); break;
  case MW_VALUE_BLOB:
    if (ids && value->str.len == 16) {
      mw_id_format((const mw_id *)value->str.ptr, text);
      lua_pushlstring(L, text, MW_ID_TEXT - 1);
    } else lua_pushlstring(L, value->str.ptr ? value->str.ptr : "", value->str.len);
    break;
  }
}

void mw_store_push_rows(lua_State *L, const mw_rows *rows, bool ids) {
  luaL_checkstack(L, (int)rows->columns + 8, "too many columns");
  lua_createtable(L, (int)rows->count, 0);
  int list = lua_gettop(L);
  for (size_t c = 0; c < rows->columns; c++) lua_pushlstring(L, rows->names[c].ptr, rows->names[c].len);
  for (size_t r = 0; r < rows->count; r++) {
    lua_createtable(L, 0, (int)rows->columns);
    for (size_t c = 0; c < rows->columns; c++) {
      const mw_value *value = &rows->values[r * rows->columns + c];
      if (value->kind == MW_VALUE_NULL) continue;
      lua_pushvalue(L, list + 1 + (int)c);
      push_value(L, value, ids);
      lua_rawset(L, -3);
    }
    lua_rawseti(L, list, (int)r + 1);
  }
  lua_settop(L, list);
  // Not a member of the list, so that it is an array in JSON.
  mw_json_push_array_meta(L);
  lua_createtable(L, 0, 1);
  lua_pushnumber(L, (lua_Number)rows->affected);
  lua_setfield(L, -2, "affected");
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "mw.rows");
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, list);
}

int mw_store_push_failure(lua_State *L, int status, const mw_err *err, const char *sqlstate) {
  mw_vm_push_failure(L, status, err && err->text[0] ? err->text : NULL);
  if (sqlstate && sqlstate[0]) {
    lua_pushstring(L, sqlstate);
    lua_setfield(L, -2, "sqlstate");
  }
  return 2;
}
