// SPDX-License-Identifier: MIT
#include "store/pg_query.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "loop/loop.h"
#include "store/pg_sql.h"

#define MAX_WAITING 1024
#define MAX_RESULT_BYTES ((size_t)256 << 20)

static void free_query(mw_pg_query *q) {
  if (q->on_gone) q->on_gone(q, q->owner);
  mw_timer_stop(&q->timer);
  mw_list_remove(&q->node);
  mw_arena_deinit(&q->arena);
  mw_free(q->values);
  mw_free(q);
}

static void answer(mw_pg_query *q, int status, const mw_err *err) {
  if (q->answered) return;
  q->answered = true;
  mw_timer_stop(&q->timer);
  mw_list_remove(&q->node);
  if (q->on_answer) q->on_answer(q, status, err, q->owner);
  static const mw_err none;
  q->rows.names = q->names;
  q->rows.values = q->values;
  q->cb(status, status ? NULL : &q->rows, status ? (err ? err : &none) : NULL,
        status && q->sqlstate[0] ? q->sqlstate : NULL, q->arg);
}

void mw_pg_query_stop(mw_pg_query *q, int status, const mw_err *err) {
  if (q->running) {
    if (q->pool && mw_pg_pool_withdraw(q->pool, &q->op))
      q->running = false;
    else
      mw_pg_conn_cancel(&q->op);
  }
  answer(q, status, err);
  if (!q->running) free_query(q);
}

static void on_timer(mw_timer *timer, void *arg) {
  mw_pg_query *q = arg;
  if (q->early == 0) {
    q->early = mw_err_set(&q->err, MW_ETIMEOUT, "the statement took longer than %lld ms and was cancelled",
                          (long long)q->timeout_ms);
  }
  mw_err err = q->err;
  mw_pg_query_stop(q, q->early, &err);
}

/* ---- rows ---- */

static void take_columns(mw_pg_query *q, const PGresult *result) {
  int columns = PQnfields(result);
  q->names = mw_arena_alloc(&q->arena, (size_t)(columns ? columns : 1) * sizeof *q->names);
  q->rows.columns = (size_t)columns;
  for (int i = 0; i < columns; i++) q->names[i] = mw_arena_str(&q->arena, mw_str_from(PQfname(result, i)));
}

static void add_row(mw_pg_query *q, const PGresult *result, int row) {
  size_t used = q->rows.count * q->rows.columns, need = used + q->rows.columns;
  if (need > q->values_cap) {
    q->values_cap = need * 2 < 64 ? 64 : need * 2;
    q->values = mw_realloc(q->values, q->values_cap * sizeof *q->values);
  }
  for (size_t i = 0; i < q->rows.columns; i++)
    q->values[used + i] = mw_pg_value_get(&q->arena, result, row, (int)i);
  q->rows.count++;
}

static void refuse_more(mw_pg_query *q, mw_pg_op *op) {
  if (q->rows.count > q->max_rows) {
    q->early = mw_err_set(&q->err, MW_ELIMIT,
                          "the result has more than %zu rows: ask for fewer with LIMIT, or raise max_rows",
                          q->max_rows);
  } else {
    q->early = mw_err_set(&q->err, MW_ELIMIT, "the result is larger than %zu MiB: ask for less of it",
                          MAX_RESULT_BYTES >> 20);
  }
  mw_pg_conn_cancel(op);
}

static int64_t affected_of(const PGresult *result) {
  const char *tag = PQcmdStatus((PGresult *)result);
  if (strncmp(tag, "INSERT", 6) && strncmp(tag, "UPDATE", 6) && strncmp(tag, "DELETE", 6) &&
      strncmp(tag, "MERGE", 5))
    return 0;
  return strtoll(PQcmdTuples((PGresult *)result), NULL, 10);
}

static void on_result(mw_pg_op *op, int stmt, const PGresult *result) {
  mw_pg_query *q = MW_CONTAINER(op, mw_pg_query, op);
  if (q->answered || q->early) return;
  if (!q->names) take_columns(q, result);
  int rows = PQntuples(result);
  for (int row = 0; row < rows && !q->early; row++) {
    add_row(q, result, row);
    if (q->rows.count > q->max_rows || q->arena.used_bytes > MAX_RESULT_BYTES) refuse_more(q, op);
  }
  if (PQresultStatus(result) != PGRES_SINGLE_TUPLE) q->rows.affected = affected_of(result);
}

static void on_rerun(mw_pg_op *op) {
  mw_pg_query *q = MW_CONTAINER(op, mw_pg_query, op);
  q->names = NULL;
  q->rows = (mw_rows){0};
}

static void on_done(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  mw_pg_query *q = MW_CONTAINER(op, mw_pg_query, op);
  q->running = false;
  memcpy(q->sqlstate, sqlstate, strnlen(sqlstate, MW_PG_SQLSTATE - 1));
  if (q->early) {
    mw_err own = q->err;
    answer(q, q->early, &own);
  } else {
    answer(q, status, err);
  }
  free_query(q);
}

