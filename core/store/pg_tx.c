// SPDX-License-Identifier: MIT
#include <string.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "loop/loop.h"
#include "store/pg_query.h"
#include "store/postgres.h"

// A transaction has a connection for itself from BEGIN to its end. It ends exactly once in the database
// (`finish`): when its owner says so or when its time is over; and once for its owner (`answer`), who then
// never sees it again. The connection goes back to the pool only when the server says that no transaction is
// open on it.

#define MAX_WAITING 256

typedef struct mw_pg_tx {
  mw_tx base;
  mw_list node;           /**< In the client's `txs`. */
  mw_store_client orphan; /**< Stands for the client once that is gone. */
  mw_loop *loop;
  mw_pg_pool *pool; /**< NULL when the client is gone. */
  mw_pg_waiter waiter;
  mw_pg_conn *conn; /**< NULL: waiting, ended or lost. */
  mw_pg_op begin, end, discard;
  mw_pg_query *query; /**< The latest, until it is gone. */
  int queries;        /**< Not yet gone: running, draining or about to be answered. */
  mw_timer timer;
  int64_t timeout_ms;
  mw_tx_cb cb; /**< Of begin, then of end. */
  void *arg;
  bool opened;    /**< `cb` of begin has come. */
  bool finishing; /**< COMMIT or ROLLBACK has been sent, or there is no connection to send it on. */
  bool committing, dirty, retried;
  bool ending; /**< The owner has called mw_store's tx_end. */
  bool wants_commit;
  int doom;
  mw_err err;
  char sqlstate[MW_PG_SQLSTATE];
} mw_pg_tx;

static void finish(mw_pg_tx *tx, bool commit);

static void doom(mw_pg_tx *tx, int status, const mw_err *err, const char *sqlstate) {
  if (tx->doom) return;
  tx->doom = status;
  if (err) tx->err = *err;
  if (sqlstate) memcpy(tx->sqlstate, sqlstate, strnlen(sqlstate, MW_PG_SQLSTATE - 1));
}

static void maybe_free(mw_pg_tx *tx) {
  if (tx->cb || tx->queries || tx->conn || !tx->ending || mw_timer_is_armed(&tx->timer)) return;
  mw_list_remove(&tx->node);
  mw_free(tx);
}

/** Tells the owner how it ended. */
static void answer_end(mw_pg_tx *tx) {
  mw_tx_cb cb = tx->cb;
  int status = tx->wants_commit ? tx->doom : 0;
  tx->cb = NULL;
  if (cb) cb(status, NULL, status ? &tx->err : NULL, tx->arg);
  maybe_free(tx);
}

static void let_go(mw_pg_tx *tx, bool clean) {
  mw_pg_conn *conn = tx->conn;
  if (!conn) return;
  tx->conn = NULL;
  mw_pg_pool_release(tx->pool, conn, clean && mw_pg_conn_is_idle(conn));
}

static void on_discarded(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  mw_pg_tx *tx = MW_CONTAINER(op, mw_pg_tx, discard);
  if (tx->conn && status == 0) mw_pg_conn_forget_plans(tx->conn);
  let_go(tx, status == 0);
  maybe_free(tx);
}

static void run_op(mw_pg_tx *tx, mw_pg_op *op, const char *sql, mw_pg_done_cb on_done) {
  mw_pg_op_init(op);
  op->stmts[0].sql = sql;
  op->nstmts = 1;
  op->once = true;
  op->on_done = on_done;
  mw_pg_conn_run(tx->conn, op);
}

/** COMMIT of a transaction that failed in the server answers "ROLLBACK" and no error. */
static void on_end_result(mw_pg_op *op, int stmt, const PGresult *result) {
  mw_pg_tx *tx = MW_CONTAINER(op, mw_pg_tx, end);
  if (!tx->committing || strcmp(PQcmdStatus((PGresult *)result), "COMMIT") == 0) return;
  mw_err err = {0};
  mw_err_set(&err, MW_ESQL, "the transaction had failed and was rolled back");
  doom(tx, MW_ESQL, &err, "25P02");
}

