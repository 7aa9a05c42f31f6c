// SPDX-License-Identifier: MIT
#pragma once

// mw_runtime: the server of one process: workers, store, generations, listeners. It gets bound sockets and the configuration, and serves
// until it is told to stop (SIGTERM, SIGINT, or its supervisor is gone), drains, and returns. SIGHUP reloads.

#include <stdbool.h>

#include "app/config.h"
#include "app/listen.h"
#include "base/err.h"

/** Workers of one process. */
#define MW_MAX_WORKERS 64

/** Descriptors the runtime takes. The control socket is its own business: DATA/moonwatch.sock. */
typedef struct mw_runtime_fds {
  int workers;                               /**< How many workers to run. */
  int listeners[MW_LISTENERS][MW_MAX_WORKERS]; /**< One a worker, then -1. More when there were more workers before: worker i takes
                                                    every further one whose number modulo `workers` is i. */
  bool takes_over; /**< Another server is about to end: nothing is accepted before the database is prepared. */
  int supervisor; /**< -1: none. End of file means the supervisor is gone: drain and return. One byte is written to it when the server
                       is ready. */
} mw_runtime_fds;

/** Serves; blocks until drained. Returns 0 after a clean drain. MW_ELOCKED: another process uses the data folder; nothing was
 *  started, the descriptors are still open and the caller may try again. MW_ECONFIG, MW_EVERSION and others: `err` says what to do. In
 *  every other case than MW_ELOCKED the descriptors are closed. */
int mw_runtime_run(const mw_config *conf, const mw_runtime_fds *fds, mw_err *err);

/** Loads the plugins as `serve` would, without serving or touching a database, and prints the report (declarations, errors with file,
 *  line and fix) to stdout. Returns 0 when all loaded, MW_ELUA when a plugin failed, others with `err`. */
int mw_runtime_check(const mw_config *conf, bool json, mw_err *err);

/** Loads the plugins and looks at the database as a start would, without changing anything. Plugins that do not load are logged; `err` says
 *  what would keep a server from serving. A database that is away does not. */
int mw_runtime_try(const mw_config *conf, mw_err *err);
