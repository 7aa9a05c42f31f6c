// SPDX-License-Identifier: MIT

// mw.core.task: tasks for lua/mw.
//
//   spawn(fn, what, timeout_s | nil, …) -> handle     begins at the end of this loop turn; handle:cancel(code, why), handle:done()
//   sleep(s) -> true                                    waits
//   token() -> token                                    for the next park of the running task
//   park(what, timeout_s | nil) -> values | nil, err    waits for wake(token, …)
//   wake(token, …) -> boolean                           false when that park is over; at most once
//   left() -> seconds | nil      set_timeout(s | nil)
//   check(what)                                         raises where a wait cannot work
//   what() -> text | nil         is_current() -> boolean      loading() -> boolean
//   local_set(value)             local_get() -> value         one value a task
//   on_fail(fn, arg)             fn(arg, err) is called, outside of any task, when this one ends by an error, a kill or a cancel
//   count() -> integer                                  tasks of this state that have not ended
//   is_cancelled() -> boolean    the running task is cancelled, killed or out of time: no wait will work

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "bind/bind.h"
#include "vm/task.h"

#define HANDLE "mw.core.task.handle"
#define TOKEN "mw.core.task.token"
#define MAX_WAIT_S (100.0 * 366 * 24 * 3600)

typedef struct handle {
  mw_task *task;
} handle;

typedef struct token {
  mw_task *task;
  uint64_t serial;
} token;

static int64_t check_ms(lua_State *L, int index) {
  double s = luaL_checknumber(L, index);
  luaL_argcheck(L, s >= 0 && s <= MAX_WAIT_S, index, "seconds expected");
  return (int64_t)ceil(s * 1000);
}

static int64_t opt_ms(lua_State *L, int index) { return lua_isnoneornil(L, index) ? 0 : check_ms(L, index); }

static mw_task *check_task(lua_State *L, const char *what) {
  mw_task *task = mw_task_current(L);
  if (task) return task;
  lua_pushfstring(L, "%s: there is no task here", what);
  const char *text = lua_tostring(L, -1);
  mw_vm_push_error(L, MW_EINVALID, text);
  lua_error(L);
  return NULL;
}

static void on_spawned_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  char *what = arg;
  if (status && status != MW_ECANCELED && !mw_task_is_followed(task))
    mw_log(MW_LOG_ERROR, "plugin", "a spawned task failed", MW_LOG_S("task", what), MW_LOG_S("error", err->text),
           MW_LOG_S("code", mw_err_code(status)));
  mw_free(what);
}

static int l_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const char *what = luaL_checkstring(L, 2);
  int64_t timeout_ms = opt_ms(L, 3);
  mw_vm *vm = mw_vm_of(L);
  if (!vm || mw_vm_is_loading(vm) || !mw_vm_loop(vm)) {
    mw_vm_push_error(L, MW_ELUA, "a task cannot be started while plugins load: start it from a handler or a step");
    return lua_error(L);
  }
  lua_State *main = mw_vm_lua(vm);
  if (lua_gettop(L) < 3) lua_settop(L, 3);
  int nargs = lua_gettop(L) - 3;
  luaL_argcheck(L, nargs <= 200, 4, "too many arguments");
  handle *h = lua_newuserdata(L, sizeof *h);
  h->task = NULL;
  luaL_getmetatable(L, HANDLE);
  lua_setmetatable(L, -2);
  lua_replace(L, 3);
  lua_pushvalue(L, 1);
  lua_insert(L, 4); // fn, what, handle, fn, args…
  mw_task_opts opts = {.timeout_ms = timeout_ms, .done = on_spawned_done};
  if (!lua_checkstack(main, nargs + 4)) return luaL_error(L, "stack overflow");
  opts.what = opts.arg = mw_strdup(what);
  if (L != main) lua_xmove(L, main, nargs + 1);
  h->task = mw_task_start(vm, nargs, &opts);
  mw_task_ref(h->task);
  lua_settop(L, 3);
  return 1;
}

static int l_handle_cancel(lua_State *L) {
  handle *h = luaL_checkudata(L, 1, HANDLE);
  const char *code = luaL_optstring(L, 2, "cancelled");
  const char *why = luaL_optstring(L, 3, NULL);
  int known = mw_vm_code_of(code);
  mw_task_cancel(h->task, known == MW_ELUA ? MW_ECANCELED : known, why);
  return 0;
}

