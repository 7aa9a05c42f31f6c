// SPDX-License-Identifier: MIT
#pragma once

// mw_task: one coroutine with a deadline and at most one pending operation. Lua code looks blocking; C
// suspends the task and resumes it at one place. Coroutines come from a pool.
//
// A binding that waits:
//
//   static int l_sleep(lua_State *L) {
//     … check arguments …
//     mw_task_check_yieldable(L, "mw.sleep");            // raises with the function and the fix where a wait cannot work
//     … start the operation, keep `task = mw_task_current(L)` in it …
//     return mw_task_suspend(L, cancel_sleep, op);
//   }
//   static void on_timer(…) {                            // the operation ends, once
//     lua_State *co = mw_task_lua(op->task);
//     lua_pushboolean(co, 1);                             // results of l_sleep
//     mw_task_resume(op->task, 1);                        // the only place that resumes
//   }
//
// Pushing results may run out of memory; wrap anything bigger than a few scalars in mw_task_resume_with.
// Cancel, deadline and unload all run the hook, once, and resume with nil, err. After the hook ran, the operation must not resume
// the task any more. A cancelled task cannot wait again: every wait fails at once with the same error, and pcall lets it through.
//
// A wait inside a coroutine that the plugin made suspends the whole task and comes back into that coroutine (vm/sandbox.h).

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "vm/vm.h"

/** Ends the pending operation without calling back; frees what it holds. */
typedef void (*mw_task_cancel_cb)(void *op);

/** The task is over. `status` 0: its results are on `L` (1 … lua_gettop(L)); else an error value is on top and `err` describes it.
 *  The task and L are gone when this returns. */
typedef void (*mw_task_done_cb)(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg);

typedef struct mw_task_opts {
  const char *what;      /**< Names it in errors and logs: "POST /checkout", "workflow checkout"; must outlive the task. */
  int64_t timeout_ms;    /**< 0: none. Ends with MW_ETIMEOUT. */
  mw_task_done_cb done;  /**< May be NULL. */
  void *arg;
  void *data;            /**< First value of mw_task_data. */
} mw_task_opts;

/** Starts a task: function and `nargs` arguments are on the stack of mw_vm_lua(vm) and are taken. Runs it at once until its first
 *  wait; `done` may be called before this returns. While Lua code of this vm runs (a binding starts a task), it begins at the
 *  end of the loop's turn instead. Returns the task, or NULL when it is over already. */
mw_task *mw_task_start(mw_vm *vm, int nargs, const mw_task_opts *opts);

/** The task that is running on this state, or NULL (loading, plain mw_vm_call). */
mw_task *mw_task_current(lua_State *L);
mw_vm *mw_task_vm(const mw_task *task);
/** The coroutine to push results on; only between the end of an operation and mw_task_resume. */
lua_State *mw_task_lua(const mw_task *task);
const char *mw_task_what(const mw_task *task);
/** A slot for the layer above (request, execution); NULL at first. */
void *mw_task_data(const mw_task *task);
void mw_task_set_data(mw_task *task, void *data);

/** Raises when the running code cannot wait: no task, loading, a C call in between (sort, gsub, metamethod …), or the task is
 *  cancelled. The message names `what` and the fix. */
void mw_task_check_yieldable(lua_State *L, const char *what);
/** Suspends the running task; use as `return mw_task_suspend(L, cancel, op);`. */
int mw_task_suspend(lua_State *L, mw_task_cancel_cb cancel, void *op);
/** Resumes a suspended task with the top `nresults` values of mw_task_lua. The task may be gone when it returns. While Lua code of
 *  the same vm runs it goes on at the end of the loop's turn instead. */
void mw_task_resume(mw_task *task, int nresults);
/** Resumes with what `push(L, arg)` pushes (it returns how many), protected: when it runs out of memory the task gets nil, err. */
void mw_task_resume_with(mw_task *task, int (*push)(lua_State *L, void *arg), void *arg);
/** Resumes with nil and an error object. */
void mw_task_resume_error(mw_task *task, int code, const char *message);

/** Ends the task's wait with an error that pcall does not stop. Also for a task that runs (it takes effect at its next wait or hook).
 *  `why` is copied. */
void mw_task_cancel(mw_task *task, int code, const char *why);
bool mw_task_is_cancelled(const mw_task *task);
/** True when it is over; for who holds a ref. */
bool mw_task_is_done(const mw_task *task);
/** Replaces the deadline: `timeout_ms` from now, 0: none. */
void mw_task_set_timeout(mw_task *task, int64_t timeout_ms);
/** Milliseconds left, INT64_MAX without a deadline. */
int64_t mw_task_left_ms(const mw_task *task);
/** Something a task holds that must not outlive it (a transaction). Embedded in its owner. */
typedef struct mw_task_hold {
  mw_list node;
  void (*cb)(struct mw_task_hold *hold);
} mw_task_hold;
/** `cb(hold)` is called once when the task is over, however it ends, before its `done`; not when it was removed before. */
void mw_task_hold_add(mw_task *task, mw_task_hold *hold, void (*cb)(mw_task_hold *hold));
/** Harmless after it was called, and on a hold that was initialised with mw_list_init(&hold->node). */
void mw_task_hold_remove(mw_task_hold *hold);
/** Keeps the task's memory while a callback of the caller runs. */
void mw_task_ref(mw_task *task);
void mw_task_unref(mw_task *task);

/** Waits `ms` (0: until the next turn) and returns true. Use as `return mw_task_sleep(L, "mw.sleep", ms);`. */
int mw_task_sleep(lua_State *L, const char *what, int64_t ms);
/** The number that mw_task_wake needs for the next mw_task_park of this task. */
uint64_t mw_task_park_serial(const mw_task *task);
/** Waits for that wake and returns its values, or nil, err after `timeout_ms` (0: none). Use with `return`. */
int mw_task_park(lua_State *L, const char *what, int64_t timeout_ms);
/** Wakes the task with the top `nvalues` values of `L`, which are taken; false when that park is over. A wake that comes before its
 *  park is kept for it. Called from Lua, the task goes on at the end of the loop's turn. */
bool mw_task_wake(lua_State *L, mw_task *task, uint64_t serial, int nvalues);

/** Takes a function and an argument from the top of L: when the task fails (an error, cancelled, killed, out of time) fn(arg, error) is
 *  called once, outside of any task, before `done`. Replaces an earlier one. */
void mw_task_set_on_fail(lua_State *L, mw_task *task);
/** In `done` of a failed task: such a function was called, so there is nothing more to say about it. */
bool mw_task_is_followed(const mw_task *task);
/** Keeps the value on top of L (taken) with the task; one at a time. */
void mw_task_set_local(lua_State *L, mw_task *task);
/** Pushes it, or nil. */
void mw_task_push_local(lua_State *L, const mw_task *task);

/** What a coroutine of a plugin yields when a wait inside it suspends the whole task (light userdata), and the C function that passes
 *  it on from the coroutine below. For lua/mw/_sandbox.lua. */
extern char mw_task_wait_tag;
int mw_task_pass_wait(lua_State *L);
