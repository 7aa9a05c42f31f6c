// SPDX-License-Identifier: MIT
#include "bind/redis_values.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "bind/bind_json.h"
#include "bind/host.h"
#include "vm/vm.h"

#define MAX_EXACT 9007199254740992.0
#define MAX_ARGS 1000000

int mw_redis_refuse(lua_State *L, const char *format, ...) {
  mw_err err;
  va_list args;
  va_start(args, format);
  mw_err_vset(&err, MW_EINVALID, format, args);
  va_end(args);
  mw_vm_push_error(L, MW_EINVALID, err.text);
  return lua_error(L);
}

/* ---- commands ---- */

static mw_str number_text(lua_Number number, mw_arena *arena) {
  char text[40];
  int len;
  if (isinf(number)) len = snprintf(text, sizeof text, number > 0 ? "inf" : "-inf");
  else if (floor(number) == number && fabs(number) <= MAX_EXACT) len = snprintf(text, sizeof text, "%" PRId64, (int64_t)number);
  else len = snprintf(text, sizeof text, "%.17g", number);
  return mw_str_of(mw_arena_strndup(arena, text, (size_t)len), (size_t)len);
}

// The value on top. `position` 0 is the name.
static int read_arg(lua_State *L, size_t position, mw_arena *arena, mw_str *out, mw_err *err) {
  int type = lua_type(L, -1);
  if (type == LUA_TSTRING) {
    out->ptr = lua_tolstring(L, -1, &out->len);
    return 0;
  }
  if (!position) return mw_err_set(err, MW_EINVALID, "the name of a command is a string");
  if (type == LUA_TNUMBER && !isnan(lua_tonumber(L, -1))) {
    *out = number_text(lua_tonumber(L, -1), arena);
    return 0;
  }
  const char *got = type == LUA_TNIL ? "nil" : type == LUA_TNUMBER ? "not a number (0/0)" : luaL_typename(L, -1);
  return mw_err_set(err, MW_EINVALID, "argument %zu is %s%s; Redis takes strings and numbers%s", position,
                    type == LUA_TNIL || type == LUA_TNUMBER ? "" : "a ", got, type == LUA_TTABLE ? ": encode it with mw.json.encode" : "");
}

int mw_redis_read_command(lua_State *L, int index, mw_arena *arena, mw_redis_command *out, mw_err *err) {
  lua_pushliteral(L, "n");
  lua_rawget(L, index);
  size_t count = lua_type(L, -1) == LUA_TNUMBER ? (size_t)lua_tonumber(L, -1) : lua_objlen(L, index);
  lua_pop(L, 1);
  if (count < 1 || count > MAX_ARGS) return mw_err_set(err, MW_EINVALID, "a command has a name and at most %d arguments", MAX_ARGS);
  mw_str *argv = mw_arena_alloc(arena, count * sizeof *argv);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    int rc = read_arg(L, i, arena, &argv[i], err);
    lua_pop(L, 1); // the list still holds the string
    if (rc) return rc;
  }
  *out = (mw_redis_command){argv, count};
  return 0;
}

/* ---- replies ---- */

static void push_error(lua_State *L, const mw_redis_reply *reply) {
  mw_err err;
  int code = mw_redis_error_read(reply->str, &err);
  mw_str word = mw_redis_error_word(reply->str);
  mw_vm_push_error(L, code, err.text);
  lua_pushlstring(L, word.ptr, word.len);
  lua_setfield(L, -2, "redis");
}

static void push_list(lua_State *L, const mw_redis_reply *reply) {
  luaL_checkstack(L, 5, "a reply is nested too deep");
  lua_createtable(L, (int)reply->count, 0);
  for (size_t i = 0; i < reply->count; i++) {
    mw_redis_push_value(L, &reply->items[i], true);
    lua_rawseti(L, -2, (int)i + 1);
  }
  mw_json_mark_array(L);
}

void mw_redis_push_value(lua_State *L, const mw_redis_reply *reply, bool in_list) {
  char digits[24];
  switch (reply->kind) {
  case MW_REDIS_NIL:
    if (in_list) mw_json_push_null(L);
    else lua_pushnil(L);
    break;
  case MW_REDIS_STATUS:
  case MW_REDIS_BULK: lua_pushlstring(L, reply->str.ptr, reply->str.len); break;
  case MW_REDIS_ERROR: push_error(L, reply); break;
  case MW_REDIS_INT:
    if (reply->i <= (int64_t)MAX_EXACT && reply->i >= -(int64_t)MAX_EXACT) lua_pushnumber(L, (lua_Number)reply->i);
    else lua_pushlstring(L, digits, (size_t)snprintf(digits, sizeof digits, "%" PRId64, reply->i)); // a number would lie
    break;
  case MW_REDIS_ARRAY: push_list(L, reply); break;
  }
}

int mw_redis_push_failure(lua_State *L, const mw_redis_reply *reply) {
  lua_pushnil(L);
  push_error(L, reply);
  return 2;
}

mw_redis *mw_redis_check_client(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (host && host->redis) return host->redis;
  mw_vm_push_error(L, MW_ECONFIG, host && host->store ? "Redis is not configured: write redis = \"redis://127.0.0.1:6379\" in moonwatch.lua, or set REDIS_URL"
                                                      : "Redis needs a running server");
  lua_error(L);
  return NULL;
}
