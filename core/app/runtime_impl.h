// SPDX-License-Identifier: MIT
#pragma once

// What the files of the runtime share: runtime.c (start, signals, end), worker.c, generation.c (reload), runtime_host.c (what
// bindings may ask). No one else includes it.

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "app/config.h"
#include "app/runtime.h"
#include "app/worker.h"
#include "base/buf.h"
#include "bind/host.h"
#include "http/access_log.h"
#include "http/forwarded.h"
#include "loop/address.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "loop/work.h"
#include "state/kv.h"
#include "state/late.h"
#include "store/databases.h"
#include "store/store.h"

typedef struct mw_plugin_files mw_plugin_files;
typedef struct mw_certificates mw_certificates;
typedef struct mw_watchdog mw_watchdog;
typedef struct mw_fswatch mw_fswatch;
typedef struct mw_poll mw_poll;
typedef struct mw_signal mw_signal;

/** Someone who waits for the end of a reload. */
typedef struct mw_reload_waiter {
  mw_list node;
  mw_runtime *rt;
  int worker; /**< -1: nobody to tell. */
  mw_host_reload_cb cb;
  void *arg;
  int status;
  mw_buf report;
} mw_reload_waiter;

/** Building generations; touched by the main loop's thread only. */
typedef struct mw_reload {
  mw_work_pool *loader;
  uint64_t last;        /**< Number of the newest generation, built or failed. */
  bool building, again; /**< `again`: somebody asked while one was being built. */
  mw_list waiting;      /**< For the build under way. */
  mw_list waiting_next; /**< For the one after it. */
} mw_reload;

struct mw_runtime {
  const mw_config *conf;
  mw_runtime_fds fds;
  const mw_host_ops *host_ops;
  mw_proxies proxies;
  mw_access_log *access_log;     /**< NULL: off. */
  mw_certificates *certificates; /**< NULL: no listener speaks TLS. */
  mw_loop *main;
  mw_store *store;
  mw_kv *kv;
  mw_databases *databases; /**< NULL: none is configured. */
  mw_late *late;
  mw_watchdog *watchdog;
  int workers;
  mw_worker worker[MW_MAX_WORKERS];
  int opened;           /**< Workers whose loop is up; main thread. */
  int ended;            /**< Workers whose loop has stopped; main thread. */
  pthread_barrier_t all_ended;
  int shared[MW_LISTENERS][MW_MAX_WORKERS]; /**< The workers' sockets once more, for those who help a stuck worker; -1: none. Main thread. */
  int beats;            /**< Workers that have not answered the supervisor's ping yet; main thread. */
  uint64_t helped[MW_MAX_WORKERS]; /**< By helper: whose sockets it was given, a bit each. Main thread. */
  int quiet;            /**< Workers that have nothing to wait for in a hand-over; main thread. */
  int installed;        /**< Workers that serve a generation; main thread. */
  mw_reload reload;
  mw_work_pool *database_pool;
  mw_timer database_retry, keep_alive, leave, doors;
  int database_failures;
  atomic_bool store_ready, draining, serving, loaded;
  atomic_bool leaving;  /**< Stops soon: not ready any more. */
  bool doors_open, told_ready; /**< Connections are accepted; the supervisor knows. Main thread. */
  bool handing_over;    /**< Another server of this data folder goes on. */
  char dashboard[MW_ADDRESS_TEXT + 24]; /**< What a person on this machine opens, without a path; "" on Unix sockets alone. */
  atomic_uint_fast64_t access_version; /**< Changes of keys and sessions by this process. */
  bool workers_gone; // their threads have ended; what still comes in on the main loop reaches nobody
  int64_t started_ns;
  int status;           /**< What mw_runtime_run returns. */
  mw_err err;
  mw_signal *signals[4];
  mw_fswatch *watch;
  mw_poll *supervisor;

  pthread_mutex_t report_lock;
  mw_buf report;        /**< JSON of the generation that serves. */
  mw_buf failed;        /**< JSON of the last load, when it failed; empty else. */
};

extern const mw_host_ops mw_runtime_host_ops;

/** True when that listener speaks TLS. Any thread. */
bool mw_runtime_is_tls(const mw_runtime *rt, int tag);
/** Any thread: migrated, registered, engines may start. */
bool mw_runtime_store_is_ready(const mw_runtime *rt);
/** Migrates the database, registers this node, starts the engines; tries again while the database is away. Main thread. */
void mw_runtime_prepare_database(mw_runtime *rt);
/** A worker is stuck or runs again: others accept on its sockets meanwhile. The watchdog's thread. */
void mw_runtime_on_stuck(int worker, bool stuck, void *rt);
/** Duplicates the sockets for that, and closes them. Main thread. */
void mw_runtime_share_sockets(mw_runtime *rt);
void mw_runtime_close_shared(mw_runtime *rt);
/** A worker's loop is up. Any thread. */
void mw_runtime_worker_opened(mw_runtime *rt, mw_worker *worker);
/** A worker's loop has stopped. Any thread. */
void mw_runtime_worker_ended(mw_runtime *rt);
/** A worker that hands over has nothing left that must end first. When that is so for all, all stop accepting: the kernel goes on giving
 *  the sockets of each its share, so that none may be the first. Any thread. */
void mw_runtime_worker_quiet(mw_runtime *rt);
/** Accepts connections and tells the supervisor that the server serves, once a generation is there and the database is prepared (or known to
 *  be away), so that no connection that waited is answered 503 for it. Main thread. */
void mw_runtime_open_doors(mw_runtime *rt);
/** Begins an orderly end; the first call counts. Main thread. */
void mw_runtime_drain(mw_runtime *rt, int status);
/** Is not ready any more from now on, and drains after `drain_delay`. Main thread. */
void mw_runtime_leave(mw_runtime *rt);

/** In a protected call with a function's name as light userdata: pushes that function of lua/mw/boot.lua. */
int mw_runtime_push_boot(lua_State *L);
/** Asks for a build; takes `waiter` (may be NULL). Main thread. */
void mw_runtime_reload(mw_runtime *rt, mw_reload_waiter *waiter);
/** The same from any thread, telling nobody. */
void mw_runtime_ask_reload(mw_runtime *rt);
/** Frees a retired vm on the loader thread. Any thread. */
void mw_runtime_dispose_vm(mw_runtime *rt, mw_vm *vm);
/** Makes one vm and calls boot.<function> of lua/mw/boot.lua in it ("load" or a "check"), which loads the plugins; `text` gets what it
 *  returns. MW_ELUA with a text when plugins failed, without one when the loading itself did. Any thread. */
int mw_runtime_load_vm(const mw_config *conf, mw_host *host, uint64_t generation, const mw_plugin_files *files, const char *function,
                       mw_vm **out, mw_buf *text, mw_err *err);
