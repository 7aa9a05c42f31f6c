// SPDX-License-Identifier: MIT
#pragma once

// The watchdog: one thread that sees how long each worker has been inside Lua. Over the soft limit it signals the worker (SIGURG),
// again every 10 ms until the task is dead; the handler arms a count hook that raises. Over the hard limit, which only a C call that
// never returns can reach, it writes the Lua traceback it can and aborts; the supervisor starts the server again.

#include <stdbool.h>
#include <stdint.h>

typedef struct mw_watchdog mw_watchdog;
typedef struct mw_watchdog_conf {
  int64_t soft_ms; /**< Uninterrupted Lua. 0: 1,000. */
  int64_t hard_ms; /**< 0: 10,000. */
  int64_t stuck_ms; /**< When on_stuck is told. 0: soft_ms. */
  /** A worker is stuck (in Lua for more than stuck_ms) or recovered; called on the watchdog's thread, and must not call the watchdog. May be
   *  NULL. */
  void (*on_stuck)(int worker, bool stuck, void *arg);
  void *arg;
} mw_watchdog_conf;

/** Starts the watching thread and takes SIGURG for the process. */
mw_watchdog *mw_watchdog_start(const mw_watchdog_conf *conf);
/** Ends the thread. Threads added are not watched any more and need not be removed. */
void mw_watchdog_stop(mw_watchdog *watchdog);
/** Watches the calling thread as worker `index`. Entries into Lua on this thread are seen from then on. */
void mw_watchdog_add_thread(mw_watchdog *watchdog, int index);
void mw_watchdog_remove_thread(mw_watchdog *watchdog);
