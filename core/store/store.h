// SPDX-License-Identifier: MIT
#pragma once

// mw_store: the durable database, SQLite or PostgreSQL, behind one interface. One a process; every worker has a client, its
// door to it, and all of a client's callbacks come on that worker's loop.
//
// There are two databases behind it: ENGINE is ours (moonwatch.db, or schema `moonwatch` on PostgreSQL), APP is what
// plugins reach with mw.query (app.db, or the user's database through its own pool).
//
// SQLite: each file has one writer thread and a few reader threads; PostgreSQL: connections live on the workers' loops.
// While the database is away (PostgreSQL) calls answer MW_EUNAVAILABLE at once, reconnecting goes on in the background with
// backoff, and mw_store_is_up tells. SQLite is not up while the machine refuses writes (disk full); it tries again by itself.
//
//   mw_store *store; mw_store_open(&conf, &store, &err);
//   mw_store_client *client = mw_store_attach(store, loop);
//   mw_store_query(client, MW_DB_APP, &(mw_query_opts){.sql = MW_STR("SELECT 1")}, on_rows, arg, &query);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/value.h"

typedef struct mw_loop mw_loop;
typedef struct mw_store mw_store;
typedef struct mw_store_client mw_store_client;
typedef struct mw_query mw_query;
typedef struct mw_tx mw_tx;

typedef enum mw_db { MW_DB_ENGINE, MW_DB_APP } mw_db;

typedef struct mw_store_conf {
  const char *database_url; /**< NULL or "sqlite": SQLite in data_dir. Else postgres://… for engine and app. */
  const char *app_url;      /**< PostgreSQL only: the user's database when it is another one. NULL: database_url. */
  const char *data_dir;     /**< Made (0700) when absent. Its lock names the pid of the process that holds it. */
  const char *schema;       /**< PostgreSQL schema of our tables. NULL: "moonwatch". */
  int pg_pool_size;         /**< APP connections a worker. 0: 4. */
  int64_t pg_lease_ms;      /**< PostgreSQL: how long a node that is not heard of keeps its runs; at least 3 s. 0: 10 s. */
  int sqlite_readers;       /**< Reader threads a file. 0: 2. */
  size_t max_payload_bytes; /**< Of one input, result or state. 0: 1 MiB. */
  bool exclusive;           /**< Take the data lock (serve, migrate). False: read-only tools. */
  mw_loop *inline_loop;     /**< SQLite: run everything between two turns of this loop, which all clients share, instead of on threads.
                                 For specs of plugins: the order of things is the same every time. NULL: threads. */
} mw_store_conf;

/** Opens the store. SQLite files are opened (not migrated: store/migrate.h); PostgreSQL is not yet connected to.
 *  MW_ELOCKED names the pid that uses the data directory. */
int mw_store_open(const mw_store_conf *conf, mw_store **out, mw_err *err);
/** Opens a further database, with APP alone: postgres://… or the path of a SQLite file. No lock, no tables of ours. `inline_loop`
 *  as in mw_store_conf. */
int mw_store_open_single(const char *url, int pg_pool_size, mw_loop *inline_loop, mw_store **out, mw_err *err);
/** Ends writer threads after what is queued, closes files, drops the lock. All clients must be detached. */
void mw_store_close(mw_store *store);
/** "sqlite" or "postgres". Thread-safe. */
const char *mw_store_engine(const mw_store *store);
/** The PostgreSQL schema of our tables; "" on SQLite. Thread-safe. */
const char *mw_store_schema(const mw_store *store);
/** True when ENGINE and APP are the same PostgreSQL database, so that one transaction can touch both. Thread-safe. */
bool mw_store_shares_database(const mw_store *store);
/** True when the engine database answers. Thread-safe. */
bool mw_store_is_up(const mw_store *store);
/** Why it is not up; copies at most `size` bytes. Thread-safe. */
void mw_store_why_down(const mw_store *store, char *text, size_t size);

/** The store behind a client. */
mw_store *mw_store_client_store(const mw_store_client *client);

