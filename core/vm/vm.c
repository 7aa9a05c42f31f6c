// SPDX-License-Identifier: MIT
#include "vm/vm.h"

#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include "loop/loop.h"
#include "vm/library.h"
#include "vm/vm_impl.h"

#define DEFAULT_BUDGET ((size_t)256 * 1024 * 1024)

// Of the 2 MiB that a thread has; what one coroutine's stack lets unchecked calls take comes on top.
#define MAX_C_STACK (512 * 1024)

_Thread_local mw_vm_gate mw_gate;

// Memory
//
// LuaJIT has no emergency collection: an allocation that is refused raises at once. So the collector is made to work harder from a
// third of the budget on, and what is left after a refusal is looked at with a full collection when the entry ends.

static void *budget_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  mw_vm *vm = ud;
  if (nsize > osize) {
    if (vm->limit != SIZE_MAX && MW_FAULT(lua_alloc)) return NULL; // only inside an entry: outside Lua would panic
    if (vm->used - osize + nsize > vm->limit) {
      vm->refused = true;
      return NULL;
    }
  }
  void *now = vm->inner(vm->inner_ud, ptr, osize, nsize);
  if (!now && nsize) return NULL;
  vm->used = vm->used - osize + nsize;
  if (vm->used > vm->peak) vm->peak = vm->used;
  return now;
}

static void set_limit(mw_vm *vm) {
  vm->limit = vm->depth == 0 || vm->lifted ? SIZE_MAX : vm->budget;
}

void mw_vm_lift(mw_vm *vm) {
  vm->lifted++;
  set_limit(vm);
}

void mw_vm_unlift(mw_vm *vm) {
  if (vm->lifted > 0) vm->lifted--;
  set_limit(vm);
}

// Above a third: collect at 1.3 times what lives instead of twice.
static void tune_collector(mw_vm *vm) {
  bool tight = vm->used > vm->budget / 3;
  if (tight == vm->tight) return;
  vm->tight = tight;
  lua_gc(vm->L, LUA_GCSETPAUSE, tight ? 130 : 200);
  if (tight) lua_gc(vm->L, LUA_GCRESTART, 0);
}

enum { MAX_COLLECTIONS = 12 };

void mw_vm_settle_memory(mw_vm *vm) {
  if (vm->depth > 0) return;
  vm->refused = false;
  // Each collection halves LuaJIT's own string buffer, which a bomb has made large; until it is small again the collector would wait for
  // more garbage than the budget allows.
  size_t before;
  int rounds = 0;
  do {
    before = vm->used;
    lua_gc(vm->L, LUA_GCCOLLECT, 0);
  } while (vm->used < before / 10 * 9 && ++rounds < MAX_COLLECTIONS);
  vm->over = vm->used > vm->budget / 4 * 3;
  if (vm->over)
    mw_log(MW_LOG_WARN, "vm", "the memory of a state stays above its mark after a full collection",
           MW_LOG_S("vm", vm->name), MW_LOG_I("bytes", vm->used), MW_LOG_I("budget", vm->budget));
}

size_t mw_vm_memory(const mw_vm *vm) { return vm->used; }

size_t mw_vm_take_peak(mw_vm *vm) {
  size_t peak = vm->peak;
  vm->peak = vm->used;
  return peak;
}

bool mw_vm_is_over_budget(const mw_vm *vm) { return vm->over; }

// Entries

void mw_vm_enter(mw_vm *vm, mw_vm_entry *entry) {
  mw_vm_gate *gate = &mw_gate;
  entry->outer = atomic_load_explicit(&gate->vm, memory_order_relaxed);
  atomic_store_explicit(&gate->vm, vm, memory_order_relaxed);
  if (gate->depth++ == 0) {
    gate->stack = __builtin_frame_address(0);
    uint_fast64_t seq = atomic_load_explicit(&gate->seq, memory_order_relaxed);
    atomic_store_explicit(&gate->seq, seq + 1, memory_order_release);
  }
  if (vm->depth++ == 0) vm->limit = vm->budget;
}

