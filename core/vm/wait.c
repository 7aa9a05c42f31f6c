// SPDX-License-Identifier: MIT

// The two waits that need nothing from outside: sleeping, and parking until another piece of Lua code wakes the task. Also the value
// that a task carries.

#include <string.h>

#include "vm/vm_impl.h"

static void cancel_wait(void *op) {
  mw_task *t = op;
  mw_timer_stop(&t->wait);
  if (t->parked) t->park_serial++;
  t->parked = false;
}

void mw_task_on_wait_over(mw_timer *timer, void *arg) {
  mw_task *t = arg;
  if (t->parked) {
    cancel_wait(t);
    mw_task_resume_error(t, MW_ETIMEOUT, "nothing came in time");
    return;
  }
  lua_pushboolean(t->co, 1);
  mw_task_resume(t, 1);
}

int mw_task_sleep(lua_State *L, const char *what, int64_t ms) {
  mw_task_check_yieldable(L, what);
  mw_task *t = mw_task_current(L);
  if (!t->vm->loop) return mw_vm_push_failure(L, MW_EINVALID, "there is no loop to wait on");
  mw_timer_start(t->vm->loop, &t->wait, ms);
  return mw_task_suspend(L, cancel_wait, t);
}

uint64_t mw_task_park_serial(const mw_task *task) { return task->park_serial; }

// Pushes what an early wake left in a table {n = count, …}.
static int push_kept(lua_State *L, mw_task *t) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->wake_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, t->wake_ref);
  t->wake_ref = LUA_NOREF;
  t->park_serial++;
  int table = lua_gettop(L), count;
  lua_rawgeti(L, table, 0);
  count = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, count, "too many values for a wake");
  for (int i = 1; i <= count; i++) lua_rawgeti(L, table, i);
  return count;
}

int mw_task_park(lua_State *L, const char *what, int64_t timeout_ms) {
  mw_task_check_yieldable(L, what);
  mw_task *t = mw_task_current(L);
  if (t->wake_ref != LUA_NOREF) return push_kept(L, t);
  if (timeout_ms > 0 && t->vm->loop) mw_timer_start(t->vm->loop, &t->wait, timeout_ms);
  t->parked = true;
  return mw_task_suspend(L, cancel_wait, t);
}

static void keep_values(lua_State *L, mw_task *t, int nvalues) {
  lua_createtable(L, nvalues, 0);
  lua_insert(L, -nvalues - 1);
  int table = lua_gettop(L) - nvalues;
  for (int i = nvalues; i >= 1; i--) lua_rawseti(L, table, i);
  lua_pushinteger(L, nvalues);
  lua_rawseti(L, table, 0);
  t->wake_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

bool mw_task_wake(lua_State *L, mw_task *task, uint64_t serial, int nvalues) {
  bool gone = task->state == MW_TASK_DONE || task->park_serial != serial || task->wake_ref != LUA_NOREF;
  if (gone) {
    lua_pop(L, nvalues);
    return false;
  }
  if (!task->parked) {
    keep_values(L, task, nvalues);
    return true;
  }
  cancel_wait(task);
  mw_vm_lift(task->vm);
  bool fits = lua_checkstack(task->co, nvalues + LUA_MINSTACK);
  mw_vm_unlift(task->vm);
  if (!fits) {
    lua_pop(L, nvalues);
    mw_task_resume_error(task, MW_ELIMIT, "too many values for a wake");
    return true;
  }
  lua_xmove(L, task->co, nvalues);
  mw_task_resume(task, nvalues);
  return true;
}

void mw_task_set_local(lua_State *L, mw_task *task) {
  int before = task->local_ref;
  if (before >= 0 && !lua_isnil(L, -1)) {
    lua_rawseti(L, LUA_REGISTRYINDEX, before);
    return;
  }
  task->local_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  if (before != LUA_NOREF) luaL_unref(L, LUA_REGISTRYINDEX, before);
}

void mw_task_push_local(lua_State *L, const mw_task *task) {
  if (task->local_ref == LUA_NOREF) lua_pushnil(L);
  else lua_rawgeti(L, LUA_REGISTRYINDEX, task->local_ref);
}
