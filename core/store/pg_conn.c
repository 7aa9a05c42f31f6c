// SPDX-License-Identifier: MIT
#include "store/pg_conn_impl.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/log.h"
#include "loop/loop.h"

#define CONNECT_MS 10000
#define CANCEL_GIVE_UP_MS 10000

static void on_ready(mw_poll *poll, int status, int events, void *arg);

mw_pg_conn *mw_pg_conn_ref(mw_pg_conn *conn) {
  conn->refs++;
  return conn;
}

void mw_pg_conn_unref(mw_pg_conn *conn) {
  if (--conn->refs) return;
  mw_pg_place_deinit(&conn->place);
  mw_pg_conn_forget_plans(conn);
  mw_map_deinit(&conn->plans);
  if (conn->gone) conn->gone(conn->gone_arg);
  mw_free(conn);
}

/* ---- ending ---- */

static void drop_link(mw_pg_conn *conn) {
  mw_timer_stop(&conn->timer);
  if (conn->poll) mw_poll_close(conn->poll);
  conn->poll = NULL;
  if (conn->pg) PQfinish(conn->pg);
  conn->pg = NULL;
}

/** Takes an op off and tells its owner. */
void mw_pg_conn_finish_op(mw_pg_op *op, int status, const mw_err *err) {
  mw_pg_conn *conn = op->conn;
  mw_list_remove(&op->node);
  conn->depth--;
  op->conn = NULL;
  mw_err *own = op->err;
  op->err = NULL;
  char sqlstate[MW_PG_SQLSTATE];
  memcpy(sqlstate, op->sqlstate, sizeof sqlstate);
  op->on_done(op, status, sqlstate, own ? own : err);
  mw_free(own);
}

void mw_pg_conn_fail(mw_pg_conn *conn, const mw_err *err) {
  if (conn->state >= MW_PG_CONN_DOWN) return;
  conn->state = MW_PG_CONN_DOWN;
  drop_link(conn);
  mw_pg_conn_ref(conn);
  while (!mw_list_is_empty(&conn->ops)) {
    mw_pg_op *op = MW_CONTAINER(conn->ops.next, mw_pg_op, node);
    mw_free(op->err);
    op->err = NULL;
    op->sqlstate[0] = 0;
    mw_pg_conn_finish_op(op, MW_EUNAVAILABLE, err);
  }
  if (conn->state == MW_PG_CONN_DOWN) conn->cb(conn, MW_PG_DOWN, err, conn->arg);
  mw_pg_conn_unref(conn);
}

void mw_pg_conn_fail_pg(mw_pg_conn *conn) {
  mw_err err = {0};
  const char *text = conn->pg ? PQerrorMessage(conn->pg) : "";
  if (!text[0]) text = "the connection was closed";
  mw_err_set(&err, MW_EUNAVAILABLE, "PostgreSQL: %.*s", (int)strcspn(text, "\n"), text);
  mw_pg_conn_fail(conn, &err);
}

void mw_pg_conn_fail_with(mw_pg_conn *conn, const char *text) {
  mw_err err = {0};
  mw_err_set(&err, MW_EUNAVAILABLE, "PostgreSQL: %s", text);
  mw_pg_conn_fail(conn, &err);
}

static void unref_later(void *arg) { mw_pg_conn_unref(arg); }

void mw_pg_conn_close(mw_pg_conn *conn, const mw_err *why, void (*gone)(void *arg), void *arg) {
  if (conn->state == MW_PG_CONN_CLOSED) return;
  mw_err err = {0};
  int status = why ? MW_EUNAVAILABLE : MW_ECANCELED;
  mw_err_set(&err, status, "%s", why ? why->text : "the connection was closed");
  conn->state = MW_PG_CONN_CLOSED;
  conn->gone = gone;
  conn->gone_arg = arg;
  drop_link(conn);
  if (conn->dns) mw_dns_cancel(conn->dns);
  while (!mw_list_is_empty(&conn->ops))
    mw_pg_conn_finish_op(MW_CONTAINER(conn->ops.next, mw_pg_op, node), status, &err);
  // From the loop, so that `gone` is never called from within this call.
  mw_loop_post(conn->loop, unref_later, conn);
}

/* ---- connecting ---- */