/** Makes a worker's door. The owner's thread only, like all that follows. */
mw_store_client *mw_store_attach(mw_store *store, mw_loop *loop);
/** Cancels what is under way (callbacks come with MW_ECANCELED; an engine write that had been handed over answers how it ended), then
 *  closes; `cb` (may be NULL) when it is gone. */
void mw_store_detach(mw_store_client *client, void (*cb)(void *arg), void *arg);
/** `cb` is called on this client's loop whenever the engine database comes up or goes away. One a client. */
void mw_store_on_state(mw_store_client *client, void (*cb)(bool up, void *arg), void *arg);

/** What another node, or this one, says to all: there is work that it has no room for; somebody wants something of an execution. */
typedef enum mw_store_notice { MW_NOTICE_WORK, MW_NOTICE_CONTROL } mw_store_notice;
typedef void (*mw_store_notice_cb)(mw_store_notice notice, mw_str id, void *arg);
/** `cb` is called on this client's loop when a notice comes (PostgreSQL: NOTIFY; also this node's own), and with WORK when the database has come
 *  back, since some may be lost. `id` is empty for WORK, and borrowed. One a client. */
void mw_store_on_notice(mw_store_client *client, mw_store_notice_cb cb, void *arg);
/** Says it to all nodes. Best effort: a notice may be lost, and who depends on it looks by itself now and then. WORK goes out at most twenty
 *  times a second, the last one never suppressed. On SQLite there is one node, and this does nothing. */
void mw_store_notify(mw_store_client *client, mw_store_notice notice, mw_str id);

typedef struct mw_query_opts {
  mw_str sql; /**< One statement, `$1`… on both engines; copied. The statement's own placeholders say how many parameters
                   are read: too few are NULL, more are an error. */
  const mw_value *params;
  size_t nparams;
  int64_t timeout_ms; /**< 0: 30 s. Then it is cancelled in the database and answers MW_ETIMEOUT. */
  size_t max_rows;    /**< 0: 100,000; more is MW_ELIMIT, never a silent cut. */
} mw_query_opts;

/** `rows` and `err` are borrowed until the callback returns. `err` is filled when status is not 0: `text` has the database's own
 *  words, `sqlstate` the five letters on PostgreSQL or the result's name on SQLite ("SQLITE_CONSTRAINT_UNIQUE"). */
typedef void (*mw_query_cb)(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg);

/** Runs one statement by itself. Returns an error (and never calls back), or 0 and calls back exactly once, later.
 *  APP refuses transaction control and session SET (MW_EDENIED, with the fix). */
int mw_store_query(mw_store_client *client, mw_db db, const mw_query_opts *opts, mw_query_cb cb, void *arg, mw_query **out);
/** The callback comes with MW_ECANCELED, later; a write may still have happened. */
void mw_query_cancel(mw_query *query);

/** A transaction on APP (or ENGINE, for our own tools). It holds a connection (SQLite: the file's writer) until it ends; after
 *  `timeout_ms` (0: 10 s) it is rolled back and every later call on it answers MW_ETIMEOUT. */
typedef void (*mw_tx_cb)(int status, mw_tx *tx, const mw_err *err, void *arg);
int mw_store_begin(mw_store_client *client, mw_db db, int64_t timeout_ms, mw_tx_cb cb, void *arg);
/** As mw_store_query, one at a time. An error on PostgreSQL dooms the transaction; on SQLite the statement alone is undone, and
 *  for the same behaviour the transaction is doomed as well. */
int mw_tx_query(mw_tx *tx, const mw_query_opts *opts, mw_query_cb cb, void *arg);
/** Commits or rolls back and frees the transaction; `cb` with the outcome. A doomed one answers the error that doomed it. When its
 *  client was detached meanwhile it has been rolled back: this frees it and returns or answers MW_ECANCELED (store and loop must still
 *  be there). */
int mw_tx_end(mw_tx *tx, bool commit, mw_tx_cb cb, void *arg);
