// SPDX-License-Identifier: MIT

// The ops of a PostgreSQL connection, in pipeline mode.
//
// What comes back in pipeline mode, an op at a time: for each command (Prepare, Execute) its results and a
// NULL, then one PIPELINE_SYNC. After an error the other commands of the op answer PIPELINE_ABORTED, up to that
// Sync.

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/fault.h"
#include "loop/loop.h"
#include "loop/work.h"
#include "store/pg_conn_impl.h"

#define PLANS_MAX 256
#define NULLS_MAX 8

typedef struct plan {
  mw_list node; /**< Most recently used last. */
  char *sql;
  char name[36];
} plan;

static void send_op(mw_pg_conn *conn, mw_pg_op *op);

/* ---- prepared statements ---- */

static void free_plan(plan *p) {
  mw_list_remove(&p->node);
  mw_free(p->sql);
  mw_free(p);
}

void mw_pg_conn_forget_plans(mw_pg_conn *conn) {
  for (plan *p; (p = MW_LIST_POP(&conn->plan_order, plan, node));) {
    mw_map_remove(&conn->plans, mw_str_from(p->sql));
    free_plan(p);
  }
}

static void forget_plan(mw_pg_conn *conn, const char *sql) {
  plan *p = mw_map_remove(&conn->plans, mw_str_from(sql));
  if (p) free_plan(p);
}

static void on_deallocated(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  mw_free((char *)op->stmts[0].sql);
  mw_free(op);
}

static void deallocate(mw_pg_conn *conn, const char *name) {
  mw_buf sql = MW_BUF_INIT;
  mw_buf_printf(&sql, "DEALLOCATE %s", name);
  mw_pg_op *op = MW_NEW(mw_pg_op);
  mw_pg_op_init(op);
  op->stmts[0].sql = mw_buf_take(&sql);
  op->nstmts = 1;
  op->once = true;
  op->on_done = on_deallocated;
  mw_pg_conn_run(conn, op);
}

/** Returns the plan of `sql`, made when it is new (`*is_new`). */
static plan *plan_of(mw_pg_conn *conn, const char *sql, bool *is_new) {
  plan *p = mw_map_get(&conn->plans, mw_str_from(sql));
  *is_new = !p;
  if (p) {
    mw_list_remove(&p->node);
    mw_list_push(&conn->plan_order, &p->node);
    return p;
  }
  uint8_t hash[MW_SHA256_LEN];
  mw_digest_sha256(mw_str_from(sql), hash);
  p = MW_NEW(plan);
  p->sql = mw_strdup(sql);
  char *at = p->name + sprintf(p->name, "mw_");
  for (int i = 0; i < 16; i++) at += sprintf(at, "%02x", hash[i]);
  mw_list_push(&conn->plan_order, &p->node);
  mw_map_set(&conn->plans, mw_str_from(sql), p);
  return p;
}

/** Makes room before an op is sent, since what it drops goes ahead of it on the wire. */
static void make_room_for_plans(mw_pg_conn *conn) {
  while (conn->plans.count + MW_PG_STMTS_MAX > PLANS_MAX) {
    plan *oldest = MW_CONTAINER(conn->plan_order.next, plan, node);
    mw_map_remove(&conn->plans, mw_str_from(oldest->sql));
    deallocate(conn, oldest->name);
    free_plan(oldest);
  }
}

/* ---- sending ---- */

static void fail_later(void *arg) {
  mw_pg_conn *conn = arg;
  mw_pg_conn_fail_pg(conn);
  mw_pg_conn_unref(conn);
}

static void note_failure(mw_pg_conn *conn) {
  if (conn->failing || conn->state != MW_PG_CONN_UP) return;
  conn->failing = true;
  mw_poll_close(conn->poll);
  conn->poll = NULL;
  mw_loop_post(conn->loop, fail_later, mw_pg_conn_ref(conn));
}

void mw_pg_conn_lose(mw_pg_conn *conn) { note_failure(conn); }

void mw_pg_pipeline_flush(mw_pg_conn *conn) {
  if (conn->failing) return;
  int left = PQflush(conn->pg);
  if (left < 0 || PQsocket(conn->pg) < 0)
    note_failure(conn);
  else
    mw_poll_set(conn->poll, left ? MW_POLL_READ | MW_POLL_WRITE : MW_POLL_READ);
}

