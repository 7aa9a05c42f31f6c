// SPDX-License-Identifier: MIT

// Error values between C and Lua: how C makes the objects of lua/mw/errors.lua, and how it reads whatever code raised.

#include <stdio.h>
#include <string.h>

#include "vm/vm_impl.h"

static int error_tostring(lua_State *L) {
  lua_getfield(L, 1, "where");
  lua_getfield(L, 1, "message");
  const char *where = lua_tostring(L, 2), *message = lua_tostring(L, 3);
  if (where) lua_pushfstring(L, "%s: %s", where, message ? message : "error");
  else lua_pushstring(L, message ? message : "error");
  return 1;
}

// The metatable that lua/mw/errors.lua registers; before that file is loaded (and in a bare state) a plain one.
static void push_metatable(lua_State *L) {
  if (!luaL_newmetatable(L, "mw.error")) return;
  lua_pushcfunction(L, error_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "mw.error");
  lua_setfield(L, -2, "__metatable");
}

void mw_vm_push_error(lua_State *L, int code, const char *message) {
  char where[200];
  mw_vm_push_error_at(L, code, message, mw_vm_where(L, where, sizeof where) ? where : NULL);
}

void mw_vm_push_error_at(lua_State *L, int code, const char *message, const char *where) {
  mw_vm *vm = mw_vm_of(L);
  if (!lua_checkstack(L, 8)) luaL_error(L, "stack overflow");
  if (vm) mw_vm_lift(vm);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, mw_err_code(code));
  lua_setfield(L, -2, "code");
  lua_pushstring(L, message ? message : mw_err_text(code));
  lua_setfield(L, -2, "message");
  lua_pushboolean(L, mw_err_is_retryable(code));
  lua_setfield(L, -2, "retryable");
  if (where) {
    lua_pushstring(L, where);
    lua_setfield(L, -2, "where");
  }
  push_metatable(L);
  lua_setmetatable(L, -2);
  if (vm) mw_vm_unlift(vm);
}

int mw_vm_push_failure(lua_State *L, int code, const char *message) {
  lua_pushnil(L);
  mw_vm_push_error(L, code, message);
  return 2;
}

int mw_vm_code_of(const char *name) {
#define CODE(id, value, code, text, retryable) \
  if (strcmp(name, code) == 0) return id;
  MW_ERR_TABLE(CODE)
#undef CODE
  return MW_ELUA;
}

// Reads a string field without metamethods; the string stays on the stack.
static const char *raw_string(lua_State *L, int table, const char *name) {
  lua_pushstring(L, name);
  lua_rawget(L, table);
  return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

static int call_tostring(lua_State *L) {
  if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
  lua_pushfstring(L, "an error value of type %s", luaL_typename(L, 1));
  return 1;
}

// The words of a value that is neither text nor an error object: its __tostring may be the plugin's and do anything.
static int read_other(lua_State *L, int index, mw_err *err) {
  mw_vm *vm = mw_vm_of(L);
  mw_vm_doom own = {0, LUA_NOREF, NULL}, *outer = vm ? vm->doom : NULL;
  mw_vm_entry entry;
  lua_pushcfunction(L, call_tostring);
  lua_pushvalue(L, index);
  if (vm) {
    if (!vm->current) vm->doom = &own;
    mw_vm_enter(vm, &entry);
  }
  int status = lua_pcall(L, 1, 1, 0);
  if (vm) {
    mw_vm_leave(vm, &entry);
    vm->doom = outer;
    mw_vm_clear_doom(vm, &own);
  }
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  int rc = mw_err_set(err, MW_ELUA, "%s", status == 0 && text ? text : "an error value that cannot be shown");
  lua_pop(L, 1);
  return rc;
}

static int read_table(lua_State *L, int index, mw_err *err) {
  int top = lua_gettop(L);
  const char *message = raw_string(L, index, "message");
  const char *code = raw_string(L, index, "code");
  const char *where = raw_string(L, index, "where");
  int rc = code ? mw_vm_code_of(code) : MW_ELUA;
  if (!message && !code) rc = read_other(L, index, err);
  else if (where) mw_err_set(err, rc, "%s: %s", where, message ? message : code);
  else mw_err_set(err, rc, "%s", message ? message : code);
  lua_settop(L, top);
  return rc;
}

int mw_vm_read_error(lua_State *L, int index, mw_err *err) {
  if (index < 0 && index > LUA_REGISTRYINDEX) index = lua_gettop(L) + index + 1;
  if (!lua_checkstack(L, 8)) return mw_err_set(err, MW_ELUA, "stack overflow");
  if (lua_istable(L, index)) return read_table(L, index, err);
  if (!lua_isstring(L, index)) return read_other(L, index, err);
  int top = lua_gettop(L);
  lua_pushvalue(L, index); // lua_tostring changes a number in place
  const char *text = lua_tostring(L, -1);
  int rc = mw_err_set(err, strstr(text, "not enough memory") ? MW_EMEMORY : MW_ELUA, "%s", text);
  lua_settop(L, top);
  return rc;
}

int mw_vm_status_error(lua_State *L, int status, mw_err *err) {
  int rc = mw_vm_read_error(L, -1, err);
  if (status == LUA_ERRSYNTAX && rc == MW_ELUA) rc = MW_ESYNTAX;
  if (status == LUA_ERRMEM) rc = MW_EMEMORY;
  if (err) err->code = rc;
  return rc;
}
