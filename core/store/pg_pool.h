// SPDX-License-Identifier: MIT
#pragma once

// mw_pg_pool: a worker's few connections to one database, opened as they are needed. Ops of many tasks share
// them: an op goes to an idle connection, else behind others on one whose front has not been running long, else
// it waits. A transaction has a connection for itself. After a failed attempt to connect, with no connection
// left, the pool is down: what waits is answered MW_EUNAVAILABLE, and so is what comes, until an attempt
// succeeds (100 ms … 5 s between them).
//
//   if (!mw_pg_pool_is_down(pool, &err)) mw_pg_pool_run(pool, op);
//
// Owner's thread only. Callbacks come from the loop, never from within run or acquire.

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/list.h"
#include "store/pg_conn.h"

typedef struct mw_pg_pool mw_pg_pool;
typedef struct mw_pg_waiter mw_pg_waiter;

/** Somebody who wants a connection for itself. */
struct mw_pg_waiter {
  mw_list node;
  /** A connection (until mw_pg_pool_release), or NULL and why not. */
  void (*cb)(mw_pg_waiter *waiter, mw_pg_conn *conn, const mw_err *err);
  /** The connection it holds is gone; not to be released any more. */
  void (*lost)(mw_pg_waiter *waiter, const mw_err *err);
};

/** At most `size` connections. Nothing is opened yet. */
mw_pg_pool *mw_pg_pool_new(mw_loop *loop, mw_pg_target *target, int size);
/** Answers what waits and runs with MW_ECANCELED (from within this call), closes. `gone` comes later.
 * Connections that were acquired are lost. */
void mw_pg_pool_close(mw_pg_pool *pool, void (*gone)(void *arg), void *arg);
/** True while nothing can be reached; fills `err` with the reason. */
bool mw_pg_pool_is_down(const mw_pg_pool *pool, mw_err *err);
/** Ends the pause of a pool that is down: it tries to connect now, and what comes meanwhile waits for the outcome. */
void mw_pg_pool_hurry(mw_pg_pool *pool);
/** How many ops and waiters wait for a connection. */
size_t mw_pg_pool_waiting(const mw_pg_pool *pool);

/** Runs an op on some connection. */
void mw_pg_pool_run(mw_pg_pool *pool, mw_pg_op *op);
/** Takes back an op that has no connection yet; false when it has one (then mw_pg_conn_cancel). */
bool mw_pg_pool_withdraw(mw_pg_pool *pool, mw_pg_op *op);

void mw_pg_pool_acquire(mw_pg_pool *pool, mw_pg_waiter *waiter);
/** Takes back a waiter that has not been called. */
void mw_pg_pool_forget(mw_pg_pool *pool, mw_pg_waiter *waiter);
/** Gives a connection back. It is closed unless it is `clean`: up and in no transaction. Also from within an
 * op's on_done. */
void mw_pg_pool_release(mw_pg_pool *pool, mw_pg_conn *conn, bool clean);

/** Milliseconds until attempt `attempt` (from 1): 100 ms doubling to 5 s, half of it by chance. */
int64_t mw_pg_backoff_ms(int attempt);
