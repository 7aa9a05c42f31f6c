// SPDX-License-Identifier: MIT
#include "store/pg_pool.h"

#include "base/alloc.h"
#include "base/rand.h"
#include "loop/loop.h"

#define DEPTH_MAX 16      /* Ops on one connection. */
#define FRONT_FRESH_MS 10 /* Nothing is put behind an op that has been running longer. */

typedef struct slot {
  mw_list node;
  mw_pg_pool *pool;
  mw_pg_conn *conn;
  bool up;
  mw_pg_waiter *holder;
} slot;

struct mw_pg_pool {
  mw_loop *loop;
  mw_pg_target *target;
  int size, count, opening;
  mw_list slots;
  mw_list ops; /**< mw_pg_op waiting. */
  mw_list waiters;
  size_t waiting;
  mw_timer retry;
  int attempt;
  bool down, closed, pumping;
  mw_err why;
  int refs;
  void (*gone)(void *arg);
  void *gone_arg;
};

int64_t mw_pg_backoff_ms(int attempt) {
  int64_t full = attempt > 6 ? 5000 : 100 << (attempt > 1 ? attempt - 1 : 0);
  if (full > 5000) full = 5000;
  return full / 2 + (int64_t)(mw_rand_unit() * (double)(full / 2));
}

static void pump(mw_pg_pool *pool);

static void unref(void *arg) {
  mw_pg_pool *pool = arg;
  if (--pool->refs) return;
  if (pool->gone) pool->gone(pool->gone_arg);
  mw_free(pool);
}

static void on_pump(void *arg) {
  mw_pg_pool *pool = arg;
  pool->pumping = false;
  if (!pool->closed) pump(pool);
  unref(pool);
}

static void pump_later(mw_pg_pool *pool) {
  if (pool->pumping || pool->closed) return;
  pool->pumping = true;
  pool->refs++;
  mw_loop_defer(pool->loop, on_pump, pool);
}

static void remove_slot(slot *s, const mw_err *err) {
  mw_pg_pool *pool = s->pool;
  mw_pg_waiter *holder = s->holder;
  mw_list_remove(&s->node);
  pool->count--;
  if (!s->up) pool->opening--;
  mw_pg_conn_close(s->conn, NULL, unref, pool);
  mw_free(s);
  if (holder) holder->lost(holder, err);
}

static bool has_live(const mw_pg_pool *pool) { return pool->count > pool->opening; }

static void answer_all(mw_pg_pool *pool, int status, const mw_err *err) {
  mw_list ops, waiters;
  mw_list_init(&ops);
  mw_list_init(&waiters);
  mw_list_splice(&ops, &pool->ops);
  mw_list_splice(&waiters, &pool->waiters);
  pool->waiting = 0;
  for (mw_pg_op *op; (op = MW_LIST_POP(&ops, mw_pg_op, node));) op->on_done(op, status, "", err);
  for (mw_pg_waiter *w; (w = MW_LIST_POP(&waiters, mw_pg_waiter, node));) w->cb(w, NULL, err);
}

static void lose(mw_pg_pool *pool, slot *s, const mw_err *err) {
  bool was_up = s->up;
  remove_slot(s, err);
  if (was_up) {
    pump_later(pool); // The first attempt to replace it comes at once.
    return;
  }
  if (!mw_timer_is_armed(&pool->retry))
    mw_timer_start(pool->loop, &pool->retry, mw_pg_backoff_ms(++pool->attempt));
  if (has_live(pool)) return;
  pool->down = true;
  pool->why = *err;
  answer_all(pool, MW_EUNAVAILABLE, err);
}

static void on_event(mw_pg_conn *conn, mw_pg_event event, const mw_err *err, void *arg) {
  slot *s = arg;
  mw_pg_pool *pool = s->pool;
  if (event == MW_PG_DOWN) {
    mw_err why = *err;
    lose(pool, s, &why);
    return;
  }
  if (event == MW_PG_UP) {
    s->up = true;
    pool->opening--;
    pool->attempt = 0;
    pool->down = false;
    mw_timer_stop(&pool->retry);
  }
  pump_later(pool);
}

static void open_one(mw_pg_pool *pool) {
  slot *s = MW_NEW(slot);
  s->pool = pool;
  mw_list_push(&pool->slots, &s->node);
  pool->count++;
  pool->opening++;
  pool->refs++;
  s->conn = mw_pg_conn_open(pool->loop, pool->target, on_event, s);
}

static void on_retry(mw_timer *timer, void *arg) {
  mw_pg_pool *pool = arg;
  if (pool->down && pool->opening == 0)
    open_one(pool);
  else
    pump(pool);
}

/** Opens one more when there is room, one at a time and not while backing off. */
static void try_open(mw_pg_pool *pool) {
  if (pool->count < pool->size && pool->opening == 0 && !mw_timer_is_armed(&pool->retry)) open_one(pool);
}

static bool is_usable(const slot *s) {
  return s->up && !s->holder && mw_pg_conn_is_up(s->conn) && !mw_pg_conn_is_cancelling(s->conn);
}