void mw_vm_check_stack(lua_State *L) {
  mw_vm_gate *gate = &mw_gate;
  if (gate->depth == 0) return;
  ptrdiff_t used = gate->stack - (char *)__builtin_frame_address(0);
  if (used > MAX_C_STACK || used < -MAX_C_STACK) luaL_error(L, "stack overflow: calls are nested too deep");
}

static void disarm_hook(mw_vm *vm) {
  vm->hooked = 0;
  atomic_signal_fence(memory_order_seq_cst);
  lua_sethook(vm->L, NULL, 0, 0);
}

void mw_vm_leave(mw_vm *vm, mw_vm_entry *entry) {
  mw_vm_gate *gate = &mw_gate;
  if (--gate->depth == 0) {
    uint_fast64_t seq = atomic_load_explicit(&gate->seq, memory_order_relaxed);
    atomic_store_explicit(&gate->seq, seq + 1, memory_order_release);
  }
  atomic_signal_fence(memory_order_seq_cst); // a signal from here on arms nothing
  atomic_store_explicit(&gate->vm, entry->outer, memory_order_relaxed);
  if (--vm->depth > 0) return;
  vm->lifted = 0;
  vm->limit = SIZE_MAX;
  if (vm->hooked) disarm_hook(vm);
  tune_collector(vm);
}

bool mw_vm_where(lua_State *L, char *text, size_t size) {
  lua_Debug ar;
  for (int level = 0; level < 100 && lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar) || ar.source[0] != '@') continue;
    if (strncmp(ar.source, "@lua/", 5) == 0) continue;
    // Where a dead coroutine failed is not known any more, only in which function.
    snprintf(text, size, "%s:%d", ar.source + 1, ar.currentline > 0 ? ar.currentline : ar.linedefined);
    return true;
  }
  return false;
}

// Doom

void mw_vm_set_doom(mw_vm_doom *doom, int code, const char *why) {
  if (doom->code) return;
  doom->code = code;
  doom->why = why ? mw_strdup(why) : NULL;
}

void mw_vm_clear_doom(mw_vm *vm, mw_vm_doom *doom) {
  if (doom->ref != LUA_NOREF) luaL_unref(vm->L, LUA_REGISTRYINDEX, doom->ref);
  mw_free(doom->why);
  *doom = (mw_vm_doom){0, LUA_NOREF, NULL};
}

int mw_vm_raise_doom(lua_State *L, mw_vm *vm) {
  mw_vm_doom *doom = vm->doom;
  mw_vm_lift(vm);
  if (doom->ref == LUA_NOREF) {
    mw_vm_push_error(L, doom->code, doom->why);
    lua_pushvalue(L, -1);
    doom->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  } else {
    lua_rawgeti(L, LUA_REGISTRYINDEX, doom->ref);
  }
  mw_vm_unlift(vm);
  return lua_error(L);
}

int mw_vm_raise_killed(lua_State *L, mw_vm *vm) {
  char why[200];
  snprintf(why, sizeof why, "%s ran too long without a pause and was stopped", vm->current ? mw_task_what(vm->current) : "it");
  mw_vm_set_doom(vm->doom, MW_EKILLED, why);
  return mw_vm_raise_doom(L, vm);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
  mw_vm *vm = mw_vm_of(L);
  if (vm && vm->depth > 0 && vm->doom) mw_vm_raise_killed(L, vm);
}

void mw_vm_arm_hook(mw_vm *vm) {
  vm->hooked = 1;
  lua_sethook(vm->L, on_hook, LUA_MASKCOUNT, 1);
}

// The state

