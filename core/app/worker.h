// SPDX-License-Identifier: MIT
#pragma once

// mw_worker: a thread with a loop, a door to the store, an HTTP host, and the vm of the generation that serves. Everything here but
// mw_worker_start, mw_worker_join and mw_worker_post is called on the worker's own thread.

#include <stdbool.h>
#include <stdint.h>

#include "app/config.h"
#include "app/runtime.h"
#include "bind/host.h"
#include "loop/loop.h"
#include "loop/thread.h"
#include "loop/timer.h"

typedef struct mw_http_host mw_http_host;
typedef struct mw_runtime mw_runtime;

typedef struct mw_worker {
  mw_runtime *rt;
  int index;
  mw_thread thread;
  mw_loop *loop;
  mw_host host;           /**< What its vms see. */
  mw_http_host *http;
  mw_vm *vm;              /**< Serving; NULL before the first generation. */
  bool listening, engine_started, leaving, draining, http_drained; /**< `leaving`: the engine begins nothing any more. */
  int *help[MW_MAX_WORKERS]; /**< Descriptors on which it helps each other worker (see stuck.c), -1 at the end; NULL: none. */
  int retiring;           /**< vms that still have tasks. */
  int64_t left_at_ms, accept_until_ms, drain_until_ms;
  bool rebuild_asked;     /**< A fresh generation is on its way because of memory. */
  mw_timer start_retry, tick, leave;
} mw_worker;

/** Makes the loop and starts the thread. */
int mw_worker_start(mw_worker *worker, mw_runtime *rt, int index);
void mw_worker_join(mw_worker *worker);

/** Begins to serve a vm; the one before is retired. */
void mw_worker_install(mw_worker *worker, mw_vm *vm);
/** Accepts connections; once. */
void mw_worker_listen(mw_worker *worker);
/** Starts the workflow engine of the serving vm, when the store is ready and it did not start yet. */
void mw_worker_start_engine(mw_worker *worker);
void mw_worker_wake_engine(mw_worker *worker, int64_t due_us);
/** Tells the engine that somebody wants something of the execution `id`. */
void mw_worker_tell_control(mw_worker *worker, const char *id);
/** Says `Connection: close` on all answers while it goes on serving. */
void mw_worker_wind_down(mw_worker *worker);
/** Winds down and starts no execution any more; says mw_runtime_worker_quiet once those under way, and the requests that were there, have
 *  ended, at the latest a while before `bound_ms` are over. Connections come in until mw_worker_finish_hand_over. */
void mw_worker_hand_over(mw_worker *worker, int64_t bound_ms);
/** Drains in what is left of the hand-over's `bound_ms`. */
void mw_worker_finish_hand_over(mw_worker *worker);
/** Stops listening, lets requests and tasks end within `bound_ms`, closes everything; the thread ends then. */
void mw_worker_drain(mw_worker *worker, int64_t bound_ms);