static slot *idle_slot(mw_pg_pool *pool) {
  MW_LIST_EACH(&pool->slots, node) {
    slot *s = MW_CONTAINER(node, slot, node);
    if (is_usable(s) && mw_pg_conn_depth(s->conn) == 0) return s;
  }
  return NULL;
}

/** The usable connection with the fewest ops on it, whose front is fresh. While a transaction waits, the one
 * that is nearest to idle is left to drain for it. */
static slot *shared_slot(mw_pg_pool *pool) {
  slot *best = NULL, *next = NULL;
  MW_LIST_EACH(&pool->slots, node) {
    slot *s = MW_CONTAINER(node, slot, node);
    if (!is_usable(s) || mw_pg_conn_depth(s->conn) >= DEPTH_MAX || mw_pg_conn_busy_ms(s->conn) > FRONT_FRESH_MS)
      continue;
    if (!best || mw_pg_conn_depth(s->conn) < mw_pg_conn_depth(best->conn)) {
      next = best;
      best = s;
    } else {
      next = s;
    }
  }
  return mw_list_is_empty(&pool->waiters) ? best : next;
}

static void serve_waiters(mw_pg_pool *pool) {
  while (!mw_list_is_empty(&pool->waiters)) {
    slot *s = idle_slot(pool);
    if (!s) {
      try_open(pool);
      return;
    }
    mw_pg_waiter *waiter = MW_LIST_POP(&pool->waiters, mw_pg_waiter, node);
    pool->waiting--;
    s->holder = waiter;
    waiter->cb(waiter, s->conn, NULL);
    if (pool->closed) return;
  }
}

static void serve_ops(mw_pg_pool *pool) {
  while (!mw_list_is_empty(&pool->ops)) {
    slot *s = idle_slot(pool);
    if (!s) try_open(pool);
    if (!s) s = shared_slot(pool);
    if (!s) return;
    mw_pg_op *op = MW_LIST_POP(&pool->ops, mw_pg_op, node);
    pool->waiting--;
    mw_pg_conn_run(s->conn, op);
  }
}

static void pump(mw_pg_pool *pool) {
  pool->refs++;
  serve_waiters(pool);
  if (!pool->closed) serve_ops(pool);
  unref(pool);
}

mw_pg_pool *mw_pg_pool_new(mw_loop *loop, mw_pg_target *target, int size) {
  mw_pg_pool *pool = MW_NEW(mw_pg_pool);
  *pool = (mw_pg_pool){.loop = loop, .target = target, .size = size, .refs = 1};
  mw_list_init(&pool->slots);
  mw_list_init(&pool->ops);
  mw_list_init(&pool->waiters);
  mw_timer_init(&pool->retry, on_retry, pool);
  return pool;
}

void mw_pg_pool_close(mw_pg_pool *pool, void (*gone)(void *arg), void *arg) {
  if (pool->closed) return;
  mw_err err = {0};
  mw_err_set(&err, MW_ECANCELED, "the store was closed");
  pool->closed = true;
  pool->gone = gone;
  pool->gone_arg = arg;
  mw_timer_stop(&pool->retry);
  answer_all(pool, MW_ECANCELED, &err);
  while (!mw_list_is_empty(&pool->slots)) remove_slot(MW_CONTAINER(pool->slots.next, slot, node), &err);
  mw_loop_post(pool->loop, unref, pool);
}

bool mw_pg_pool_is_down(const mw_pg_pool *pool, mw_err *err) {
  if (pool->down) *err = pool->why;
  return pool->down;
}

void mw_pg_pool_hurry(mw_pg_pool *pool) {
  if (pool->closed || !pool->down) return;
  mw_timer_stop(&pool->retry);
  pool->down = false;
  if (pool->opening == 0) open_one(pool);
}

size_t mw_pg_pool_waiting(const mw_pg_pool *pool) { return pool->waiting; }

void mw_pg_pool_run(mw_pg_pool *pool, mw_pg_op *op) {
  mw_list_push(&pool->ops, &op->node);
  pool->waiting++;
  pump_later(pool);
}

bool mw_pg_pool_withdraw(mw_pg_pool *pool, mw_pg_op *op) {
  if (op->conn || mw_list_is_empty(&op->node)) return false;
  mw_list_remove(&op->node);
  pool->waiting--;
  return true;
}

void mw_pg_pool_acquire(mw_pg_pool *pool, mw_pg_waiter *waiter) {
  mw_list_push(&pool->waiters, &waiter->node);
  pool->waiting++;
  pump_later(pool);
}

void mw_pg_pool_forget(mw_pg_pool *pool, mw_pg_waiter *waiter) {
  if (mw_list_is_empty(&waiter->node)) return;
  mw_list_remove(&waiter->node);
  pool->waiting--;
}

void mw_pg_pool_release(mw_pg_pool *pool, mw_pg_conn *conn, bool clean) {
  MW_LIST_EACH(&pool->slots, node) {
    slot *s = MW_CONTAINER(node, slot, node);
    if (s->conn != conn) continue;
    s->holder = NULL;
    if (!clean) remove_slot(s, NULL);
    break;
  }
  pump_later(pool);
}