static int open_libraries(lua_State *L) {
  const mw_vm_conf *conf = lua_touserdata(L, 1);
  luaL_openlibs(L);
  // Nothing is compiled, our own library neither: Debian's LuaJIT mishandles a refused allocation on a trace (a wild jump), and refusing
  // is what the budget does. It costs an execution a sixth more instructions; a route shows no difference (bench/README.md).
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  mw_vm_open_library(L);
  lua_getglobal(L, "math");
  lua_getfield(L, -1, "randomseed");
  lua_pushnumber(L, (lua_Number)(mw_rand_u64() >> 11));
  lua_call(L, 1, 0);
  lua_settop(L, 0);
  for (const lua_CFunction *open = conf->modules; open && *open; open++) {
    lua_pushcfunction(L, *open);
    lua_call(L, 0, 0);
  }
  return 0;
}

int mw_vm_new(const mw_vm_conf *conf, mw_vm **out, mw_err *err) {
  lua_State *L = luaL_newstate();
  if (!L) return mw_err_set(err, MW_EMEMORY, "there is no memory for another Lua state");
  mw_vm *vm = MW_NEW(mw_vm);
  vm->L = L;
  vm->name = mw_strdup(conf->name ? conf->name : "vm");
  vm->worker = conf->worker;
  vm->generation = conf->generation;
  vm->user = conf->user;
  vm->budget = conf->memory_bytes ? conf->memory_bytes : DEFAULT_BUDGET;
  vm->limit = SIZE_MAX;
  vm->used = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB, 0);
  mw_list_init(&vm->tasks);
  mw_list_init(&vm->ready);
  mw_list_init(&vm->spare);
  vm->inner = lua_getallocf(L, &vm->inner_ud);
  lua_setallocf(L, budget_alloc, vm);
  int rc = mw_vm_protect(vm, open_libraries, (void *)conf, err);
  if (rc) {
    mw_vm_free(vm);
    return rc;
  }
  *out = vm;
  return 0;
}

void mw_vm_free(mw_vm *vm) {
  if (!vm) return;
  mw_timer_stop(&vm->drain);
  lua_setallocf(vm->L, vm->inner, vm->inner_ud); // so that LuaJIT gives its whole arena back
  lua_close(vm->L);
  mw_task_free_pool(vm);
  mw_buf_deinit(&vm->trace);
  mw_free(vm->name);
  mw_free(vm);
}

lua_State *mw_vm_lua(const mw_vm *vm) { return vm->L; }

mw_vm *mw_vm_of(lua_State *L) {
  void *ud;
  return lua_getallocf(L, &ud) == budget_alloc ? ud : NULL;
}

void *mw_vm_user(const mw_vm *vm) { return vm->user; }
int mw_vm_worker(const mw_vm *vm) { return vm->worker; }
uint64_t mw_vm_generation(const mw_vm *vm) { return vm->generation; }
const char *mw_vm_name(const mw_vm *vm) { return vm->name; }
void mw_vm_adopt(mw_vm *vm, mw_loop *loop) { vm->loop = loop; }
mw_loop *mw_vm_loop(const mw_vm *vm) { return vm->loop; }
size_t mw_vm_task_count(const mw_vm *vm) { return vm->task_count; }
bool mw_vm_is_loading(const mw_vm *vm) { return vm->loading; }
void mw_vm_set_loading(mw_vm *vm, bool loading) { vm->loading = loading; }
bool mw_vm_is_current(const mw_vm *vm) { return !vm->retired; }
size_t mw_vm_tasks(const mw_vm *vm) { return vm->task_count; }

// Retiring

static void on_retired(void *arg) {
  mw_vm *vm = arg;
  if (vm->deferred || vm->task_count > 0) { // something was started meanwhile
    vm->finished = false;
    mw_vm_task_gone(vm);
    return;
  }
  mw_timer_stop(&vm->drain);
  vm->retire_cb(vm, vm->retire_arg);
}

void mw_vm_task_gone(mw_vm *vm) {
  if (!vm->retired || vm->finished || vm->task_count > 0 || vm->deferred) return;
  vm->finished = true;
  mw_loop_post(vm->loop, on_retired, vm);
}