static void on_notice(void *arg, const PGresult *result) {
  const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  mw_log(MW_LOG_DEBUG, "store", "PostgreSQL notice", MW_LOG_S("text", text ? text : ""));
}

static bool watch(mw_pg_conn *conn, int events) {
  if (conn->poll) mw_poll_close(conn->poll);
  conn->poll = NULL;
  return mw_poll_open(conn->loop, PQsocket(conn->pg), on_ready, conn, &conn->poll) == 0 &&
         mw_poll_set(conn->poll, events) == 0;
}

static void on_set_up(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  mw_pg_conn *conn = MW_CONTAINER(op, mw_pg_conn, setup);
  if (status == 0)
    conn->cb(conn, MW_PG_UP, NULL, conn->arg);
  else if (conn->state == MW_PG_CONN_UP)
    mw_pg_conn_fail(conn, err);
}

static void become_up(mw_pg_conn *conn) {
  mw_timer_stop(&conn->timer);
  if (PQsetnonblocking(conn->pg, 1) || !PQenterPipelineMode(conn->pg) || !watch(conn, MW_POLL_READ)) {
    mw_pg_conn_fail_pg(conn);
    return;
  }
  conn->state = MW_PG_CONN_UP;
  if (conn->target->setup) {
    mw_pg_op_init(&conn->setup);
    conn->setup.stmts[0].sql = conn->target->setup;
    conn->setup.nstmts = 1;
    conn->setup.once = true;
    conn->setup.on_done = on_set_up;
    mw_pg_conn_run(conn, &conn->setup);
  } else {
    conn->cb(conn, MW_PG_UP, NULL, conn->arg);
  }
}

static void go_on_connecting(mw_pg_conn *conn) {
  // libpq may close its socket and open another while it tries addresses; so the old one is not watched
  // meanwhile.
  if (conn->poll) mw_poll_close(conn->poll);
  conn->poll = NULL;
  PostgresPollingStatusType status = PQconnectPoll(conn->pg);
  if (status == PGRES_POLLING_OK)
    become_up(conn);
  else if (status == PGRES_POLLING_FAILED)
    mw_pg_conn_fail_pg(conn);
  else if (!watch(conn, status == PGRES_POLLING_READING ? MW_POLL_READ : MW_POLL_WRITE))
    mw_pg_conn_fail_with(conn, "its socket cannot be watched");
}

static void start_connecting(mw_pg_conn *conn) {
  conn->state = MW_PG_CONN_CONNECTING;
  if (MW_FAULT(pg_connect)) {
    mw_pg_conn_fail_with(conn, "cannot be reached (fault point)");
    return;
  }
  conn->pg = mw_pg_target_start(conn->target, &conn->place);
  if (!conn->pg || PQstatus(conn->pg) == CONNECTION_BAD) {
    mw_pg_conn_fail_pg(conn);
    return;
  }
  PQsetNoticeReceiver(conn->pg, on_notice, NULL);
  if (!watch(conn, MW_POLL_WRITE)) mw_pg_conn_fail_with(conn, "its socket cannot be watched");
}

static void on_resolved(int status, const mw_address *addresses, size_t count, void *arg) {
  mw_pg_conn *conn = arg;
  conn->dns = NULL;
  if (conn->state == MW_PG_CONN_RESOLVING && status == 0 && count > 0) {
    mw_pg_place_set_addresses(&conn->place, addresses, count);
    start_connecting(conn);
  } else if (conn->state == MW_PG_CONN_RESOLVING) {
    mw_err err = {0};
    mw_err_set(&err, MW_EUNAVAILABLE, "PostgreSQL: the host name \"%s\" has no address (%s)", conn->place.host,
               mw_err_text(status));
    mw_pg_conn_fail(conn, &err);
  }
  mw_pg_conn_unref(conn);
}

static void begin(void *arg) {
  mw_pg_conn *conn = arg;
  if (conn->state == MW_PG_CONN_RESOLVING) {
    if (!mw_pg_place_needs_name(&conn->place)) {
      start_connecting(conn);
    } else if (mw_dns_resolve(conn->loop, conn->place.host, 0, on_resolved, mw_pg_conn_ref(conn), &conn->dns)) {
      conn->refs--;
      mw_pg_conn_fail_with(conn, "its host name cannot be looked up");
    }
  }
  mw_pg_conn_unref(conn);
}

