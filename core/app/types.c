// SPDX-License-Identifier: MIT
#include "app/types.h"

#include <lauxlib.h>
#include <lua.h>

#include "app/plain_lua.h"
#include "app/project.h"
#include "app/rig_lua.h"
#include "base/embed.h"

static void push_sources(lua_State *L) {
  lua_newtable(L);
  for (const mw_embed *file = mw_embedded_lua; file->name; file++) {
    lua_pushlstring(L, file->begin, mw_embed_size(file));
    lua_setfield(L, -2, file->name);
  }
}

// What a project's folder may hold under our names is not ours.
static void forget_path(lua_State *L) {
  lua_getglobal(L, "package");
  lua_pushliteral(L, "");
  lua_setfield(L, -2, "path");
  lua_pop(L, 1);
}

static void require_module(lua_State *L, const char *name) {
  lua_getglobal(L, "require");
  lua_pushstring(L, name);
  lua_call(L, 1, 1);
}

/** types -> types, text. The text is types[function](live, sources). */
static void make(lua_State *L, const char *function, void (*push_live)(lua_State *L)) {
  lua_getfield(L, 1, function);
  push_live(L);
  push_sources(L);
  lua_call(L, 2, 1);
}

static void push_mw(lua_State *L) {
  require_module(L, "mw");
  lua_getfield(L, -1, "public");
  lua_newtable(L);
  lua_pushliteral(L, "types");
  lua_setfield(L, -2, "name");
  lua_call(L, 1, 1);
  lua_remove(L, -2);
}

static void push_testing(lua_State *L) { require_module(L, "mw.testing"); }

/** In a protected call: leaves the texts of mw.lua and mw/testing.lua. */
static int l_make(lua_State *L) {
  mw_plain_lua_open(L);
  mw_open_rig(L);
  forget_path(L);
  require_module(L, "mw._types");
  make(L, "stub", push_mw);
  make(L, "testing_stub", push_testing);
  return 2;
}

static int write_file(lua_State *L, int index, const char *folder, const char *name, mw_err *err) {
  mw_buf path = MW_BUF_INIT;
  mw_str text;
  text.ptr = lua_tolstring(L, index, &text.len);
  mw_buf_printf(&path, "%s/%s", folder, name);
  int rc = mw_project_replace(mw_buf_cstr(&path), text, err);
  mw_buf_deinit(&path);
  return rc;
}

int mw_types_write(const char *dir, mw_buf *folder, mw_err *err) {
  lua_State *L = mw_plain_lua_new();
  if (!L) return mw_err_set(err, MW_ELUA, "not enough memory for a Lua state");
  mw_buf_printf(folder, "%s/%s", dir, MW_TYPES_FOLDER);
  lua_pushcfunction(L, l_make);
  int rc = 0;
  if (lua_pcall(L, 0, 2, 0)) rc = mw_err_set(err, MW_ELUA, "the types cannot be made: %s", lua_tostring(L, -1));
  if (!rc) rc = write_file(L, -2, mw_buf_cstr(folder), "mw.lua", err);
  if (!rc) rc = write_file(L, -1, mw_buf_cstr(folder), "mw/testing.lua", err);
  lua_close(L);
  return rc;
}