static bool send_stmt(mw_pg_conn *conn, mw_pg_op *op, int i) {
  const mw_pg_stmt *stmt = &op->stmts[i];
  const mw_pg_params *p = &stmt->params;
  if (!stmt->prepare || op->rerun) {
    return PQsendQueryParams(conn->pg, stmt->sql, p->count, NULL, p->values, p->lengths, p->formats, 0);
  }
  bool is_new = false;
  plan *found = plan_of(conn, stmt->sql, &is_new);
  if (is_new) {
    op->preparing |= (uint8_t)(1u << i);
    if (!PQsendPrepare(conn->pg, found->name, stmt->sql, 0, NULL)) return false;
  }
  return PQsendQueryPrepared(conn->pg, found->name, p->count, p->values, p->lengths, p->formats, 0);
}

static void first_step(mw_pg_op *op) {
  op->step = op->preparing & 1 ? 0 : 1;
  op->got = op->by_row = false;
  op->nulls = 0;
}

static void send_op(mw_pg_conn *conn, mw_pg_op *op) {
  op->preparing = 0;
  op->status = 0;
  op->sqlstate[0] = 0;
  op->was_sent = true;
  bool ok = !conn->failing && !MW_FAULT(pg_send);
  for (int i = 0; ok && i < op->nstmts; i++) ok = send_stmt(conn, op, i);
  first_step(op);
  if (ok && PQpipelineSync(conn->pg))
    mw_pg_pipeline_flush(conn);
  else
    note_failure(conn);
}

void mw_pg_op_init(mw_pg_op *op) {
  memset(op, 0, sizeof *op);
  mw_list_init(&op->node);
}

static void add_op(mw_pg_conn *conn, mw_pg_op *op) {
  if (conn->depth++ == 0) conn->front_since_ms = mw_loop_now_ms(conn->loop);
  op->conn = conn;
  mw_list_push(&conn->ops, &op->node);
  send_op(conn, op);
}

void mw_pg_conn_run(mw_pg_conn *conn, mw_pg_op *op) {
  op->cancelled = op->rerun = op->was_sent = false;
  for (int i = 0; i < op->nstmts; i++) {
    if (op->stmts[i].prepare && conn->plans.count + MW_PG_STMTS_MAX > PLANS_MAX) make_room_for_plans(conn);
  }
  add_op(conn, op);
}

/* ---- cancelling ---- */

typedef struct cancel_job {
  mw_pg_conn *conn;
  PGcancel *cancel;
} cancel_job;

static void do_cancel(void *arg) {
  cancel_job *job = arg;
  char text[256];
  PQcancel(job->cancel, text, sizeof text);
}

static void on_cancelled(void *arg, int status) {
  cancel_job *job = arg;
  mw_pg_conn *conn = job->conn;
  PQfreeCancel(job->cancel);
  mw_free(job);
  conn->cancelling = false;
  conn->cancelled_ms = mw_loop_now_ms(conn->loop);
  if (conn->state == MW_PG_CONN_UP) {
    if (!mw_timer_is_armed(&conn->timer)) mw_timer_start(conn->loop, &conn->timer, MW_PG_CANCEL_AGAIN_MS);
    conn->cb(conn, MW_PG_ROOM, NULL, conn->arg);
  }
  mw_pg_conn_unref(conn);
}

void mw_pg_pipeline_cancel(mw_pg_conn *conn) {
  mw_timer_start(conn->loop, &conn->timer, MW_PG_CANCEL_AGAIN_MS);
  if (conn->cancelling) return;
  cancel_job *job = MW_NEW(cancel_job);
  *job = (cancel_job){mw_pg_conn_ref(conn), PQgetCancel(conn->pg)};
  conn->cancelling =
      job->cancel && mw_work_submit(conn->target->cancel_pool, conn->loop, do_cancel, on_cancelled, job) == 0;
  if (conn->cancelling) return;
  PQfreeCancel(job->cancel);
  mw_free(job);
  conn->refs--; // The caller's own reference is still there.
}

static void cancel_front(mw_pg_conn *conn) {
  conn->cancel_since_ms = mw_loop_now_ms(conn->loop);
  mw_pg_pipeline_cancel(conn);
}

void mw_pg_conn_cancel(mw_pg_op *op) {
  if (!op->conn || op->cancelled || op->conn->state != MW_PG_CONN_UP) return;
  op->cancelled = true;
  if (op->conn->ops.next == &op->node) cancel_front(op->conn);
}

static void next_front(mw_pg_conn *conn) {
  conn->front_since_ms = mw_loop_now_ms(conn->loop);
  if (mw_list_is_empty(&conn->ops)) return;
  mw_pg_op *front = MW_CONTAINER(conn->ops.next, mw_pg_op, node);
  if (front->cancelled) cancel_front(conn);
}

/* ---- receiving ---- */

/** An op that failed for a reason outside itself and had no effect: hit by another's cancel, or its plan was
 * gone or outdated. */
