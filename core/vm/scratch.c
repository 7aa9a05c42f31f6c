// SPDX-License-Identifier: MIT
#include "vm/scratch.h"

#include <lauxlib.h>

static int scratch_gc(lua_State *L) {
  mw_buf_deinit(lua_touserdata(L, 1));
  return 0;
}

mw_buf *mw_scratch_buf(lua_State *L) {
  mw_buf *buf = lua_newuserdata(L, sizeof *buf);
  *buf = (mw_buf)MW_BUF_INIT;
  if (luaL_newmetatable(L, "mw.scratch")) {
    lua_pushcfunction(L, scratch_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return buf;
}

void mw_scratch_free(lua_State *L, mw_buf *buf) { mw_buf_deinit(buf); }
