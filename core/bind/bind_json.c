// SPDX-License-Identifier: MIT
#include "bind/bind_json.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/json_state.h"
#include "vm/vm.h"

enum { KEEP_OUT = 64 * 1024 };

static char state_key, array_key, box_key; // their addresses name values in the registry

static void push_registered(lua_State *L, void *key) {
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

void mw_json_push_array_mark(lua_State *L) { push_registered(L, &array_key); }
void mw_json_push_box_mark(lua_State *L) { push_registered(L, &box_key); }
void mw_json_push_null(lua_State *L) { lua_pushlightuserdata(L, NULL); }

mw_json_state *mw_json_state_of(lua_State *L) {
  push_registered(L, &state_key);
  mw_json_state *state = lua_touserdata(L, -1);
  lua_pop(L, 1); // the registry keeps it
  return state;
}

void mw_json_mark_array(lua_State *L) {
  mw_json_push_array_mark(L);
  lua_setmetatable(L, -2);
}

void mw_json_push_array_meta(lua_State *L) {
  lua_createtable(L, 0, 3);
  mw_json_push_array_mark(L);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
}

void mw_json_push_box(lua_State *L, mw_str text) {
  void *bytes = lua_newuserdata(L, text.len);
  if (text.len) memcpy(bytes, text.ptr, text.len);
  mw_json_push_box_mark(L);
  lua_setmetatable(L, -2);
}

static mw_str check_text(lua_State *L) {
  mw_str text;
  text.ptr = luaL_checklstring(L, 1, &text.len);
  return text;
}

static int l_decode(lua_State *L) {
  mw_str text = check_text(L);
  mw_json_decode_opts opts = {{0, 0}, false, 0};
  lua_settop(L, 2);
  if (lua_istable(L, 2)) {
    lua_getfield(L, 2, "null");
    opts.nulls = lua_toboolean(L, -1) || lua_islightuserdata(L, -1);
    lua_getfield(L, 2, "raw");
    if (lua_istable(L, -1)) opts.raw = lua_gettop(L);
  }
  mw_err err;
  int rc = mw_json_push(L, text, &opts, &err);
  return rc ? mw_vm_push_failure(L, rc, err.text) : 1;
}

static int l_encode(lua_State *L) {
  mw_json_encode_opts opts = {false, NULL, 0};
  luaL_checkany(L, 1);
  lua_settop(L, 2);
  if (lua_istable(L, 2)) {
    lua_getfield(L, 2, "sort");
    opts.sort = lua_toboolean(L, -1);
    lua_getfield(L, 2, "name");
    opts.name = lua_tostring(L, -1); // stays on the stack, so the text lives
  }
  mw_buf *out = &mw_json_state_of(L)->out;
  mw_buf_reset(out, KEEP_OUT);
  mw_err err;
  int rc = mw_json_encode(L, 1, &opts, out, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  lua_pushlstring(L, out->ptr, out->len);
  mw_buf_reset(out, KEEP_OUT);
  return 1;
}

static int l_check(lua_State *L) {
  mw_err err;
  mw_str text = check_text(L);
  int rc = mw_json_check(text, NULL, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_raw(lua_State *L) {
  mw_err err;
  mw_str text = check_text(L);
  int rc = mw_json_check(text, NULL, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  mw_json_push_box(L, text);
  return 1;
}

static int l_box(lua_State *L) {
  mw_json_push_box(L, check_text(L));
  return 1;
}

static int l_array(lua_State *L) {
  if (lua_isnoneornil(L, 1)) lua_newtable(L);
  else {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
  }
  mw_json_mark_array(L);
  return 1;
}

static int l_is_array(lua_State *L) {
  bool marked = false;
  mw_json_push_array_mark(L);
  if (lua_istable(L, 1) && lua_getmetatable(L, 1)) {
    marked = lua_rawequal(L, -1, -2);
    lua_pushvalue(L, -2);
    lua_rawget(L, -2);
    marked = marked || lua_toboolean(L, -1);
  }
  lua_pushboolean(L, marked);
  return 1;
}

static int l_null_text(lua_State *L) {
  if (lua_touserdata(L, 1)) lua_pushfstring(L, "userdata: %p", lua_touserdata(L, 1));
  else lua_pushliteral(L, "null");
  return 1;
}

static int l_box_text(lua_State *L) {
  mw_json_push_box_mark(L);
  if (!lua_isuserdata(L, 1) || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, -2)) {
    return luaL_argerror(L, 1, "raw JSON expected");
  }
  lua_pushlstring(L, lua_touserdata(L, 1), lua_objlen(L, 1));
  return 1;
}

static int l_collect(lua_State *L) {
  mw_json_state *state = lua_touserdata(L, 1);
  mw_json_reader_deinit(&state->reader);
  mw_buf_deinit(&state->out);
  mw_buf_deinit(&state->keys);
  return 0;
}

// Pops a table, keeps it under `key` and returns what it is known by. Plugins share these, so they see only its name.
static const void *register_mark(lua_State *L, void *key, const char *name) {
  const void *mark = lua_topointer(L, -1);
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__metatable");
  lua_pushlightuserdata(L, key);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
  return mark;
}

static void register_state(lua_State *L) {
  lua_pushlightuserdata(L, &state_key);
  mw_json_state *state = lua_newuserdata(L, sizeof *state);
  memset(state, 0, sizeof *state);
  mw_json_reader_init(&state->reader, MW_STR(""), NULL);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_collect);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static void register_null(lua_State *L) {
  lua_pushlightuserdata(L, NULL); // one metatable serves all light userdata
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, l_null_text);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "mw.null");
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

static const luaL_Reg functions[] = {
    {"decode", l_decode}, {"encode", l_encode}, {"check", l_check},       {"raw", l_raw},
    {"box", l_box},       {"array", l_array},   {"is_array", l_is_array}, {NULL, NULL},
};

static int open_module(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}

int mw_open_json(lua_State *L) {
  register_state(L);
  register_null(L);
  lua_newtable(L);
  mw_json_state *state = mw_json_state_of(L);
  state->array_mark = register_mark(L, &array_key, "mw.array");
  lua_newtable(L);
  lua_pushcfunction(L, l_box_text);
  lua_setfield(L, -2, "__tostring");
  state->box_mark = register_mark(L, &box_key, "mw.json");
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open_module);
  lua_setfield(L, -2, "mw.core.json");
  lua_pop(L, 2);
  return 0;
}
