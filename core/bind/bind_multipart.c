// SPDX-License-Identifier: MIT
#include "bind/bind_multipart.h"

#include <lauxlib.h>

#include "http/multipart.h"
#include "vm/vm.h"

#define TYPE "mw.multipart"

static mw_str check_str(lua_State *L, int index) {
  mw_str text;
  text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

static int l_new(lua_State *L) {
  mw_str content_type = check_str(L, 1);
  mw_multipart *m = lua_newuserdata(L, sizeof *m);
  mw_err err;
  int rc = mw_multipart_init(m, content_type, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

static void push_optional(lua_State *L, mw_str text, bool is_there) {
  if (is_there) lua_pushlstring(L, text.ptr, text.len);
  else lua_pushnil(L);
}

static int l_next(lua_State *L) {
  mw_multipart *m = luaL_checkudata(L, 1, TYPE);
  mw_str piece = check_str(L, 2), data;
  size_t at = (size_t)luaL_checkinteger(L, 3);
  luaL_argcheck(L, at >= 1 && at <= piece.len + 1, 3, "outside of the piece");
  data = mw_str_of(piece.ptr + at - 1, piece.len - at + 1);
  static const char *const names[] = {"more", "part", "data", "end", "done"};
  mw_str content;
  mw_err err;
  mw_multipart_event event = mw_multipart_next(m, &data, &content, &err);
  if (event == MW_MULTIPART_ERROR) return mw_vm_push_failure(L, err.code, err.text);
  lua_pushstring(L, names[event]);
  lua_pushinteger(L, (lua_Integer)(piece.len - data.len + 1));
  if (event == MW_MULTIPART_DATA) {
    lua_pushlstring(L, content.ptr, content.len);
    return 3;
  }
  if (event != MW_MULTIPART_PART) return 2;
  lua_pushlstring(L, m->part.name.ptr, m->part.name.len);
  push_optional(L, m->part.type, m->part.type.len > 0);
  push_optional(L, m->part.filename, m->part.is_file);
  push_optional(L, m->part.raw_filename, m->part.is_file);
  return 6;
}

static int l_finish(lua_State *L) {
  mw_err err;
  int rc = mw_multipart_finish(luaL_checkudata(L, 1, TYPE), &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  lua_pushboolean(L, 1);
  return 1;
}

static const luaL_Reg functions[] = {{"new", l_new}, {"next", l_next}, {"finish", l_finish}, {NULL, NULL}};

static int open_module(lua_State *L) {
  luaL_newmetatable(L, TYPE);
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_multipart(lua_State *L) {
  mw_vm_add_module(L, "mw.core.multipart", open_module);
  return 0;
}