static void on_end_done(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  mw_pg_tx *tx = MW_CONTAINER(op, mw_pg_tx, end);
  if (status == MW_ETIMEOUT && !tx->committing && !tx->retried) {
    tx->retried = true; // A cancel meant for the statement before it came late.
    finish(tx, false);
    return;
  }
  if (status && tx->committing) {
    mw_err own = *err;
    if (status == MW_EUNAVAILABLE)
      mw_err_wrap(&own, "the connection was lost during COMMIT, which may have happened");
    doom(tx, status, &own, sqlstate);
  }
  if (status == 0 && tx->dirty && tx->conn) {
    run_op(tx, &tx->discard, "DISCARD ALL", on_discarded);
  } else {
    let_go(tx, status == 0);
  }
  if (tx->ending && tx->cb)
    answer_end(tx);
  else
    maybe_free(tx);
}

static void finish(mw_pg_tx *tx, bool commit) {
  tx->finishing = true;
  tx->committing = commit;
  if (!tx->conn || !mw_pg_conn_is_up(tx->conn)) {
    mw_err err = {0};
    mw_err_set(&err, MW_EUNAVAILABLE, "the connection to the database was lost");
    doom(tx, MW_EUNAVAILABLE, &err, NULL);
    return;
  }
  run_op(tx, &tx->end, commit ? "COMMIT" : "ROLLBACK", on_end_done);
  tx->end.on_result = on_end_result;
}

static void on_begin_done(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  if (status) doom(MW_CONTAINER(op, mw_pg_tx, begin), status, err, sqlstate);
}

static void on_conn(mw_pg_waiter *waiter, mw_pg_conn *conn, const mw_err *err) {
  mw_pg_tx *tx = MW_CONTAINER(waiter, mw_pg_tx, waiter);
  mw_tx_cb cb = tx->cb;
  tx->cb = NULL;
  tx->opened = true;
  if (!conn) {
    mw_err own = *err;
    tx->ending = true;
    mw_timer_stop(&tx->timer);
    cb(own.code, NULL, &own, tx->arg);
    maybe_free(tx);
    return;
  }
  tx->conn = conn;
  run_op(tx, &tx->begin, "BEGIN", on_begin_done);
  cb(0, &tx->base, NULL, tx->arg);
}

static void on_lost(mw_pg_waiter *waiter, const mw_err *err) {
  mw_pg_tx *tx = MW_CONTAINER(waiter, mw_pg_tx, waiter);
  if (!tx->conn) return;
  tx->conn = NULL;
  doom(tx, err ? err->code : MW_EUNAVAILABLE, err, NULL);
  if (tx->ending && tx->cb)
    mw_timer_start(tx->loop, &tx->timer, 0);
  else
    maybe_free(tx);
}

/** Its time is over; or, once it is ending without a connection, its answer is due. */
static void on_timer(mw_timer *timer, void *arg) {
  mw_pg_tx *tx = arg;
  if (tx->ending) {
    answer_end(tx);
    return;
  }
  mw_err err = {0};
  if (!tx->opened) {
    mw_err_set(&err, MW_ETIMEOUT, "no connection to the database became free within %lld ms",
               (long long)tx->timeout_ms);
    mw_pg_pool_forget(tx->pool, &tx->waiter);
    on_conn(&tx->waiter, NULL, &err);
    return;
  }
  mw_err_set(&err, MW_ETIMEOUT, "the transaction took longer than %lld ms and was rolled back",
             (long long)tx->timeout_ms);
  doom(tx, MW_ETIMEOUT, &err, NULL);
  mw_pg_query *query = tx->query && !tx->query->answered ? tx->query : NULL;
  if (query) mw_pg_conn_cancel(&query->op);
  finish(tx, false);
  if (query) mw_pg_query_stop(query, MW_ETIMEOUT, &err);
}

