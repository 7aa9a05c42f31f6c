// SPDX-License-Identifier: MIT
#include "vm/task.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "vm/vm_impl.h"

// A task is in one of four states:
//
//   READY ------> RUNNING <------> SUSPENDED
//                    |
//                   DONE
//
// lua_resume is called in one place, run(). A state runs one task at a time: what is started or resumed while Lua code of the same
// state is on the C stack waits in vm->ready for the end of the loop's turn, so that tasks cannot nest C calls without end.
//
// A finished task keeps its coroutine and goes to the pool, so that a task costs neither malloc nor a new coroutine. The coroutine of
// one that failed goes to the collector, with all that its frames hold.

#define MAX_SPARE 1024

static const mw_err no_error;

static void on_deadline(mw_timer *timer, void *arg);
static void finish(mw_task *t, int status);

static void make_coroutine(mw_task *t) {
  t->co = lua_newthread(t->vm->L);
  t->co_ref = luaL_ref(t->vm->L, LUA_REGISTRYINDEX);
}

static void drop_coroutine(mw_task *t) {
  luaL_unref(t->vm->L, LUA_REGISTRYINDEX, t->co_ref);
  t->co = NULL;
  t->co_ref = LUA_NOREF;
}

static mw_task *acquire(mw_vm *vm) {
  mw_task *t = MW_LIST_POP(&vm->spare, mw_task, node);
  if (t) {
    vm->spare_count--;
  } else {
    t = MW_NEW(mw_task);
    t->vm = vm;
    t->co_ref = LUA_NOREF;
    t->doom.ref = t->wake_ref = t->local_ref = t->fail_ref = LUA_NOREF;
    mw_list_init(&t->ready);
    mw_list_init(&t->holds);
    mw_timer_init(&t->wait, mw_task_on_wait_over, t);
    mw_timer_init(&t->timer, on_deadline, t);
  }
  if (!t->co) make_coroutine(t);
  t->refs = 1;
  mw_list_push(&vm->tasks, &t->node);
  vm->task_count++;
  return t;
}

void mw_task_ref(mw_task *task) { task->refs++; }

void mw_task_unref(mw_task *task) {
  assert(task->refs > 0);
  if (--task->refs > 0) return;
  mw_vm *vm = task->vm;
  if (vm->spare_count >= MAX_SPARE) {
    if (task->co) luaL_unref(vm->L, LUA_REGISTRYINDEX, task->co_ref);
    mw_free(task);
    return;
  }
  mw_list_unshift(&vm->spare, &task->node);
  vm->spare_count++;
}

void mw_task_free_pool(mw_vm *vm) {
  for (mw_task *t; (t = MW_LIST_POP(&vm->spare, mw_task, node));) mw_free(t);
  assert(mw_list_is_empty(&vm->tasks));
}

mw_task *mw_task_current(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  return vm ? vm->current : NULL;
}

mw_vm *mw_task_vm(const mw_task *task) { return task->vm; }
lua_State *mw_task_lua(const mw_task *task) { return task->co; }
const char *mw_task_what(const mw_task *task) { return task->opts.what ? task->opts.what : "a task"; }
void *mw_task_data(const mw_task *task) { return task->data; }
void mw_task_set_data(mw_task *task, void *data) { task->data = data; }
bool mw_task_is_cancelled(const mw_task *task) { return task->doom.code != 0; }
bool mw_task_is_done(const mw_task *task) { return task->state == MW_TASK_DONE; }

// Running

// A deadline needs a timer only once the task waits: what runs without a pause is the watchdog's.
static void arm_deadline(mw_task *t) {
  if (t->deadline_ms == 0 || !t->vm->loop || mw_timer_is_armed(&t->timer)) return;
  int64_t left = t->deadline_ms - mw_clock_mono_ms();
  mw_timer_start(t->vm->loop, &t->timer, left > 0 ? left : 0);
}

static void run_ready(void *arg);

static void queue(mw_task *t, int nargs) {
  mw_vm *vm = t->vm;
  t->nargs = nargs;
  t->state = MW_TASK_READY;
  mw_list_push(&vm->ready, &t->ready);
  if (vm->deferred) return;
  vm->deferred = true;
  mw_loop_defer(vm->loop, run_ready, vm);
}

