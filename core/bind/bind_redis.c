// SPDX-License-Identifier: MIT
#include "bind/bind_redis.h"

#include <lauxlib.h>
#include <math.h>

#include "base/alloc.h"
#include "bind/host.h"
#include "bind/redis_values.h"
#include "bind/store_op.h"
#include "vm/task.h"

#define SESSION "mw.redis.session"

/* ---- sessions ---- */

// Ends with its task; the userdata may outlive both.
typedef struct session_box {
  mw_redis_session *session; // NULL: ended
  mw_task_hold hold;
} session_box;

static void end_box(session_box *box, bool is_clean) {
  mw_redis_session *session = box->session;
  box->session = NULL;
  mw_task_hold_remove(&box->hold);
  if (session) mw_redis_session_close(session, is_clean);
}

static void on_task_over(mw_task_hold *hold) { end_box(MW_CONTAINER(hold, session_box, hold), false); }

static int l_open(lua_State *L) {
  mw_redis *redis = mw_redis_check_client(L);
  mw_err err;
  mw_task_check_yieldable(L, "mw.redis");
  session_box *box = lua_newuserdata(L, sizeof *box);
  box->session = NULL;
  mw_list_init(&box->hold.node);
  luaL_getmetatable(L, SESSION);
  lua_setmetatable(L, -2);
  int rc = mw_redis_session_open(redis, &box->session, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  mw_task_hold_add(mw_task_current(L), &box->hold, on_task_over);
  return 1;
}

static int l_session_close(lua_State *L) {
  end_box(luaL_checkudata(L, 1, SESSION), lua_toboolean(L, 2));
  return 0;
}

static int l_session_gc(lua_State *L) {
  end_box(lua_touserdata(L, 1), false);
  return 0;
}

static mw_redis_session *opt_session(lua_State *L, int index) {
  if (lua_isnil(L, index)) return NULL;
  session_box *box = luaL_checkudata(L, index, SESSION);
  if (!box->session) mw_redis_refuse(L, "the transaction is over; use tx inside the function given to mw.redis.transaction");
  return box->session;
}

/* ---- calls ---- */

typedef struct redis_op {
  mw_task *task;
  mw_redis_request *request;
  bool is_pipeline;
  const mw_redis_reply *replies; // while they are pushed
  size_t count;
} redis_op;

static void cancel_op(void *arg) {
  redis_op *op = arg;
  mw_redis_cancel(op->request);
  mw_free(op);
}

static int push_replies(lua_State *L, void *arg) {
  redis_op *op = arg;
  if (op->is_pipeline) {
    mw_redis_reply all = {.kind = MW_REDIS_ARRAY, .items = (mw_redis_reply *)op->replies, .count = op->count};
    mw_redis_push_value(L, &all, false);
    return 1;
  }
  if (op->replies->kind == MW_REDIS_ERROR) return mw_redis_push_failure(L, op->replies);
  mw_redis_push_value(L, op->replies, false);
  return 1;
}

static void on_replies(int status, const mw_redis_reply *replies, size_t count, const mw_err *err, void *arg) {
  redis_op op = *(redis_op *)arg;
  mw_free(arg);
  op.replies = replies;
  op.count = count;
  if (status) mw_task_resume_error(op.task, status, err->text);
  else mw_task_resume_with(op.task, push_replies, &op);
}

static int64_t opt_ms(lua_State *L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  return seconds > 0 ? (int64_t)fmax(1, fmin(ceil(seconds * 1000), 1e12)) : 0;
}

static int send(lua_State *L, const mw_redis_command *commands, size_t count, bool is_pipeline, mw_arena *arena) {
  mw_redis *redis = mw_redis_check_client(L);
  mw_redis_session *session = opt_session(L, 1);
  mw_redis_call call = {commands, count, opt_ms(L, 3)};
  mw_err err;
  mw_task_check_yieldable(L, "mw.redis");
  redis_op *op = MW_NEW(redis_op);
  op->task = mw_task_current(L);
  op->is_pipeline = is_pipeline;
  int rc = mw_redis_send(redis, session, &call, on_replies, op, &op->request, &err);
  mw_arena_deinit(arena);
  if (!rc) return mw_task_suspend(L, cancel_op, op);
  mw_free(op);
  return mw_vm_push_failure(L, rc, err.text);
}

static int l_call(lua_State *L) {
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  mw_arena *arena = mw_store_push_arena(L);
  mw_redis_command command;
  mw_err err;
  if (mw_redis_read_command(L, 2, arena, &command, &err)) return mw_vm_push_failure(L, err.code, err.text);
  return send(L, &command, 1, false, arena);
}

static int l_pipeline(lua_State *L) {
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  size_t count = lua_objlen(L, 2);
  if (count < 1 || count > MW_REDIS_MAX_COMMANDS)
    return mw_vm_push_failure(L, MW_EINVALID, "a pipeline is a list of 1 to 10000 commands: {{\"SET\", key, value}, {\"GET\", key}}");
  mw_arena *arena = mw_store_push_arena(L);
  mw_redis_command *commands = mw_arena_alloc(arena, count * sizeof *commands);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (int)i + 1);
    if (!lua_istable(L, -1)) return mw_redis_refuse(L, "command %d is a %s; a command is a list: {\"GET\", key}", (int)i + 1, luaL_typename(L, -1));
    mw_err err;
    if (mw_redis_read_command(L, lua_gettop(L), arena, &commands[i], &err)) {
      mw_err_wrap(&err, "command %zu", i + 1);
      return mw_vm_push_failure(L, err.code, err.text);
    }
    lua_pop(L, 1); // the outer list still holds it
  }
  return send(L, commands, count, true, arena);
}

static int l_is_configured(lua_State *L) {
  mw_host *host = mw_host_of(L);
  lua_pushboolean(L, host && host->redis);
  return 1;
}

static const luaL_Reg functions[] = {
    {"call", l_call},           {"pipeline", l_pipeline},         {"open", l_open}, {"subscribe", mw_redis_l_subscribe},
    {"is_configured", l_is_configured}, {"end_feeds", mw_redis_l_end_feeds}, {NULL, NULL},
};

static int open_module(lua_State *L) {
  static const luaL_Reg methods[] = {{"close", l_session_close}, {NULL, NULL}};
  luaL_newmetatable(L, SESSION);
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_session_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  mw_redis_open_feed(L);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_redis(lua_State *L) {
  mw_vm_add_module(L, "mw.core.redis", open_module);
  return 0;
}
