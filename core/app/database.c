// SPDX-License-Identifier: MIT

// The database at the start of a server: migrated, then this node registered, then the workflow engines start. While PostgreSQL is away
// the first is tried again with backoff, and the server serves what does not need it.

#include "app/runtime_impl.h"
#include "base/alloc.h"
#include "base/log.h"
#include "store/journal.h"
#include "store/migrate.h"

enum { RETRY_MS = 200, RETRY_MAX_MS = 5000 };

bool mw_runtime_store_is_ready(const mw_runtime *rt) { return atomic_load(&rt->store_ready); }

static void start_engine(void *arg) { mw_worker_start_engine(arg); }

static void on_registered_main(void *arg) {
  mw_runtime *rt = arg;
  if (rt->workers_gone) return;
  atomic_store(&rt->store_ready, true);
  mw_log(MW_LOG_INFO, "store", "ready", MW_LOG_S("engine", mw_store_engine(rt->store)), MW_LOG_I("epoch", mw_store_epoch(rt->store)));
  for (int i = 0; i < rt->workers; i++) mw_loop_post(rt->worker[i].loop, start_engine, &rt->worker[i]);
  mw_runtime_open_doors(rt);
}

static void register_node(void *arg);

static void on_register_retry(mw_timer *timer, void *arg) { register_node(arg); }

// On worker 0.
static void on_registered(int status, const mw_err *err, void *arg) {
  mw_worker *worker = arg;
  if (!status) {
    mw_loop_post(worker->rt->main, on_registered_main, worker->rt);
    return;
  }
  if (worker->leaving) return;
  mw_log(MW_LOG_WARN, "store", "this node could not be registered; trying again", MW_LOG_S("error", err ? err->text : mw_err_text(status)));
  mw_timer_init(&worker->start_retry, on_register_retry, worker);
  mw_timer_start(worker->loop, &worker->start_retry, 1000);
}

static void register_node(void *arg) {
  mw_worker *worker = arg;
  int rc = worker->leaving ? 0 : mw_store_register_node(worker->host.store, on_registered, worker);
  if (rc) on_registered(rc, NULL, worker);
}

typedef struct prepare {
  mw_runtime *rt;
  int status, count;
  mw_err err;
} prepare;

static int check_pending(mw_runtime *rt, mw_err *err) {
  mw_migration *list;
  size_t count, pending = 0;
  int rc = mw_migrate_status(rt->store, &list, &count, err);
  if (rc) return rc;
  for (size_t i = 0; i < count; i++) pending += !list[i].applied;
  mw_free(list);
  if (!pending) return 0;
  return mw_err_set(err, MW_EVERSION, "%zu migrations are pending and migrate.auto is off: run `moonwatch migrate up`", pending);
}

static void do_prepare(void *arg) {
  prepare *job = arg;
  if (job->rt->conf->migrate_auto) job->status = mw_migrate_up(job->rt->store, &job->count, &job->err);
  else job->status = check_pending(job->rt, &job->err);
}

static void on_retry(mw_timer *timer, void *arg) { mw_runtime_prepare_database(arg); }

static void retry(mw_runtime *rt, int64_t wait_ms) {
  mw_timer_init(&rt->database_retry, on_retry, rt);
  mw_timer_start(rt->main, &rt->database_retry, wait_ms);
}

static void on_prepared(void *arg, int status) {
  prepare job = *(prepare *)arg;
  mw_runtime *rt = job.rt;
  mw_free(arg);
  if (status) job.status = status;
  if (atomic_load(&rt->draining)) return;
  if (!job.status) {
    if (job.count) mw_log(MW_LOG_INFO, "store", "migrated", MW_LOG_I("migrations", job.count));
    mw_loop_post(rt->worker[0].loop, register_node, &rt->worker[0]);
    return;
  }
  if (job.status != MW_EUNAVAILABLE && job.status != MW_ETIMEOUT) {
    rt->err = job.err;
    mw_runtime_drain(rt, job.status);
    return;
  }
  int64_t wait_ms = RETRY_MS << (rt->database_failures < 5 ? rt->database_failures : 5);
  if (rt->database_failures++ == 0)
    mw_log(MW_LOG_WARN, "store", "the database is away; what needs it answers 503 until it is back", MW_LOG_S("error", job.err.text));
  mw_runtime_open_doors(rt);
  retry(rt, wait_ms < RETRY_MAX_MS ? wait_ms : RETRY_MAX_MS);
}

void mw_runtime_prepare_database(mw_runtime *rt) {
  prepare *job = MW_NEW(prepare);
  job->rt = rt;
  int rc = mw_work_submit(rt->database_pool, rt->main, do_prepare, on_prepared, job);
  if (rc) {
    mw_free(job);
    retry(rt, RETRY_MS);
  }
}