static bool must_queue(const mw_vm *vm) { return vm->depth > 0 && vm->loop; }

static void run(mw_task *t, int nargs) {
  mw_vm *vm = t->vm;
  mw_task *outer = vm->current;
  mw_vm_doom *outer_doom = vm->doom;
  mw_vm_entry entry;
  t->state = MW_TASK_RUNNING;
  vm->current = t;
  vm->doom = &t->doom;
  mw_vm_enter(vm, &entry);
  int status = lua_resume(t->co, nargs);
  mw_vm_leave(vm, &entry);
  vm->current = outer;
  vm->doom = outer_doom;
  if (status == LUA_YIELD) {
    assert(t->state == MW_TASK_SUSPENDED);
    lua_settop(t->co, 0);
    arm_deadline(t);
    if (vm->refused) mw_vm_settle_memory(vm);
    return;
  }
  finish(t, status);
}

static void run_ready(void *arg) {
  mw_vm *vm = arg;
  mw_list batch;
  mw_list_init(&batch);
  mw_list_splice(&batch, &vm->ready);
  vm->deferred = false;
  // The vm may be retired by what runs here, but on_retired only comes with a later turn.
  for (mw_task *t; (t = MW_LIST_POP(&batch, mw_task, ready));) run(t, t->nargs);
  mw_vm_task_gone(vm);
}

static void forget(mw_task *t, int *ref) {
  if (*ref != LUA_NOREF) luaL_unref(t->vm->L, LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

static void forget_values(mw_task *t) {
  t->park_serial++;
  forget(t, &t->wake_ref);
  forget(t, &t->local_ref);
  forget(t, &t->fail_ref);
}

// The error is on top of the main coroutine and stays there.
static void call_on_fail(mw_task *t) {
  mw_vm *vm = t->vm;
  lua_State *L = vm->L;
  mw_err err;
  t->followed = false;
  if (t->fail_ref == LUA_NOREF || !lua_checkstack(L, 6)) return;
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->fail_ref);
  forget(t, &t->fail_ref);
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, 2);
  lua_pushvalue(L, -4); // error, {fn, arg}, fn, arg, error
  t->followed = true;
  if (mw_vm_call(vm, 2, 0, &err))
    mw_log(MW_LOG_ERROR, "vm", "what had to follow a failed task failed too", MW_LOG_S("task", mw_task_what(t)),
           MW_LOG_S("error", err.text));
  lua_pop(L, 1);
}

bool mw_task_is_followed(const mw_task *task) { return task->followed; }

