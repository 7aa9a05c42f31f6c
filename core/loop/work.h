// SPDX-License-Identifier: MIT
#pragma once

// mw_work: bounded pools of threads for calls that block. DNS, files and password hashing have one each, so that dead
// name servers cannot stop a login. A work function sees only its own struct.
//
//   mw_work_submit(mw_work_files(), loop, read_it, done, job);   // read_it(job) on a pool thread, done(job, 0) on loop

#include <stddef.h>

typedef struct mw_loop mw_loop;
typedef struct mw_work_pool mw_work_pool;
typedef void (*mw_work_fn)(void *arg);
typedef void (*mw_work_done_cb)(void *arg, int status);

/** Makes a pool of `threads` that start on demand, with room for `max_queued` waiting jobs. */
mw_work_pool *mw_work_pool_new(const char *name, int threads, size_t max_queued);
/** Lets running jobs end, answers waiting ones with MW_ECANCELED (through their loops), joins the threads. */
void mw_work_pool_free(mw_work_pool *pool);
/** Queues a job. Returns 0 and calls `done(arg, status)` on `loop` exactly once, later; or MW_EBUSY when the queue is
 *  full, and never calls back. Thread-safe. `loop` must outlive the job. */
int mw_work_submit(mw_work_pool *pool, mw_loop *loop, mw_work_fn fn, mw_work_done_cb done, void *arg);

/** The process-wide pools, made on first use; freed by mw_work_shutdown. Thread-safe. */
mw_work_pool *mw_work_dns(void);
mw_work_pool *mw_work_files(void);
void mw_work_shutdown(void);
