// SPDX-License-Identifier: MIT
#pragma once

// mw_host: what bindings may ask of the program around them: one a worker, set as mw_vm_conf.user of each of its vms, alive as long as
// the worker. The app layer fills it; bindings read it with mw_host_of(L). NULL fields: not there (specs, `moonwatch check`).

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "vm/vm.h"

typedef struct mw_store_client mw_store_client;
typedef struct mw_kv mw_kv;
typedef struct mw_late mw_late;
typedef struct mw_http_client mw_http_client;
typedef struct mw_redis mw_redis;
typedef struct mw_databases_door mw_databases_door;

/** How a reload ended. `report` is JSON (see lua/mw/_loader.lua), borrowed until the callback returns. */
typedef void (*mw_host_reload_cb)(int status, mw_str report, void *arg);

typedef struct mw_host_ops {
  /** Writes the value of an option ("workflow.concurrency") as JSON into `out`; false for an unknown or secret one. Any thread. */
  bool (*config)(void *program, mw_str name, mw_buf *out);
  /** Reads an environment variable that plugins may see; NULL when unset. `*allowed` says whether its name is listed. */
  const char *(*env)(void *program, const char *name, bool *allowed);
  /** True when `token` is the server's (constant time); `*is_set` says whether one is configured. */
  bool (*token_matches)(void *program, mw_str token, bool *is_set);
  /** How often keys and sessions were changed by this process, after counting one more when `changed`. Any thread. */
  uint64_t (*access_version)(void *program, bool changed);
  /** Starts a reload; `cb` comes on this worker's loop. */
  void (*reload)(void *program, int worker, mw_host_reload_cb cb, void *arg);
  /** Appends JSON: {generation, plugins = [...], error = null | {...}}. Any thread. */
  void (*plugins)(void *program, mw_buf *out);
  /** Appends JSON: {ready, reasons = [...], uptime, version, engine, …}. Any thread. */
  void (*status)(void *program, mw_buf *out);
  /** True while the server drains. */
  bool (*is_draining)(void *program);
  /** Tells every worker that executions may be due then (the engine asks for it after it queued some). Any thread. */
  void (*wake_engines)(void *program, int64_t due_us);
  /** Tells every worker that somebody wants something of an execution (`control`), or sent it a signal: its owner looks. Any thread. */
  void (*tell_control)(void *program, const char *id);
} mw_host_ops;

typedef struct mw_host {
  const mw_host_ops *ops;
  void *program;          /**< For the functions above. */
  int worker;
  mw_store_client *store; /**< This worker's door. */
  mw_databases_door *databases; /**< This worker's door to the further databases; NULL: there are none. */
  mw_http_client *client; /**< This worker's connections to other servers. */
  mw_redis *redis;        /**< This worker's way to Redis; NULL: none is configured. */
  mw_kv *kv;              /**< Shared by the process. */
  mw_late *late;          /**< Shared by the process. NULL: rows only wait for what comes next. */
} mw_host;

/** The host of the worker that a state is for; NULL in a bare state. */
static inline mw_host *mw_host_of(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  return vm ? (mw_host *)mw_vm_user(vm) : NULL;
}