/* ---- starting ---- */

static bool is_plannable(mw_str sql) {
  static const char *const words[] = {"select", "insert", "update", "delete", "with", "values", "merge", NULL};
  while (sql.len &&
         (*sql.ptr == ' ' || *sql.ptr == '\n' || *sql.ptr == '\t' || *sql.ptr == '\r' || *sql.ptr == '('))
    sql = mw_str_of(sql.ptr + 1, sql.len - 1);
  for (const char *const *word = words; *word; word++) {
    size_t len = strlen(*word);
    if (sql.len > len && mw_str_eq_nocase(mw_str_of(sql.ptr, len), mw_str_of(*word, len))) return true;
  }
  return false;
}

mw_pg_query *mw_pg_query_make(mw_loop *loop, const mw_query_opts *opts, bool in_tx, mw_query_cb cb, void *arg) {
  mw_pg_query *q = MW_NEW(mw_pg_query);
  q->loop = loop;
  q->cb = cb;
  q->arg = arg;
  q->timeout_ms = opts->timeout_ms ? opts->timeout_ms : 30000;
  q->max_rows = opts->max_rows ? opts->max_rows : 100000;
  mw_arena_init(&q->arena);
  mw_list_init(&q->node);
  mw_timer_init(&q->timer, on_timer, q);
  mw_pg_op_init(&q->op);
  q->op.nstmts = 1;
  q->op.once = in_tx;
  q->op.on_result = on_result;
  q->op.on_rerun = on_rerun;
  q->op.on_done = on_done;
  mw_pg_stmt *stmt = &q->op.stmts[0];
  mw_pg_sql sql;
  int rc = mw_pg_sql_check(opts->sql, in_tx, &sql, &q->err);
  if (rc == 0)
    rc = mw_pg_params_make(&stmt->params, &q->arena, opts->params, opts->nparams, sql.placeholders, &q->err);
  q->early = rc;
  q->leaves_session = sql.leaves_session;
  stmt->sql = mw_arena_strndup(&q->arena, opts->sql.ptr, opts->sql.len);
  stmt->prepare = is_plannable(opts->sql);
  stmt->by_row = true;
  return q;
}

void mw_pg_query_go(mw_pg_query *q, mw_pg_pool *pool, mw_pg_conn *conn) {
  mw_timer_start(q->loop, &q->timer, q->early ? 0 : q->timeout_ms);
  if (q->early) return;
  q->running = true;
  q->pool = conn ? NULL : pool;
  if (conn)
    mw_pg_conn_run(conn, &q->op);
  else
    mw_pg_pool_run(pool, &q->op);
}

bool mw_pg_query_is_refused(mw_pg_client *client, mw_db db, mw_err *err) {
  mw_pg_pool *pool = db == MW_DB_ENGINE ? client->engine : client->app;
  const mw_store *store = client->base.store;
  if (!mw_pg_pool_is_down(pool, err)) return false;
  if (store->is_single) return true;
  // A writer reached the server since: there is no reason to sit out the pause.
  bool is_same_server = db == MW_DB_ENGINE || strcmp(store->app_url, store->database_url) == 0;
  if (!is_same_server || !mw_store_is_up(store)) return true;
  mw_pg_pool_hurry(pool);
  return false;
}

int mw_pg_query_start(mw_store_client *base, mw_db db, const mw_query_opts *opts, mw_query_cb cb, void *arg,
                      mw_query **out) {
  mw_pg_client *client = (mw_pg_client *)base;
  mw_pg_pool *pool = db == MW_DB_ENGINE ? client->engine : client->app;
  mw_pg_query *q = mw_pg_query_make(base->loop, opts, false, cb, arg);
  q->base.client = base;
  mw_list_push(&client->queries, &q->node);
  if (q->early == 0 && mw_pg_query_is_refused(client, db, &q->err)) q->early = MW_EUNAVAILABLE;
  if (q->early == 0 && mw_pg_pool_waiting(pool) >= MAX_WAITING) {
    q->early = mw_err_set(&q->err, MW_EBUSY, "%d statements wait for a connection already", MAX_WAITING);
  }
  mw_pg_query_go(q, pool, NULL);
  if (out) *out = &q->base;
  return 0;
}

void mw_pg_query_cancel(mw_query *query) {
  mw_pg_query *q = (mw_pg_query *)query;
  if (q->early || q->answered) return;
  q->early = mw_err_set(&q->err, MW_ECANCELED, "the statement was cancelled");
  mw_timer_start(q->loop, &q->timer, 0);
}

void mw_pg_query_cancel_all(mw_pg_client *client) {
  mw_err err = {0};
  mw_err_set(&err, MW_ECANCELED, "the store was closed");
  while (!mw_list_is_empty(&client->queries)) {
    mw_pg_query_stop(MW_CONTAINER(client->queries.next, mw_pg_query, node), MW_ECANCELED, &err);
  }
}