static int l_handle_done(lua_State *L) {
  handle *h = luaL_checkudata(L, 1, HANDLE);
  lua_pushboolean(L, mw_task_is_done(h->task));
  return 1;
}

static int l_handle_gc(lua_State *L) {
  handle *h = lua_touserdata(L, 1);
  if (h->task) mw_task_unref(h->task);
  h->task = NULL;
  return 0;
}

static int l_sleep(lua_State *L) { return mw_task_sleep(L, "mw.sleep", check_ms(L, 1)); }

static int l_token(lua_State *L) {
  mw_task *task = check_task(L, "token");
  token *t = lua_newuserdata(L, sizeof *t);
  *t = (token){NULL, mw_task_park_serial(task)};
  luaL_getmetatable(L, TOKEN);
  lua_setmetatable(L, -2);
  t->task = task;
  mw_task_ref(task);
  return 1;
}

static int l_token_gc(lua_State *L) {
  token *t = lua_touserdata(L, 1);
  if (t->task) mw_task_unref(t->task);
  t->task = NULL;
  return 0;
}

static int l_park(lua_State *L) {
  const char *what = luaL_checkstring(L, 1);
  return mw_task_park(L, what, opt_ms(L, 2));
}

static int l_wake(lua_State *L) {
  token *t = luaL_checkudata(L, 1, TOKEN);
  bool woken = mw_task_wake(L, t->task, t->serial, lua_gettop(L) - 1);
  lua_pushboolean(L, woken);
  return 1;
}

static int l_left(lua_State *L) {
  mw_task *task = mw_task_current(L);
  int64_t ms = task ? mw_task_left_ms(task) : INT64_MAX;
  if (ms == INT64_MAX) lua_pushnil(L);
  else lua_pushnumber(L, (double)ms / 1000);
  return 1;
}

static int l_set_timeout(lua_State *L) {
  int64_t ms = opt_ms(L, 1);
  mw_task_set_timeout(check_task(L, "set_timeout"), ms);
  return 0;
}

static int l_is_current(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  lua_pushboolean(L, !vm || mw_vm_is_current(vm));
  return 1;
}

static int l_loading(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  lua_pushboolean(L, vm && mw_vm_is_loading(vm));
  return 1;
}

static int l_check(lua_State *L) {
  mw_task_check_yieldable(L, luaL_checkstring(L, 1));
  return 0;
}

static int l_what(lua_State *L) {
  mw_task *task = mw_task_current(L);
  if (task) lua_pushstring(L, mw_task_what(task));
  else lua_pushnil(L);
  return 1;
}

static int l_local_set(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  mw_task_set_local(L, check_task(L, "local_set"));
  return 0;
}

static int l_local_get(lua_State *L) {
  mw_task *task = mw_task_current(L);
  if (task) mw_task_push_local(L, task);
  else lua_pushnil(L);
  return 1;
}

static int l_on_fail(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 2);
  mw_task_set_on_fail(L, check_task(L, "on_fail"));
  return 0;
}

static int l_is_cancelled(lua_State *L) {
  mw_task *task = mw_task_current(L);
  lua_pushboolean(L, task && mw_task_is_cancelled(task));
  return 1;
}

static int l_count(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  lua_pushinteger(L, vm ? (lua_Integer)mw_vm_task_count(vm) : 0);
  return 1;
}

static const luaL_Reg functions[] = {
    {"spawn", l_spawn},           {"sleep", l_sleep},         {"token", l_token}, {"park", l_park},
    {"wake", l_wake},             {"left", l_left},           {"check", l_check}, {"what", l_what},
    {"set_timeout", l_set_timeout}, {"is_current", l_is_current}, {"loading", l_loading},
    {"local_set", l_local_set},   {"local_get", l_local_get}, {"on_fail", l_on_fail},
    {"is_cancelled", l_is_cancelled}, {"count", l_count},     {NULL, NULL},
};

static const luaL_Reg handle_methods[] = {{"cancel", l_handle_cancel}, {"done", l_handle_done}, {NULL, NULL}};

static void add_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  if (methods) luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

static int open_module(lua_State *L) {
  add_type(L, HANDLE, handle_methods, l_handle_gc);
  add_type(L, TOKEN, NULL, l_token_gc);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_task(lua_State *L) {
  mw_vm_add_module(L, "mw.core.task", open_module);
  return 0;
}