void mw_task_set_on_fail(lua_State *L, mw_task *task) {
  lua_createtable(L, 2, 0); // fn, arg, {}
  lua_insert(L, -3);
  lua_rawseti(L, -3, 2);
  lua_rawseti(L, -2, 1);
  forget(task, &task->fail_ref);
  task->fail_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void mw_task_hold_add(mw_task *task, mw_task_hold *hold, void (*cb)(mw_task_hold *hold)) {
  hold->cb = cb;
  mw_list_push(&task->holds, &hold->node);
}

void mw_task_hold_remove(mw_task_hold *hold) { mw_list_remove(&hold->node); }

static void finish(mw_task *t, int status) {
  mw_vm *vm = t->vm;
  mw_err err = {0}, *said = NULL;
  t->state = MW_TASK_DONE;
  mw_timer_stop(&t->timer);
  for (mw_task_hold *hold; (hold = MW_LIST_POP(&t->holds, mw_task_hold, node));) hold->cb(hold);
  if (status) {
    said = &err;
    // An error object says where it came from, and some are everyday answers (a request that is not valid).
    if (!lua_istable(t->co, -1) || t->doom.code == MW_EKILLED) mw_vm_keep_trace(vm, t->co);
    // What its frames hold goes first: reporting the error needs memory, and its stack may be full.
    char where[200];
    bool located = status == LUA_ERRMEM && mw_vm_where(t->co, where, sizeof where);
    lua_xmove(t->co, vm->L, 1);
    drop_coroutine(t);
    if (vm->refused) mw_vm_settle_memory(vm);
    if (located) { // LuaJIT's own message has no place
      lua_pop(vm->L, 1);
      mw_vm_push_error_at(vm->L, MW_EMEMORY, "not enough memory", where);
    }
    status = mw_vm_status_error(vm->L, status, &err);
    call_on_fail(t);
    make_coroutine(t);
    lua_xmove(vm->L, t->co, 1);
  }
  if (t->opts.done) t->opts.done(t, t->co, status, said ? said : &no_error, t->opts.arg);
  lua_settop(t->co, 0);
  if (t->doom.code) mw_vm_clear_doom(vm, &t->doom);
  forget_values(t);
  if (vm->refused) mw_vm_settle_memory(vm);
  mw_list_remove(&t->node);
  vm->task_count--;
  mw_task_unref(t);
  if (vm->retired) mw_vm_task_gone(vm);
}

mw_task *mw_task_start(mw_vm *vm, int nargs, const mw_task_opts *opts) {
  mw_vm_lift(vm);
  mw_task *t = acquire(vm);
  lua_checkstack(t->co, nargs + LUA_MINSTACK);
  lua_xmove(vm->L, t->co, nargs + 1);
  mw_vm_unlift(vm);
  t->opts = *opts;
  t->cancel = NULL;
  t->op = NULL;
  t->data = opts->data;
  t->deadline_ms = 0;
  if (opts->timeout_ms > 0) t->deadline_ms = (vm->loop ? mw_loop_now_ms(vm->loop) : mw_clock_mono_ms()) + opts->timeout_ms;
  if (must_queue(vm)) {
    queue(t, nargs);
    return t;
  }
  mw_task_ref(t);
  run(t, nargs);
  bool over = t->state == MW_TASK_DONE;
  mw_task_unref(t);
  return over ? NULL : t;
}

// Waiting

static bool is_callback_of(const char *name) {
  static const char *const names[] = {"sort", "gsub", "load", "foreach", "foreachi"};
  for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
    if (strcmp(name, names[i]) == 0) return true;
  return false;
}

// Names the C function between the wait and the scheduler.
static int raise_blocked(lua_State *L, const char *what) {
  char text[300];
  lua_Debug ar;
  snprintf(text, sizeof text,
           "%s cannot wait inside a metamethod or a callback of a C function: do the waiting before that and use the result there",
           what);
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sn", &ar) || ar.what[0] != 'C' || !is_callback_of(ar.name)) continue;
    snprintf(text, sizeof text, "%s cannot wait inside the function given to %s: do the waiting before the call and use the result there",
             what, ar.name);
    break;
  }
  mw_vm_push_error(L, MW_ELUA, text);
  return lua_error(L);
}

static int raise_invalid(lua_State *L, const char *what, const char *why) {
  char text[300];
  snprintf(text, sizeof text, "%s %s", what, why);
  mw_vm_push_error(L, MW_ELUA, text);
  return lua_error(L);
}

void mw_task_check_yieldable(lua_State *L, const char *what) {
  mw_vm *vm = mw_vm_of(L);
  mw_task *t = vm ? vm->current : NULL;
  if (vm && vm->doom && vm->doom->code) mw_vm_raise_doom(L, vm);
  if (vm && vm->loading)
    raise_invalid(L, what, "cannot wait while plugins load: move it into a handler, a step or a function given to mw.spawn");
  if (!t) raise_invalid(L, what, "can only wait inside a task: call it from a handler, a step or a function given to mw.spawn");
  if (!lua_isyieldable(L)) raise_blocked(L, what);
}

int mw_task_suspend(lua_State *L, mw_task_cancel_cb cancel, void *op) {
  mw_vm *vm = mw_vm_of(L);
  mw_task *t = vm->current;
  assert(t && t->state == MW_TASK_RUNNING);
  if (t->doom.code) { // doomed while the operation was being started
    if (cancel) cancel(op);
    return mw_vm_raise_doom(L, vm);
  }
  t->cancel = cancel;
  t->op = op;
  t->state = MW_TASK_SUSPENDED;
  lua_pushlightuserdata(L, &mw_task_wait_tag);
  return lua_yield(L, 1);
}

char mw_task_wait_tag;

