// SPDX-License-Identifier: MIT
#pragma once

// mw_vm: one Lua state, of one generation, for one worker. Knows nothing of the product. Built on the loader thread, then adopted by
// a worker; used by one thread at a time and never by two.
//
// Memory: the state allocates through a budget, enforced while code runs inside mw_vm_call or a task. What the runtime itself pushes
// outside of those is not limited by it, so a push in a loop callback cannot end the process; the debt shows in mw_vm_is_over_budget.
//
// Every entry into Lua is protected. Use mw_vm_call or mw_task_start; never lua_call from C code that Lua did not call.
//
//   mw_vm *vm; mw_vm_new(&conf, &vm, &err);
//   lua_State *L = mw_vm_lua(vm);
//   lua_getglobal(L, "boot"); lua_pushinteger(L, 1);
//   if (mw_vm_call(vm, 1, 0, &err)) …

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

typedef struct mw_loop mw_loop;
typedef struct mw_vm mw_vm;
typedef struct mw_task mw_task;

typedef struct mw_vm_conf {
  const char *name;         /**< For log lines; copied. */
  int worker;               /**< Index of the worker it is for. */
  uint64_t generation;
  size_t memory_bytes;      /**< Budget. 0: 256 MiB. */
  const lua_CFunction *modules; /**< NULL-ended: each is called once with the state and registers its C modules (package.preload). */
  void *user;               /**< For those above; mw_vm_user gives it back. */
} mw_vm_conf;

/** Makes a state: standard libraries, `package.loaders` reduced to preload and the embedded Lua library (or the folder MW_LUA_PATH
 *  names, in development), a random seed for math.random. Runs no product code. */
int mw_vm_new(const mw_vm_conf *conf, mw_vm **out, mw_err *err);
/** Closes the state. No task may be left; any thread that owns the vm. */
void mw_vm_free(mw_vm *vm);

lua_State *mw_vm_lua(const mw_vm *vm);
/** The vm a state or coroutine belongs to; NULL for a state that mw_vm_new did not make. O(1). */
mw_vm *mw_vm_of(lua_State *L);
void *mw_vm_user(const mw_vm *vm);
int mw_vm_worker(const mw_vm *vm);
uint64_t mw_vm_generation(const mw_vm *vm);
const char *mw_vm_name(const mw_vm *vm);

/** Gives it to the loop of the calling thread. */
void mw_vm_adopt(mw_vm *vm, mw_loop *loop);
/** The loop that adopted it; NULL while it is loading. */
mw_loop *mw_vm_loop(const mw_vm *vm);
/** Tasks that have not ended. */
size_t mw_vm_task_count(const mw_vm *vm);
/** True while plugin files are being loaded: effects refuse then. */
bool mw_vm_is_loading(const mw_vm *vm);
void mw_vm_set_loading(mw_vm *vm, bool loading);
/** False once a newer generation serves. Workflows look at it between steps. */
bool mw_vm_is_current(const mw_vm *vm);
/** Marks an adopted vm old. When its last task is gone, or after `drain_ms` when the rest is cancelled, `cb(vm, arg)` is called on the
 *  adopting loop (later, never at once); the callee may free it then, best on another thread. */
void mw_vm_retire(mw_vm *vm, int64_t drain_ms, void (*cb)(mw_vm *vm, void *arg), void *arg);

/** Calls what is on the stack of mw_vm_lua: function, `nargs` arguments, by pcall with a traceback. Returns 0 with
 *  `nresults` results, or an error code with nothing left on the stack: MW_ELUA, MW_EMEMORY, MW_EKILLED, MW_ESYNTAX (the
 *  error's own code when it is an error object whose code is one of base/err.h's); `err` has the message with file and line. */
int mw_vm_call(mw_vm *vm, int nargs, int nresults, mw_err *err);

/** Runs `fn(L)` with `arg` as its light userdata argument in a protected call, without a budget: for C code that pushes. */
int mw_vm_protect(mw_vm *vm, lua_CFunction fn, void *arg, mw_err *err);

/** Pushes an error object {code, message, retryable, where} with the metatable of lua/mw/errors.lua; `message` NULL: the code's text. */
void mw_vm_push_error(lua_State *L, int code, const char *message);
/** Pushes nil and such an object; returns 2. The shape in which bindings answer lua/mw. */
int mw_vm_push_failure(lua_State *L, int code, const char *message);
/** Reads whatever error value is at `index` into words (message, else tostring) and returns its code. */
int mw_vm_read_error(lua_State *L, int index, mw_err *err);

/** The code of base/err.h with that short name ("timeout"); MW_ELUA for any other word. */
int mw_vm_code_of(const char *name);
/** Traceback of the last call or task that failed by other than an error object; valid until the next one. For logs. */
const char *mw_vm_traceback(mw_vm *vm);

/** For the `modules` of a state: registers `open` (it returns the module's table) as `require(name)`. */
void mw_vm_add_module(lua_State *L, const char *name, lua_CFunction open);

/** Bytes in use; the most since the last call of mw_vm_take_peak. */
size_t mw_vm_memory(const mw_vm *vm);
size_t mw_vm_take_peak(mw_vm *vm);
/** True when a full collection left it above its mark: the generation should be rebuilt. */
bool mw_vm_is_over_budget(const mw_vm *vm);
size_t mw_vm_tasks(const mw_vm *vm);
