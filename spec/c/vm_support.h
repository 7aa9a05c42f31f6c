// SPDX-License-Identifier: MIT
#pragma once

// States and tasks for C specs of the Lua machine.

#include "harness.h"

#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "vm/sandbox.h"
#include "vm/task.h"
#include "vm/vm.h"

static mw_loop *loop;

static inline mw_vm *new_vm(size_t memory_bytes) {
  const lua_CFunction modules[] = {mw_open_sandbox, mw_open_task, NULL};
  mw_vm_conf conf = {.name = "spec", .generation = 7, .worker = 3, .memory_bytes = memory_bytes, .modules = modules};
  mw_vm *vm = NULL;
  mw_err err = {0};
  if (mw_vm_new(&conf, &vm, &err)) fprintf(stderr, "%s\n", err.text);
  CHECK(vm != NULL);
  mw_vm_adopt(vm, loop);
  return vm;
}

/** Leaves the chunk on the stack. */
static inline void load(mw_vm *vm, const char *code) {
  lua_State *L = mw_vm_lua(vm);
  if (luaL_loadbuffer(L, code, strlen(code), "@plugins/spec.lua") == 0) return;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  exit(1);
}

typedef struct outcome {
  int calls, status;
  mw_err err;
  char text[300]; // the first result
} outcome;

static inline void on_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  outcome *o = arg;
  o->calls++;
  o->status = status;
  o->err = *err;
  const char *text = status == 0 && lua_gettop(L) > 0 ? lua_tostring(L, 1) : NULL;
  snprintf(o->text, sizeof o->text, "%s", text ? text : "");
}

/** Starts the chunk on the stack as a task. */
static inline mw_task *start_chunk(mw_vm *vm, int64_t timeout_ms, outcome *o) {
  memset(o, 0, sizeof *o);
  mw_task_opts opts = {.what = "the task of a spec", .timeout_ms = timeout_ms, .done = on_done, .arg = o};
  return mw_task_start(vm, 0, &opts);
}

static inline mw_task *start(mw_vm *vm, const char *code, int64_t timeout_ms, outcome *o) {
  load(vm, code);
  return start_chunk(vm, timeout_ms, o);
}

/** Leaves code compiled for a fresh plugin environment (with `core` for mw.core.task) on the stack. */
static inline void load_plugin(mw_vm *vm, const char *code) {
  lua_State *L = mw_vm_lua(vm);
  mw_err err;
  load(vm,
       "local sandbox = require('mw.core.sandbox')\n"
       "local env = sandbox.new_env('spec.lua')\n"
       "env.core = require('mw.core.task')\n"
       "return assert(sandbox.load(..., '@plugins/spec.lua', env))");
  lua_pushstring(L, code);
  if (mw_vm_call(vm, 1, 1, &err) == 0) return;
  fprintf(stderr, "%s\n", err.text);
  exit(1);
}

static inline mw_task *start_plugin(mw_vm *vm, const char *code, outcome *o) {
  load_plugin(vm, code);
  return start_chunk(vm, 0, o);
}

static inline void finish(mw_vm *vm) {
  CHECK_INT(mw_vm_tasks(vm), 0);
  CHECK_INT(lua_gettop(mw_vm_lua(vm)), 0);
  mw_vm_free(vm);
}
