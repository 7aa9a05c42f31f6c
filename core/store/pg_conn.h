// SPDX-License-Identifier: MIT
#pragma once

// mw_pg_conn: one PostgreSQL connection on a loop, in pipeline mode, never blocking it: names are resolved
// before libpq sees them, and connecting, sending, receiving and cancelling all go by readiness or on a thread
// of their own. It lives once: when it is lost it says so, and its owner closes it and opens another.
//
// Work comes as ops. An op is a few statements with one Sync behind them, so it is a transaction by itself and
// its failure harms no other op on the same connection. Ops run in the order they were given. Statements are
// prepared once a connection, under a name made from their hash, and the least recently used are dropped.
//
//   op->stmts[0] = (mw_pg_stmt){.sql = "SELECT 1", .prepare = true}; op->nstmts = 1; op->on_done = on_done;
//   mw_pg_conn_run(conn, op);
//
// Owner's thread only. All callbacks come from the loop, never from within a call.

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "loop/timer.h"
#include "store/pg_value.h"
#include "store/pq.h"

typedef struct mw_loop mw_loop;
typedef struct mw_pg_target mw_pg_target;
typedef struct mw_pg_conn mw_pg_conn;
typedef struct mw_pg_op mw_pg_op;

#define MW_PG_STMTS_MAX 5

typedef struct mw_pg_stmt {
  const char *sql; /**< Outlives the op. */
  mw_pg_params params;
  bool prepare; /**< Prepare it and keep the plan. */
  bool by_row;  /**< Hand results out row by row, so that a huge one is never held. */
} mw_pg_stmt;

/** One result of statement `stmt`: all its rows, or by_row one row at a time and an empty result at the end.
 * Borrowed. */
typedef void (*mw_pg_result_cb)(mw_pg_op *op, int stmt, const PGresult *result);
/** The op has left the connection; 0, or what went wrong. The last that is heard of it: it may be freed or run
 * again. MW_EUNAVAILABLE means the connection went away; then op->was_sent tells whether the server may have
 * done it. */
typedef void (*mw_pg_done_cb)(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err);

struct mw_pg_op {
  mw_pg_stmt stmts[MW_PG_STMTS_MAX];
  int nstmts;
  mw_pg_result_cb on_result;      /**< May be NULL. */
  void (*on_rerun)(mw_pg_op *op); /**< It begins again, forget its results. May be NULL. */
  mw_pg_done_cb on_done;
  bool once; /**< Never run it again by itself (part of a transaction, whose snapshot is gone). */
  bool was_sent;

  /* the connection's own */
  mw_list node;
  mw_pg_conn *conn;  /**< NULL while it is on none. */
  int step;          /**< Statement i: 2 i while it is prepared, 2 i + 1 while it runs; then the Sync. */
  int nulls;         /**< libpq's NULLs in a row that ended nothing. */
  uint8_t preparing; /**< Bit i: statement i is prepared by this op. */
  bool got, by_row, cancelled, rerun;
  int status;
  char sqlstate[MW_PG_SQLSTATE];
  mw_err *err; /**< Allocated when something fails. */
};

/** Empties the connection's part of an op, before its first run. */
void mw_pg_op_init(mw_pg_op *op);

typedef enum mw_pg_event {
  MW_PG_UP,   /**< Ready for ops. */
  MW_PG_DOWN, /**< Lost or never reached (`err` says why); all ops have been answered. Close it. */
  MW_PG_ROOM, /**< An op has left. */
} mw_pg_event;
typedef void (*mw_pg_event_cb)(mw_pg_conn *conn, mw_pg_event event, const mw_err *err, void *arg);

/** Starts connecting; UP or DOWN comes later, within 10 s. */
mw_pg_conn *mw_pg_conn_open(mw_loop *loop, mw_pg_target *target, mw_pg_event_cb cb, void *arg);
/** Answers its ops (from within this call) and goes; no event after this. `why` says that it is of no more use: they get
 * MW_EUNAVAILABLE with its words; NULL, that its owner goes: MW_ECANCELED. `gone` (may be NULL) is called, later, when
 * nothing of it is left on the loop. */
void mw_pg_conn_close(mw_pg_conn *conn, const mw_err *why, void (*gone)(void *arg), void *arg);
bool mw_pg_conn_is_up(const mw_pg_conn *conn);
/** Gives it an op. Only while it is up. Sent at the end of this turn at the latest. */
void mw_pg_conn_run(mw_pg_conn *conn, mw_pg_op *op);
/** Cancels a running op in the server; `on_done` comes when the server has answered (MW_ETIMEOUT, sqlstate
 * 57014, when the cancel was in time). A server that does not answer within 10 s loses the connection. An
 * innocent op that the cancel hit is run again. */
void mw_pg_conn_cancel(mw_pg_op *op);
/** True while a cancel request is under way: no op should be added, it could be hit. */
bool mw_pg_conn_is_cancelling(const mw_pg_conn *conn);
/** True when the op is the one that the server works on now. */
bool mw_pg_conn_is_front(const mw_pg_op *op);
/** Ops given and not yet done. */
int mw_pg_conn_depth(const mw_pg_conn *conn);
/** For how long the op in front has been running, ms; 0 when there is none. */
int64_t mw_pg_conn_busy_ms(const mw_pg_conn *conn);
/** True when the server is in no transaction. */
bool mw_pg_conn_is_idle(const mw_pg_conn *conn);
/** Loses it as when the server goes away: DOWN comes later. For fault points. */
void mw_pg_conn_lose(mw_pg_conn *conn);
/** Forgets prepared statements, after DISCARD ALL. */
void mw_pg_conn_forget_plans(mw_pg_conn *conn);
/** Calls `cb` with every notification (LISTEN); texts are borrowed. */
void mw_pg_conn_on_notify(mw_pg_conn *conn, void (*cb)(mw_pg_conn *conn, const char *channel, const char *payload, void *arg), void *arg);
/** The owner's own pointer. */
void *mw_pg_conn_arg(const mw_pg_conn *conn);
