// SPDX-License-Identifier: MIT
#pragma once

// What the files of the PostgreSQL engine share: its store and a worker's client. Private to this layer; the
// contract is in store.h, journal.h and engine.h.

#include <pthread.h>

#include "base/list.h"
#include "loop/timer.h"
#include "store/engine.h"
#include "store/pg_pool.h"
#include "store/pg_target.h"

typedef struct mw_pg_writer mw_pg_writer;
typedef struct mw_work_pool mw_work_pool;

typedef struct mw_pg_store {
  mw_store base;
  mw_work_pool *cancel_pool;
  mw_pg_target *engine, *app, *writer;
  _Atomic int writers_up;     /**< Clients whose writer reaches the database. */
  _Atomic int64_t renewed_ms; /**< When a renewal of the lease was last begun. */
  pthread_mutex_t lock;       /**< Of `why`. */
  char why[512];
} mw_pg_store;

typedef struct mw_pg_client {
  mw_store_client base;
  mw_pg_pool *engine; /**< Reads and tools; two connections. */
  mw_pg_pool *app;
  mw_pg_writer *writer;
  mw_list queries; /**< Not yet answered. */
  mw_list txs;
  mw_timer settle; /**< While it closes: looks whether the last writes are through. */
  int64_t settle_until_ms;
  int closing; /**< Parts that have not gone yet. */
  void (*gone)(void *arg);
  void *gone_arg;
} mw_pg_client;

static inline mw_pg_store *mw_pg_store_of(mw_pg_client *client) { return (mw_pg_store *)client->base.store; }

/** True when a statement should not even wait, because the database is away; fills `err`. */
bool mw_pg_query_is_refused(mw_pg_client *client, mw_db db, mw_err *err);

/** The functions of mw_engine that queries and transactions are; pg_query.c and pg_tx.c. */
int mw_pg_query_start(mw_store_client *client, mw_db db, const mw_query_opts *opts, mw_query_cb cb, void *arg,
                      mw_query **out);
void mw_pg_query_cancel(mw_query *query);
int mw_pg_tx_begin(mw_store_client *client, mw_db db, int64_t timeout_ms, mw_tx_cb cb, void *arg);
int mw_pg_tx_query(mw_tx *tx, const mw_query_opts *opts, mw_query_cb cb, void *arg);
int mw_pg_tx_end(mw_tx *tx, bool commit, mw_tx_cb cb, void *arg);
/** Answers all queries with MW_ECANCELED and leaves the transactions without a connection; before the pools are
 * closed. */
void mw_pg_query_cancel_all(mw_pg_client *client);
void mw_pg_tx_cancel_all(mw_pg_client *client);
