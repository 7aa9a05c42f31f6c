// SPDX-License-Identifier: MIT
#include "vm/sandbox.h"

#include <lauxlib.h>
#include <luajit.h>

#include "vm/vm_impl.h"

static int l_interpret(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  luaJIT_setmode(L, 1, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);
  return 1;
}

static const luaL_Reg functions[] = {{"interpret", l_interpret}, {NULL, NULL}};

static int open_module(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_sandbox(lua_State *L) {
  mw_vm_add_module(L, "mw.core.sandbox", open_module);
  return 0;
}
