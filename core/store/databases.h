// SPDX-License-Identifier: MIT
#pragma once

// mw_databases: the further databases of the configuration by name, for mw.db(name). One a process; each worker has a door. A database is
// opened when it is first asked for (a SQLite file on the pool for files, since that waits for the disk), so one that is away or broken
// never holds up a start. It behaves as APP of the store does: same guard, same bounds, PostgreSQL by a pool of its own a worker.
//
//   mw_store_client *client = mw_databases_find(door, "reports");
//   if (!client) mw_databases_open(door, "reports", on_opened, me, &wait);

#include "store/store.h"

typedef struct mw_databases mw_databases;
typedef struct mw_databases_door mw_databases_door;
typedef struct mw_databases_wait mw_databases_wait;

typedef struct mw_databases_conf {
  const char *data_dir; /**< Where SQLite files without a folder are. */
  const char *const *names, *const *urls; /**< postgres://… or sqlite:FILE; mw_databases_check said yes. Copied. */
  size_t count;
  int pg_pool_size;     /**< Connections a worker and database. 0: 4. */
  mw_loop *inline_loop; /**< For specs of plugins: each one, whatever its URL, is a SQLite file in `data_dir` that is opened and served on this
                             loop. NULL: as configured. */
} mw_databases_conf;

/** Says whether a configured name and URL can be: MW_ECONFIG with a sentence that holds no part of a PostgreSQL URL. "app" and "engine" are
 *  taken; "sqlite:x.db" is a file in the data folder and none of ours, "sqlite:/path/x.db" one elsewhere. Pure. */
int mw_databases_check(const char *name, const char *url, mw_err *err);

mw_databases *mw_databases_new(const mw_databases_conf *conf);
/** Closes what was opened. All doors are gone. */
void mw_databases_free(mw_databases *databases);

/** Makes a worker's door; opens nothing. Owner's thread only, like all that follows. */
mw_databases_door *mw_databases_attach(mw_databases *databases, mw_loop *loop);
/** Detaches from what was opened; `cb` when the door is gone, later. Waits have been cancelled. */
void mw_databases_detach(mw_databases_door *door, void (*cb)(void *arg), void *arg);
/** The client of a database that is open on this worker, whose APP it is; NULL when it is not. */
mw_store_client *mw_databases_find(const mw_databases_door *door, const char *name);
/** True when there is a database of that name. */
bool mw_databases_has(const mw_databases_door *door, const char *name);
/** Opens one. Returns an error, or 0 and calls back once, later, unless it is cancelled: 0, or why not; it may be tried again. */
int mw_databases_open(mw_databases_door *door, const char *name, void (*cb)(int status, const mw_err *err, void *arg), void *arg,
                      mw_databases_wait **out);
void mw_databases_cancel(mw_databases_wait *wait);