static void on_drain(mw_timer *timer, void *arg) {
  mw_vm *vm = arg;
  mw_task_cancel_all(vm, MW_ECANCELED, "a newer version of the plugins has taken over and the time to finish is up");
}

void mw_vm_retire(mw_vm *vm, int64_t drain_ms, void (*cb)(mw_vm *vm, void *arg), void *arg) {
  if (vm->retired) return;
  vm->retired = true;
  vm->retire_cb = cb;
  vm->retire_arg = arg;
  mw_timer_init(&vm->drain, on_drain, vm);
  if (vm->task_count > 0) mw_timer_start(vm->loop, &vm->drain, drain_ms);
  mw_vm_task_gone(vm);
}

// Calls

void mw_vm_keep_trace(mw_vm *vm, lua_State *co) {
  mw_buf_reset(&vm->trace, 4096);
  mw_vm_lift(vm);
  if (!lua_checkstack(co, 10)) {
    mw_vm_unlift(vm);
    return;
  }
  luaL_traceback(co, co, NULL, 0);
  size_t len;
  const char *text = lua_tolstring(co, -1, &len);
  mw_buf_add(&vm->trace, text, len < 8192 ? len : 8192);
  lua_pop(co, 1);
  mw_vm_unlift(vm);
}

const char *mw_vm_traceback(mw_vm *vm) { return mw_buf_cstr(&vm->trace); }

static int on_call_error(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  mw_vm_keep_trace(vm, L);
  return 1;
}

int mw_vm_call(mw_vm *vm, int nargs, int nresults, mw_err *err) {
  lua_State *L = vm->L;
  int base = lua_gettop(L) - nargs;
  lua_pushcfunction(L, on_call_error);
  lua_insert(L, base);
  mw_vm_doom own = {0, LUA_NOREF, NULL}, *outer = vm->doom;
  if (!vm->current) vm->doom = &own;
  mw_vm_entry entry;
  mw_vm_enter(vm, &entry);
  int status = lua_pcall(L, nargs, nresults, base);
  mw_vm_leave(vm, &entry);
  vm->doom = outer;
  int rc = 0;
  if (status) {
    rc = mw_vm_status_error(L, status, err);
    lua_pop(L, 1);
  }
  mw_vm_clear_doom(vm, &own);
  lua_remove(L, base);
  if (vm->refused) mw_vm_settle_memory(vm);
  return rc;
}

// A new number for the watchdog: what follows gets its own time.
static void renew_gate(void) {
  mw_vm_gate *gate = &mw_gate;
  uint_fast64_t seq = atomic_load_explicit(&gate->seq, memory_order_relaxed);
  atomic_store_explicit(&gate->seq, seq + 2, memory_order_release);
  atomic_signal_fence(memory_order_seq_cst);
}

int mw_vm_call_apart(lua_State *L, mw_vm *vm, int nargs, int handler) {
  mw_vm_doom own = {0, LUA_NOREF, NULL}, *outer = vm->doom;
  vm->doom = &own;
  renew_gate();
  int status = lua_pcall(L, nargs, LUA_MULTRET, handler);
  renew_gate();
  vm->doom = outer;
  if (vm->hooked) disarm_hook(vm);
  mw_vm_clear_doom(vm, &own);
  return status;
}

int mw_vm_protect(mw_vm *vm, lua_CFunction fn, void *arg, mw_err *err) {
  int lifted = vm->lifted;
  mw_vm_lift(vm);
  int status = lua_cpcall(vm->L, fn, arg);
  vm->lifted = lifted;
  set_limit(vm);
  if (!status) return 0;
  int rc = mw_vm_status_error(vm->L, status, err);
  lua_pop(vm->L, 1);
  return rc;
}

void mw_vm_add_module(lua_State *L, const char *name, lua_CFunction open) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 2);
}
