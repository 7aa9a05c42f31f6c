// SPDX-License-Identifier: MIT
#pragma once

// The inside of a PostgreSQL connection, for pg_conn.c (connecting, ending) and pg_pipeline.c (ops: sending, receiving, cancelling,
// prepared statements).

#include "base/map.h"
#include "loop/dns.h"
#include "loop/poll.h"
#include "store/pg_conn.h"
#include "store/pg_target.h"

#define MW_PG_CANCEL_AGAIN_MS 250
#define MW_PG_CANCEL_STRAY_MS 2000 /* A cancel may hit what runs this long after it was sent. */

typedef enum mw_pg_conn_state {
  MW_PG_CONN_RESOLVING,
  MW_PG_CONN_CONNECTING,
  MW_PG_CONN_UP,
  MW_PG_CONN_DOWN,
  MW_PG_CONN_CLOSED
} mw_pg_conn_state;

struct mw_pg_conn {
  mw_loop *loop;
  mw_pg_target *target;
  mw_pg_place place;
  mw_pg_event_cb cb;
  void *arg;
  void (*gone)(void *arg);
  void *gone_arg;
  void (*notified)(mw_pg_conn *conn, const char *channel, const char *payload, void *arg);
  void *notified_arg;
  int refs;
  mw_pg_conn_state state;
  bool failing; /**< A failure was found while sending; it is told from the loop. */
  bool cancelling; /**< A cancel request is on its way. */
  PGconn *pg;
  mw_poll *poll;
  mw_dns *dns;
  mw_timer timer; /**< Connecting; then repeating a cancel that came too early. */
  mw_pg_op setup;
  mw_list ops;
  int depth;
  int64_t front_since_ms, cancel_since_ms, cancelled_ms;
  mw_map plans;
  mw_list plan_order;
};

/* pg_conn.c */
mw_pg_conn *mw_pg_conn_ref(mw_pg_conn *conn);
void mw_pg_conn_unref(mw_pg_conn *conn);
/** Takes an op off and tells its owner. */
void mw_pg_conn_finish_op(mw_pg_op *op, int status, const mw_err *err);
/** Ends all ops with MW_EUNAVAILABLE and tells the owner that it is down; with libpq's words, or other ones. */
void mw_pg_conn_fail(mw_pg_conn *conn, const mw_err *err);
void mw_pg_conn_fail_pg(mw_pg_conn *conn);
void mw_pg_conn_fail_with(mw_pg_conn *conn, const char *text);

/* pg_pipeline.c */
/** Asks the server to cancel what runs, on a thread; again every MW_PG_CANCEL_AGAIN_MS (the connection's timer). */
void mw_pg_pipeline_cancel(mw_pg_conn *conn);
/** Sends what libpq holds and watches for what it waits for. libpq closes its socket by itself when it finds it broken, whatever
 * it answers; then the connection is failing and the socket is watched no longer from this moment: libuv aborts when it is asked
 * to watch a closed one, and the number may be somebody else's by the next turn. */
void mw_pg_pipeline_flush(mw_pg_conn *conn);
/** Takes the results that have come. */
void mw_pg_pipeline_read(mw_pg_conn *conn);