int mw_task_pass_wait(lua_State *L) {
  if (lua_isyieldable(L)) {
    lua_pushlightuserdata(L, &mw_task_wait_tag);
    return lua_yield(L, 1);
  }
  mw_task *t = mw_task_current(L);
  mw_task_cancel_cb cancel = t->cancel;
  t->cancel = NULL;
  t->state = MW_TASK_RUNNING;
  if (cancel) cancel(t->op);
  return mw_vm_push_failure(L, MW_ELUA,
                            "cannot wait in a coroutine that is resumed inside a metamethod or a callback of a C function (sort, gsub, "
                            "load): do the waiting before that and use the result there");
}

void mw_task_resume(mw_task *task, int nresults) {
  assert(task->state == MW_TASK_SUSPENDED);
  task->cancel = NULL;
  task->op = NULL;
  if (must_queue(task->vm)) queue(task, nresults);
  else run(task, nresults);
}

typedef struct push_call {
  mw_task *task;
  int (*push)(lua_State *L, void *arg);
  void *arg;
  int count;
} push_call;

// A suspended coroutine cannot run a protected call, so the values are made on the main one.
static int push_protected(lua_State *L) {
  push_call *call = lua_touserdata(L, 1);
  call->count = call->push(L, call->arg);
  if (!lua_checkstack(call->task->co, call->count + LUA_MINSTACK)) return luaL_error(L, "stack overflow");
  lua_xmove(L, call->task->co, call->count);
  return 0;
}

void mw_task_resume_with(mw_task *task, int (*push)(lua_State *L, void *arg), void *arg) {
  push_call call = {task, push, arg, 0};
  mw_err err;
  int rc = mw_vm_protect(task->vm, push_protected, &call, &err);
  if (rc) {
    mw_task_resume_error(task, rc, err.text);
    return;
  }
  mw_task_resume(task, call.count);
}

void mw_task_resume_error(mw_task *task, int code, const char *message) {
  lua_settop(task->co, 0);
  mw_task_resume(task, mw_vm_push_failure(task->co, code, message));
}

// Ending

static void take_back(mw_task *t) {
  mw_task_cancel_cb cancel = t->cancel;
  void *op = t->op;
  t->cancel = NULL;
  t->op = NULL;
  if (cancel) cancel(op);
}

void mw_task_cancel(mw_task *task, int code, const char *why) {
  if (task->state == MW_TASK_DONE || task->doom.code) return;
  mw_vm_set_doom(&task->doom, code, why);
  if (task->state != MW_TASK_SUSPENDED) return; // its next wait fails
  take_back(task);
  mw_task_resume_error(task, code, why);
}

void mw_task_cancel_all(mw_vm *vm, int code, const char *why) {
  // Each cancel may end other tasks and start new ones: take the first that is not doomed until there is none.
  for (;;) {
    mw_task *victim = NULL;
    MW_LIST_EACH(&vm->tasks, node) {
      mw_task *t = MW_CONTAINER(node, mw_task, node);
      if (!t->doom.code) {
        victim = t;
        break;
      }
    }
    if (!victim) return;
    mw_task_cancel(victim, code, why);
  }
}

static void on_deadline(mw_timer *timer, void *arg) {
  mw_task *t = arg;
  int64_t left = t->deadline_ms - mw_clock_mono_ms();
  if (left > 0) { // it was moved
    mw_timer_start(t->vm->loop, timer, left);
    return;
  }
  char text[200];
  snprintf(text, sizeof text, "%s took longer than it may", mw_task_what(t));
  mw_task_cancel(t, MW_ETIMEOUT, text);
}

void mw_task_set_timeout(mw_task *task, int64_t timeout_ms) {
  mw_timer_stop(&task->timer);
  task->deadline_ms = timeout_ms > 0 ? mw_clock_mono_ms() + timeout_ms : 0;
  if (task->state == MW_TASK_SUSPENDED) arm_deadline(task);
}

int64_t mw_task_left_ms(const mw_task *task) {
  if (task->deadline_ms == 0) return INT64_MAX;
  int64_t left = task->deadline_ms - mw_clock_mono_ms();
  return left > 0 ? left : 0;
}
