// SPDX-License-Identifier: MIT
#pragma once

// One statement of a caller on its way: checked, sent as an op, its rows gathered with bounds, answered once.
// When its time is over it is answered at once, while its op is cancelled in the server and drains.

#include <stdbool.h>

#include "base/arena.h"
#include "loop/timer.h"
#include "store/pg_conn.h"
#include "store/postgres.h"

typedef struct mw_pg_query mw_pg_query;

struct mw_pg_query {
  mw_query base;
  mw_loop *loop;
  mw_list node; /**< In the client's `queries` until it is answered. */
  mw_pg_op op;
  mw_pg_pool *pool;
  mw_arena arena;
  mw_timer timer;
  mw_query_cb cb;
  void *arg;
  int64_t timeout_ms;
  size_t max_rows;
  bool running; /**< Its op is waiting or on a connection. */
  bool answered;
  bool leaves_session;
  int early; /**< An answer that does not come from the server. */
  mw_err err;
  char sqlstate[MW_PG_SQLSTATE];
  mw_rows rows;
  mw_str *names;
  mw_value *values;
  size_t values_cap;
  /** Called before the caller's callback; for the transaction it is part of. */
  void (*on_answer)(mw_pg_query *query, int status, const mw_err *err, void *owner);
  /** Called when the op is done and the memory goes. */
  void (*on_gone)(mw_pg_query *query, void *owner);
  void *owner;
};

/** Makes a query and checks its statement; what is wrong becomes its early answer. */
mw_pg_query *mw_pg_query_make(mw_loop *loop, const mw_query_opts *opts, bool in_tx, mw_query_cb cb, void *arg);
/** Starts its clock and runs it in `pool`, or on `conn` when that is not NULL. With an early answer, that comes
 * in the next turn. */
void mw_pg_query_go(mw_pg_query *query, mw_pg_pool *pool, mw_pg_conn *conn);
/** Answers now, cancels the op. */
void mw_pg_query_stop(mw_pg_query *query, int status, const mw_err *err);
