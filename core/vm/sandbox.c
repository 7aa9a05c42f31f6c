// SPDX-License-Identifier: MIT
#include "vm/sandbox.h"

#include <lauxlib.h>
#include <luajit.h>
#include <string.h>

#include "base/log.h"
#include "vm/safe_string.h"
#include "vm/vm_impl.h"

// The C half. lua/mw/_sandbox.lua builds the environments; `mw.core.sandbox` is what that file returns, and what follows here is what
// it gets as `mw.core.sandbox.native`.

#define MAX_SOURCE (16 * 1024 * 1024)
#define MAX_PRINT 8192

static void interpret(lua_State *L, int index) { luaJIT_setmode(L, index, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF); }

static int l_interpret(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  if (!lua_iscfunction(L, 1)) interpret(L, 1);
  return 1;
}

// load(source, chunkname, env) -> function | nil, message
static int l_load(lua_State *L) {
  size_t len;
  const char *source = luaL_checklstring(L, 1, &len), *chunk = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  if (len > MAX_SOURCE) {
    lua_pushnil(L);
    lua_pushliteral(L, "the source is larger than 16 MiB");
    return 2;
  }
  int status = luaL_loadbufferx(L, source, len, chunk, "t");
  if (status == LUA_ERRMEM) return lua_error(L);
  if (status) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushvalue(L, 3);
  lua_setfenv(L, -2);
  interpret(L, -1);
  return 1;
}

// Called where an error was caught: goes on raising when what runs is cancelled or killed.
static int l_rethrow(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  if (vm && vm->doom && vm->doom->code) mw_vm_raise_doom(L, vm);
  return 0;
}

static int l_is_doomed(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  lua_pushboolean(L, vm && vm->doom && vm->doom->code);
  return 1;
}

// log(text, where): a line that plugin code printed
static int l_log(lua_State *L) {
  mw_str text;
  text.ptr = luaL_checklstring(L, 1, &text.len);
  const char *where = luaL_optstring(L, 2, NULL);
  if (text.len > MAX_PRINT) text.len = MAX_PRINT;
  char line[MAX_PRINT + 1];
  memcpy(line, text.ptr, text.len);
  line[text.len] = 0;
  mw_log(MW_LOG_INFO, "plugin", line, MW_LOG_S("plugin", where));
  return 0;
}

// lock_strings(index): what ("x"):find sees from now on; the metatable itself cannot be had any more
static int l_lock_strings(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  if (!mw_vm_of(L)) return 0; // a bare state is not ours to change
  lua_pushliteral(L, "");
  if (!lua_getmetatable(L, -1)) return 0;
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  return 0;
}

// apart(handler, fn, …) -> as xpcall
static int l_apart(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checkany(L, 2);
  mw_vm *vm = mw_vm_of(L);
  int nargs = lua_gettop(L) - 2, status;
  if (vm && vm->current) return luaL_error(L, "apart: this is a task");
  if (vm) status = mw_vm_call_apart(L, vm, nargs, 1);
  else status = lua_pcall(L, nargs, LUA_MULTRET, 1);
  lua_pushboolean(L, status == 0);
  lua_replace(L, 1);
  return lua_gettop(L);
}

static int l_check_stack(lua_State *L) {
  mw_vm_check_stack(L);
  return 0;
}

static const luaL_Reg functions[] = {
    {"apart", l_apart},
    {"check_stack", l_check_stack},
    {"interpret", l_interpret}, {"load", l_load},       {"rethrow", l_rethrow},           {"is_doomed", l_is_doomed},
    {"log", l_log},             {"pass_wait", mw_task_pass_wait}, {"lock_strings", l_lock_strings}, {NULL, NULL},
};

static int open_native(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_pushlightuserdata(L, &mw_task_wait_tag);
  lua_setfield(L, -2, "wait_tag");
  lua_newtable(L);
  mw_safe_string_add(L);
  lua_setfield(L, -2, "string");
  return 1;
}

static int open_module(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "mw._sandbox");
  lua_call(L, 1, 1);
  return 1;
}

int mw_open_sandbox(lua_State *L) {
  mw_vm_add_module(L, "mw.core.sandbox.native", open_native);
  mw_vm_add_module(L, "mw.core.sandbox", open_module);
  return 0;
}