static bool should_rerun(mw_pg_conn *conn, const mw_pg_op *op) {
  if (op->once || op->rerun || op->cancelled || op->status == 0) return false;
  if (strcmp(op->sqlstate, "57014") == 0) {
    return conn->cancelling || mw_loop_now_ms(conn->loop) - conn->cancelled_ms < MW_PG_CANCEL_STRAY_MS;
  }
  return strcmp(op->sqlstate, "26000") == 0 || strcmp(op->sqlstate, "42P05") == 0 ||
         (strcmp(op->sqlstate, "0A000") == 0 && op->err && strstr(op->err->text, "cached plan"));
}

static void end_op(mw_pg_conn *conn, mw_pg_op *op) {
  if (should_rerun(conn, op)) {
    op->rerun = true;
    if (op->on_rerun) op->on_rerun(op);
    mw_free(op->err);
    op->err = NULL;
    mw_list_remove(&op->node);
    mw_list_push(&conn->ops, &op->node);
    send_op(conn, op);
    next_front(conn);
    return;
  }
  bool was_setup = op == &conn->setup;
  mw_pg_conn_finish_op(op, op->status, NULL);
  if (conn->state != MW_PG_CONN_UP) return;
  next_front(conn);
  if (!was_setup) conn->cb(conn, MW_PG_ROOM, NULL, conn->arg);
}

static void next_step(mw_pg_op *op) {
  op->step++;
  if (op->step % 2 == 0 && op->step < 2 * op->nstmts && !(op->preparing & (1u << (op->step / 2)))) op->step++;
  op->got = op->by_row = false;
  op->nulls = 0;
}

static void take_error(mw_pg_conn *conn, mw_pg_op *op, const PGresult *result) {
  const mw_pg_stmt *stmt = &op->stmts[op->step / 2];
  if (op->status == 0) {
    op->err = MW_NEW(mw_err);
    op->status = mw_pg_error_get(result, op->sqlstate, op->err);
  }
  if (!stmt->prepare) return;
  bool preparing = op->step % 2 == 0;
  if (preparing && strcmp(op->sqlstate, "42P05") == 0)
    return; // It is there already: the same name is the same statement.
  if (preparing || strcmp(op->sqlstate, "26000") == 0) {
    forget_plan(conn, stmt->sql);
  } else if (strcmp(op->sqlstate, "0A000") == 0 && strstr(op->err->text, "cached plan")) {
    plan *p = mw_map_get(&conn->plans, mw_str_from(stmt->sql));
    if (p) deallocate(conn, p->name);
    forget_plan(conn, stmt->sql);
  }
}

/** Takes one result of the op in front. Returns false when the connection is of no more use. */
static bool take_result(mw_pg_conn *conn, mw_pg_op *op, const PGresult *result) {
  ExecStatusType kind = PQresultStatus(result);
  if (kind == PGRES_PIPELINE_SYNC) {
    if (op->step < 2 * op->nstmts && op->status == 0) return false;
    end_op(conn, op);
    return true;
  }
  if (op->step >= 2 * op->nstmts) return false;
  op->got = true;
  switch (kind) {
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
      if (op->step % 2 == 1 && op->status == 0 && op->on_result) op->on_result(op, op->step / 2, result);
      return true;
    case PGRES_PIPELINE_ABORTED:
      if (op->step % 2 == 0) forget_plan(conn, op->stmts[op->step / 2].sql);
      return true;
    case PGRES_FATAL_ERROR:
      if (PQstatus(conn->pg) == CONNECTION_BAD) return false;
      take_error(conn, op, result);
      return true;
    default: return false; // COPY, which wedges a pipeline.
  }
}

void mw_pg_pipeline_read(mw_pg_conn *conn) {
  while (conn->state == MW_PG_CONN_UP && !mw_list_is_empty(&conn->ops)) {
    mw_pg_op *op = MW_CONTAINER(conn->ops.next, mw_pg_op, node);
    bool running = op->step % 2 == 1 && op->step < 2 * op->nstmts;
    if (running && !op->got && !op->by_row && op->stmts[op->step / 2].by_row)
      op->by_row = PQsetSingleRowMode(conn->pg);
    if (PQisBusy(conn->pg)) return;
    PGresult *result = PQgetResult(conn->pg);
    if (!result) {
      if (op->got)
        next_step(op);
      else if (++op->nulls > NULLS_MAX)
        break;
      continue;
    }
    bool ok = take_result(conn, op, result);
    PQclear(result);
    if (!ok) break;
  }
  if (conn->state != MW_PG_CONN_UP || mw_list_is_empty(&conn->ops)) return;
  if (PQstatus(conn->pg) == CONNECTION_BAD)
    mw_pg_conn_fail_pg(conn);
  else
    mw_pg_conn_fail_with(conn, "it answered out of order");
}