static void on_timer(mw_timer *timer, void *arg) {
  mw_pg_conn *conn = arg;
  if (conn->state < MW_PG_CONN_UP) {
    mw_pg_conn_fail_with(conn, "no connection within 10 s");
    return;
  }
  mw_pg_op *front = mw_list_is_empty(&conn->ops) ? NULL : MW_CONTAINER(conn->ops.next, mw_pg_op, node);
  if (!front || !front->cancelled) return;
  if (mw_loop_now_ms(conn->loop) - conn->cancel_since_ms >= CANCEL_GIVE_UP_MS)
    mw_pg_conn_fail_with(conn, "it does not answer");
  else if (!conn->cancelling)
    mw_pg_pipeline_cancel(conn);
  else
    mw_timer_start(conn->loop, &conn->timer, MW_PG_CANCEL_AGAIN_MS);
}

mw_pg_conn *mw_pg_conn_open(mw_loop *loop, mw_pg_target *target, mw_pg_event_cb cb, void *arg) {
  mw_pg_conn *conn = MW_NEW(mw_pg_conn);
  *conn = (mw_pg_conn){
      .loop = loop, .target = target, .cb = cb, .arg = arg, .refs = 1, .cancelled_ms = -MW_PG_CANCEL_STRAY_MS};
  mw_list_init(&conn->ops);
  mw_list_init(&conn->plan_order);
  mw_map_init(&conn->plans);
  mw_timer_init(&conn->timer, on_timer, conn);
  mw_pg_place_pick(target, &conn->place);
  mw_timer_start(loop, &conn->timer, CONNECT_MS);
  mw_loop_post(loop, begin, mw_pg_conn_ref(conn));
  return conn;
}

static void tell_notifications(mw_pg_conn *conn) {
  PGnotify *notify;
  while (conn->state == MW_PG_CONN_UP && (notify = PQnotifies(conn->pg))) {
    if (conn->notified) conn->notified(conn, notify->relname, notify->extra, conn->notified_arg);
    PQfreemem(notify);
  }
}

static void on_ready(mw_poll *poll, int status, int events, void *arg) {
  mw_pg_conn *conn = mw_pg_conn_ref(arg);
  if (conn->state == MW_PG_CONN_CONNECTING) {
    go_on_connecting(conn);
  } else if (conn->state == MW_PG_CONN_UP) {
    int fault = MW_FAULT(pg_receive);
    bool alive = !fault && PQconsumeInput(conn->pg);
    if (!fault) mw_pg_pipeline_read(conn);
    if (!fault) tell_notifications(conn);
    if (conn->state == MW_PG_CONN_UP && !alive)
      mw_pg_conn_fail_pg(conn);
    else if (conn->state == MW_PG_CONN_UP)
      mw_pg_pipeline_flush(conn);
  }
  mw_pg_conn_unref(conn);
}

void mw_pg_conn_on_notify(mw_pg_conn *conn, void (*cb)(mw_pg_conn *conn, const char *channel, const char *payload, void *arg), void *arg) {
  conn->notified = cb;
  conn->notified_arg = arg;
}

/* ---- asking ---- */

bool mw_pg_conn_is_up(const mw_pg_conn *conn) { return conn->state == MW_PG_CONN_UP && !conn->failing; }
bool mw_pg_conn_is_front(const mw_pg_op *op) { return op->conn && op->conn->ops.next == &op->node; }
bool mw_pg_conn_is_cancelling(const mw_pg_conn *conn) { return conn->cancelling; }
int mw_pg_conn_depth(const mw_pg_conn *conn) { return conn->depth; }
void *mw_pg_conn_arg(const mw_pg_conn *conn) { return conn->arg; }
int64_t mw_pg_conn_busy_ms(const mw_pg_conn *conn) {
  return conn->depth ? mw_loop_now_ms(conn->loop) - conn->front_since_ms : 0;
}
bool mw_pg_conn_is_idle(const mw_pg_conn *conn) {
  return conn->state == MW_PG_CONN_UP && conn->depth == 0 && PQtransactionStatus(conn->pg) == PQTRANS_IDLE;
}
