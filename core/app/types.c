// SPDX-License-Identifier: MIT
#include "app/types.h"

#include <lauxlib.h>
#include <lua.h>

#include "app/plain_lua.h"
#include "app/project.h"
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

/** In a protected call: leaves the text. */
static int l_make(lua_State *L) {
  mw_plain_lua_open(L);
  forget_path(L);
  require_module(L, "mw._types");
  lua_getfield(L, -1, "stub");  // types, stub
  require_module(L, "mw");
  lua_getfield(L, -1, "public");
  lua_newtable(L);
  lua_pushliteral(L, "types");
  lua_setfield(L, -2, "name");
  lua_call(L, 1, 1);  // types, stub, mw module, mw
  lua_remove(L, -2);
  push_sources(L);
  lua_call(L, 2, 1);
  return 1;
}

int mw_types_make(mw_buf *out, mw_err *err) {
  lua_State *L = mw_plain_lua_new();
  if (!L) return mw_err_set(err, MW_ELUA, "not enough memory for a Lua state");
  lua_pushcfunction(L, l_make);
  int rc = 0;
  size_t len;
  if (lua_pcall(L, 0, 1, 0)) rc = mw_err_set(err, MW_ELUA, "the stubs cannot be made: %s", lua_tostring(L, -1));
  else {
    const char *text = lua_tolstring(L, -1, &len);
    mw_buf_add(out, text, len);
  }
  lua_close(L);
  return rc;
}

int mw_types_write(const char *dir, mw_buf *path, mw_err *err) {
  mw_buf text = MW_BUF_INIT;
  mw_buf_printf(path, "%s/%s", dir, MW_TYPES_PATH);
  int rc = mw_types_make(&text, err);
  if (!rc) rc = mw_project_replace(mw_buf_cstr(path), mw_buf_str(&text), err);
  mw_buf_deinit(&text);
  return rc;
}