int mw_pg_tx_begin(mw_store_client *base, mw_db db, int64_t timeout_ms, mw_tx_cb cb, void *arg) {
  mw_pg_client *client = (mw_pg_client *)base;
  mw_pg_pool *pool = db == MW_DB_ENGINE ? client->engine : client->app;
  mw_err err = {0};
  if (mw_pg_query_is_refused(client, db, &err)) return MW_EUNAVAILABLE;
  if (mw_pg_pool_waiting(pool) >= MAX_WAITING) return MW_EBUSY;
  mw_pg_tx *tx = MW_NEW(mw_pg_tx);
  tx->base.client = base;
  tx->loop = base->loop;
  tx->pool = pool;
  tx->timeout_ms = timeout_ms ? timeout_ms : 10000;
  tx->cb = cb;
  tx->arg = arg;
  tx->waiter.cb = on_conn;
  tx->waiter.lost = on_lost;
  mw_list_init(&tx->waiter.node);
  mw_list_push(&client->txs, &tx->node);
  mw_timer_init(&tx->timer, on_timer, tx);
  mw_timer_start(tx->loop, &tx->timer, tx->timeout_ms);
  mw_pg_pool_acquire(pool, &tx->waiter);
  return 0;
}

static void on_query_answer(mw_pg_query *query, int status, const mw_err *err, void *owner) {
  if (status) doom(owner, status, err, query->sqlstate[0] ? query->sqlstate : NULL);
}

static void on_query_gone(mw_pg_query *query, void *owner) {
  mw_pg_tx *tx = owner;
  tx->queries--;
  if (tx->query == query) tx->query = NULL;
  maybe_free(tx);
}

int mw_pg_tx_query(mw_tx *base, const mw_query_opts *opts, mw_query_cb cb, void *arg) {
  mw_pg_tx *tx = (mw_pg_tx *)base;
  if (tx->ending) return MW_EINVALID;
  if (tx->query && !tx->query->answered) return MW_EBUSY;
  mw_pg_query *query = mw_pg_query_make(tx->loop, opts, true, cb, arg);
  query->base.client = base->client;
  query->on_answer = on_query_answer;
  query->on_gone = on_query_gone;
  query->owner = tx;
  if (tx->doom) {
    query->early = tx->doom;
    query->err = tx->err;
    memcpy(query->sqlstate, tx->sqlstate, sizeof query->sqlstate);
  } else if (query->early == 0 && query->leaves_session) {
    tx->dirty = true;
  }
  tx->query = query;
  tx->queries++;
  if (tx->conn && MW_FAULT(pg_tx)) mw_pg_conn_lose(tx->conn);
  mw_pg_query_go(query, NULL, tx->conn);
  return 0;
}

int mw_pg_tx_end(mw_tx *base, bool commit, mw_tx_cb cb, void *arg) {
  mw_pg_tx *tx = (mw_pg_tx *)base;
  if (tx->ending) return MW_EINVALID;
  tx->ending = true;
  tx->wants_commit = commit;
  tx->cb = cb;
  tx->arg = arg;
  mw_timer_stop(&tx->timer);
  if (tx->query && !tx->query->answered) {
    mw_err err = {0};
    mw_err_set(&err, MW_ECANCELED, "the transaction was ended while a statement of it ran");
    doom(tx, MW_ECANCELED, &err, NULL);
    mw_pg_query_cancel(&tx->query->base);
  }
  if (!tx->finishing) finish(tx, commit && !tx->doom);
  // With the outcome known already, or nobody to ask, the answer comes in the next turn.
  if (!tx->conn || tx->end.conn == NULL) mw_timer_start(tx->loop, &tx->timer, 0);
  return 0;
}

void mw_pg_tx_cancel_all(mw_pg_client *client) {
  MW_LIST_EACH(&client->txs, node) {
    mw_pg_tx *tx = MW_CONTAINER(node, mw_pg_tx, node);
    tx->orphan = client->base;
    tx->base.client = &tx->orphan;
    mw_list_remove(&tx->node);
    if (tx->opened && !tx->ending) mw_timer_stop(&tx->timer);
  }
}
