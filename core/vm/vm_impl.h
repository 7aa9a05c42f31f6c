// SPDX-License-Identifier: MIT
#pragma once

// The inside of mw_vm and mw_task, for the files of this layer only.

#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "loop/timer.h"
#include "vm/task.h"
#include "vm/vm.h"

// Why code has to stop, and the error object that says so. A task has one; a plain call has one on the C stack.
typedef struct mw_vm_doom {
  int code; // 0: none
  int ref;  // the error object once it was raised
  char *why;
} mw_vm_doom;

// What the watchdog sees of a thread. `seq` is odd while the thread is inside Lua and changes with every entry, so no entry reads a
// clock.
typedef struct mw_vm_gate {
  atomic_uint_fast64_t seq;
  atomic_uint_fast64_t target; // the entry the watchdog wants stopped
  atomic_bool abort;           // … by ending the process
  int depth;
  char *stack;       // where the C stack was at the outermost entry
  mw_vm *_Atomic vm; // the innermost
} mw_vm_gate;

extern _Thread_local mw_vm_gate mw_gate;

typedef enum mw_task_state { MW_TASK_READY, MW_TASK_RUNNING, MW_TASK_SUSPENDED, MW_TASK_DONE } mw_task_state;

struct mw_task {
  mw_list node;  // in vm->tasks, or vm->spare
  mw_list ready; // in vm->ready while it waits for the end of the turn
  mw_list holds; // mw_task_hold
  mw_vm *vm;
  lua_State *co; // kept with the struct in the pool
  int co_ref;
  int refs;
  mw_task_state state;
  int nargs; // on `co`, for a task in vm->ready
  mw_task_opts opts;
  mw_task_cancel_cb cancel;
  void *op;
  void *data;
  mw_timer timer;
  int64_t deadline_ms; // 0: none
  mw_timer wait;       // for sleeping and parking
  bool parked;
  uint64_t park_serial; // of the next park
  int wake_ref;         // values of a wake that came before its park
  int local_ref;        // the Lua value of mw_task_set_local
  int fail_ref;         // {fn, arg} of mw_task_set_on_fail
  bool followed;        // its failure went to such a function
  mw_vm_doom doom;
};

struct mw_vm {
  lua_State *L;
  char *name;
  int worker;
  uint64_t generation;
  void *user;
  mw_loop *loop;

  lua_Alloc inner; // LuaJIT's own allocator, below the budget
  void *inner_ud;
  size_t used, peak, budget;
  size_t limit; // what `used` may reach now: SIZE_MAX outside of entries
  int lifted;
  bool refused; // the allocator said no since the last full collection
  bool tight;   // the collector works harder
  bool over;

  int depth; // entries, nested
  volatile sig_atomic_t hooked;
  mw_vm_doom *doom; // of what runs now
  mw_task *current;
  mw_list tasks, ready, spare;
  size_t task_count, spare_count;
  bool deferred; // run_ready is on its way

  bool loading, retired, finished;
  mw_timer drain;
  void (*retire_cb)(mw_vm *vm, void *arg);
  void *retire_arg;

  mw_buf trace; // traceback of the last failure
};

typedef struct mw_vm_entry {
  mw_vm *outer;
} mw_vm_entry;

/** Around every lua_pcall and lua_resume. */
void mw_vm_enter(mw_vm *vm, mw_vm_entry *entry);
void mw_vm_leave(mw_vm *vm, mw_vm_entry *entry);
/** Between these the runtime allocates without the budget: small things of its own (error objects, tracebacks, coroutines), also where
 *  an allocation that raises would have no protected call to land in. Nest; what an error skips is made good when the entry ends. */
void mw_vm_lift(mw_vm *vm);
void mw_vm_unlift(mw_vm *vm);

/** Collects all and notes whether the vm stays above its mark: for when an entry was refused memory, after what it left is let go. */
void mw_vm_settle_memory(mw_vm *vm);

/** Raises "stack overflow" when the entry has used up its part of the C stack: LuaJIT bounds the Lua stack of each coroutine, and so
 *  not how often coroutines and C functions with callbacks nest. */
void mw_vm_check_stack(lua_State *L);

/** Raises the doom of what runs now. */
int mw_vm_raise_doom(lua_State *L, mw_vm *vm);
/** lua_pcall for code that Lua called, outside of tasks, with the watchdog's whole time for itself: what kills it does not reach the
 *  caller. */
int mw_vm_call_apart(lua_State *L, mw_vm *vm, int nargs, int handler);
/** Dooms what runs now as killed, and raises. */
int mw_vm_raise_killed(lua_State *L, mw_vm *vm);
/** Sets it (once); `why` is copied. */
void mw_vm_set_doom(mw_vm_doom *doom, int code, const char *why);
void mw_vm_clear_doom(mw_vm *vm, mw_vm_doom *doom);
/** Makes the running code raise at its next instruction. Async-signal-safe as far as lua_sethook is. */
void mw_vm_arm_hook(mw_vm *vm);
/** Writes "plugins/x.lua:12" of the innermost code that is not the runtime's; false when there is none. */
bool mw_vm_where(lua_State *L, char *text, size_t size);
/** mw_vm_push_error, for code that is at `where` (NULL: nowhere). */
void mw_vm_push_error_at(lua_State *L, int code, const char *message, const char *where);
/** Keeps the traceback of `co` with the error on its top. */
void mw_vm_keep_trace(mw_vm *vm, lua_State *co);
/** Turns the status of lua_pcall or lua_resume and the value on top of L into `err`; returns its code. */
int mw_vm_status_error(lua_State *L, int status, mw_err *err);

/** Frees the pooled tasks; part of mw_vm_free. */
void mw_task_free_pool(mw_vm *vm);
void mw_task_cancel_all(mw_vm *vm, int code, const char *why);
/** Tells the vm that it may have become idle. */
void mw_vm_task_gone(mw_vm *vm);
/** Fires when a sleep or a park is over. */
void mw_task_on_wait_over(mw_timer *timer, void *arg);
