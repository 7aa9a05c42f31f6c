// SPDX-License-Identifier: MIT
#include "loop/work.h"

#include "base/alloc.h"
#include "base/err.h"
#include "base/fault.h"
#include "loop/loop_impl.h"
#include "loop/thread.h"

typedef struct job {
  mw_list node;
  mw_loop *loop;
  bool held; // submitted on the loop's thread, which the job keeps running
  mw_work_fn fn;
  mw_work_done_cb done;
  void *arg;
  int status;
} job;

struct mw_work_pool {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  char *name;
  mw_list waiting;
  size_t queued, max_queued;
  int started, idle, max_threads;
  bool closing;
  mw_thread threads[];
};

static void on_answer(void *arg) {
  job j = *(job *)arg;
  mw_free(arg);
  if (j.held) mw_loop_unhold(j.loop);
  atomic_fetch_sub(&j.loop->jobs, 1);
  j.done(j.arg, j.status);
}

static void answer(job *j, int status) {
  j->status = status;
  mw_loop_post(j->loop, on_answer, j);
}

static void run_jobs(void *arg) {
  mw_work_pool *pool = arg;
  pthread_mutex_lock(&pool->lock);
  while (!pool->closing) {
    job *j = MW_LIST_POP(&pool->waiting, job, node);
    if (!j) {
      pool->idle++;
      pthread_cond_wait(&pool->wake, &pool->lock);
      pool->idle--;
      continue;
    }
    pool->queued--;
    pthread_mutex_unlock(&pool->lock);
    j->fn(j->arg);
    answer(j, 0);
    pthread_mutex_lock(&pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
}

mw_work_pool *mw_work_pool_new(const char *name, int threads, size_t max_queued) {
  mw_work_pool *pool = mw_calloc(1, sizeof *pool + (size_t)threads * sizeof *pool->threads);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pool->name = mw_strdup(name);
  mw_list_init(&pool->waiting);
  pool->max_threads = threads;
  pool->max_queued = max_queued;
  return pool;
}

void mw_work_pool_free(mw_work_pool *pool) {
  if (!pool) return;
  mw_list left;
  mw_list_init(&left);
  pthread_mutex_lock(&pool->lock);
  pool->closing = true;
  mw_list_splice(&left, &pool->waiting);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
  for (job *j; (j = MW_LIST_POP(&left, job, node));) answer(j, MW_ECANCELED);
  for (int i = 0; i < pool->started; i++) mw_thread_join(&pool->threads[i]);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  mw_free(pool->name);
  mw_free(pool);
}

// Adds a thread when more jobs wait than threads are idle. Called with the lock held.
static int want_thread(mw_work_pool *pool) {
  if (pool->queued <= (size_t)pool->idle || pool->started == pool->max_threads) return 0;
  int rc = mw_thread_start(&pool->threads[pool->started], pool->name, run_jobs, pool);
  if (rc == 0) pool->started++;
  return pool->started ? 0 : rc;
}

int mw_work_submit(mw_work_pool *pool, mw_loop *loop, mw_work_fn fn, mw_work_done_cb done, void *arg) {
  job *j = MW_NEW(job);
  *j = (job){.loop = loop, .held = mw_loop_is_here(loop), .fn = fn, .done = done, .arg = arg};
  pthread_mutex_lock(&pool->lock);
  int rc = pool->closing || pool->queued >= pool->max_queued ? MW_EBUSY : MW_FAULT(work_submit);
  if (rc == 0) {
    pool->queued++;
    rc = want_thread(pool);
    if (rc) pool->queued--;
  }
  if (rc == 0) {
    atomic_fetch_add(&loop->jobs, 1);
    if (j->held) mw_loop_hold(loop);
    mw_list_push(&pool->waiting, &j->node);
    pthread_cond_signal(&pool->wake);
  }
  pthread_mutex_unlock(&pool->lock);
  if (rc) mw_free(j);
  return rc;
}

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static mw_work_pool *shared_dns, *shared_files;

static mw_work_pool *shared(mw_work_pool **pool, const char *name, int threads, size_t max_queued) {
  pthread_mutex_lock(&shared_lock);
  if (!*pool) *pool = mw_work_pool_new(name, threads, max_queued);
  mw_work_pool *found = *pool;
  pthread_mutex_unlock(&shared_lock);
  return found;
}

mw_work_pool *mw_work_dns(void) { return shared(&shared_dns, "dns", 4, 256); }

mw_work_pool *mw_work_files(void) { return shared(&shared_files, "files", 4, 1024); }

void mw_work_shutdown(void) {
  pthread_mutex_lock(&shared_lock);
  mw_work_pool *dns = shared_dns, *files = shared_files;
  shared_dns = shared_files = NULL;
  pthread_mutex_unlock(&shared_lock);
  mw_work_pool_free(dns);
  mw_work_pool_free(files);
}
