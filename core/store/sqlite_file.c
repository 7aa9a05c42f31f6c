// SPDX-License-Identifier: MIT
// A file of the SQLite engine: its threads and queues, and checkpoints.
//
// Checkpoints never run inside a commit. When the log passes a mark, a thread of its own copies pages back while the writer goes on;
// what came meanwhile the writer copies itself between two groups, so that the log as a whole is done and its next write begins
// at the start of the file again, which is kept at its size.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "loop/loop.h"
#include "store/sqlite.h"

#define GROUP_WRITES 64
#define MAX_WAITING_QUERIES 10000
#define MAX_WAITING_QUERY_BYTES (64 * 1024 * 1024)
#define CHECKPOINT_PAGES 4096 // 16 MiB of log

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages) {
  mw_sqlite_file *file = arg;
  atomic_store_explicit(&file->wal_pages, pages, memory_order_relaxed);
  if (file->inline_loop) { // no thread: the writer does all of it
    if (pages > CHECKPOINT_PAGES) atomic_store(&file->checkpoint, MW_SQLITE_CP_FINISH);
    return SQLITE_OK;
  }
  int none = MW_SQLITE_CP_NONE;
  if (pages > atomic_load_explicit(&file->checkpoint_mark, memory_order_relaxed) &&
      atomic_compare_exchange_strong(&file->checkpoint, &none, MW_SQLITE_CP_WANTED))
    mw_sqlite_checkpoint(file);
  return SQLITE_OK;
}

static bool wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t mono_ns) {
  struct timespec at = {.tv_sec = mono_ns / 1000000000, .tv_nsec = mono_ns % 1000000000};
  return pthread_cond_timedwait(cond, lock, &at) != ETIMEDOUT;
}

// ---- the writer ----

static void move_some(mw_list *from, mw_list *to, int limit) {
  for (mw_list *node; limit-- > 0 && (node = mw_list_pop(from));) mw_list_push(to, node);
}

static mw_sqlite_query *query_of(mw_list *node) {
  return (mw_sqlite_query *)MW_CONTAINER(node, mw_sqlite_job, node);
}

/** Takes one query out of a queue; the lock is held. */
static mw_sqlite_query *pop_query(mw_sqlite_file *file, mw_list *queue) {
  mw_list *node = mw_list_pop(queue);
  if (!node) return NULL;
  mw_sqlite_query *query = query_of(node);
  query->state = MW_SQLITE_RUNNING;
  file->waiting_queries--;
  file->waiting_query_bytes -= query->job.bytes;
  return query;
}

/** Takes statements up to the next BEGIN, or that BEGIN alone. */
static mw_sqlite_query *pop_writes(mw_sqlite_file *file, mw_list *batch) {
  for (int i = 0; i < GROUP_WRITES && !mw_list_is_empty(&file->writes); i++) {
    if (query_of(file->writes.next)->job.kind == MW_SQLITE_BEGIN) return i ? NULL : pop_query(file, &file->writes);
    mw_list_push(batch, &pop_query(file, &file->writes)->job.node);
  }
  return NULL;
}

static void finish_checkpoint(mw_sqlite_file *file) {
  if (atomic_load_explicit(&file->checkpoint, memory_order_relaxed) != MW_SQLITE_CP_FINISH) return;
  if (atomic_load_explicit(&file->wal_pages, memory_order_relaxed) > CHECKPOINT_PAGES) // else the log has started over already
    sqlite3_wal_checkpoint_v2(file->writer.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
  atomic_store(&file->checkpoint, MW_SQLITE_CP_NONE);
}

/** While a transaction holds the writer only its own jobs are served. The lock is held at both ends. */
static void serve_tx(mw_sqlite_file *file) {
  if (!mw_list_is_empty(&file->tx_jobs)) {
    mw_sqlite_query *query = pop_query(file, &file->tx_jobs);
    pthread_mutex_unlock(&file->lock);
    mw_sqlite_tx_run(file, query);
    pthread_mutex_lock(&file->lock);
  } else if (file->tx && !wait_until(&file->write_cond, &file->lock, file->tx->deadline_ns)) {
    if (mw_list_is_empty(&file->tx_jobs)) mw_sqlite_tx_expire(file);
  }
}

static void serve_writes(mw_sqlite_file *file) {
  mw_list members, writes;
  mw_list_init(&members);
  mw_list_init(&writes);
  move_some(&file->members, &members, MW_SQLITE_GROUP_MEMBERS);
  bool more = !mw_list_is_empty(&file->members);
  atomic_store_explicit(&file->waiting_since_ns, more ? mw_clock_mono_ns() : 0, memory_order_relaxed);
  mw_sqlite_query *begin = pop_writes(file, &writes);
  pthread_mutex_unlock(&file->lock);
  if (!mw_list_is_empty(&members)) mw_sqlite_group_run(file, &members);
  if (!mw_list_is_empty(&writes)) mw_sqlite_writes_run(file, &writes);
  if (begin) mw_sqlite_tx_run(file, begin);
  finish_checkpoint(file);
  pthread_mutex_lock(&file->lock);
}

/** Nothing to do, and the last write failed: looks whether one would pass now. The lock is held at both ends. */
static void wait_and_probe(mw_sqlite_file *file) {
  if (wait_until(&file->write_cond, &file->lock, mw_clock_mono_ns() + MW_SQLITE_PROBE_NS)) return;
  pthread_mutex_unlock(&file->lock);
  mw_sqlite_health_probe(&file->health, &file->writer);
  pthread_mutex_lock(&file->lock);
}

static void run_writer(void *arg) {
  mw_sqlite_file *file = arg;
  pthread_mutex_lock(&file->lock);
  for (;;) {
    if (file->tx || !mw_list_is_empty(&file->tx_jobs)) serve_tx(file);
    else if (!mw_list_is_empty(&file->members) || !mw_list_is_empty(&file->writes)) serve_writes(file);
    else if (file->stopping) break;
    else if (mw_sqlite_health_is_ill(&file->health)) wait_and_probe(file);
    else pthread_cond_wait(&file->write_cond, &file->lock);
  }
  pthread_mutex_unlock(&file->lock);
}

// ---- readers ----

/** Answers a query with the error of opening the file. */
static void refuse(mw_sqlite_query *query, const mw_err *err) {
  mw_sqlite_job_fail(&query->job, err->code, err);
  mw_sqlite_answer_one(&query->job);
}

static void read_one(mw_sqlite_file *file, mw_sqlite_conn *conn, mw_sqlite_query *query) {
  mw_err err;
  int flags = (file->flags & MW_SQLITE_READ_ONLY_FILE) ? file->flags : file->flags | MW_SQLITE_QUERY_ONLY;
  if (!conn->db && mw_sqlite_conn_open(conn, file->path, flags, &err)) {
    refuse(query, &err);
    return;
  }
  bool forward = false;
  mw_sqlite_query_run(conn, query, &forward);
  if (!forward) {
    mw_sqlite_answer_one(&query->job);
  } else if (!file->has_writer) {
    mw_err_set(&err, MW_EDENIED, "the data directory is open for reading only");
    refuse(query, &err);
  } else if (!mw_sqlite_file_enqueue(query, &file->writes)) {
    mw_err_set(&err, MW_EBUSY, "too many statements wait for the database");
    refuse(query, &err);
  }
}

static void run_reader(void *arg) {
  mw_sqlite_file *file = arg;
  mw_sqlite_conn conn = {0};
  pthread_mutex_lock(&file->lock);
  for (;;) {
    mw_sqlite_query *query = pop_query(file, &file->reads);
    if (query) {
      pthread_mutex_unlock(&file->lock);
      read_one(file, &conn, query);
      pthread_mutex_lock(&file->lock);
    } else if (file->stopping) {
      break;
    } else {
      pthread_cond_wait(&file->read_cond, &file->lock);
    }
  }
  pthread_mutex_unlock(&file->lock);
  mw_sqlite_conn_close(&conn);
}

// ---- without threads ----

static void serve_inline(void *arg);

/** Serves the file between two turns of its loop. */
static void kick(mw_sqlite_file *file) {
  if (file->kicked) return;
  file->kicked = true;
  mw_loop_post(file->inline_loop, serve_inline, file);
}

static void on_tx_over(mw_timer *timer, void *arg) {
  mw_sqlite_file *file = arg;
  if (!file->tx || !mw_list_is_empty(&file->tx_jobs)) return;
  mw_sqlite_tx_expire(file);
  kick(file);
}

static void watch_tx(mw_sqlite_file *file) {
  mw_timer_stop(&file->tx_timer);
  if (!file->tx) return;
  int64_t left_ns = file->tx->deadline_ns - mw_clock_mono_ns();
  mw_timer_start(file->inline_loop, &file->tx_timer, left_ns > 0 ? (left_ns + 999999) / 1000000 : 1);
}

/** What the writer and a reader do until they would wait. */
static void serve_inline(void *arg) {
  mw_sqlite_file *file = arg;
  file->kicked = false;
  pthread_mutex_lock(&file->lock);
  for (;;) {
    mw_sqlite_query *query;
    if (!mw_list_is_empty(&file->tx_jobs)) serve_tx(file);
    else if (!file->tx && (!mw_list_is_empty(&file->members) || !mw_list_is_empty(&file->writes))) serve_writes(file);
    else if ((query = pop_query(file, &file->reads))) {
      pthread_mutex_unlock(&file->lock);
      read_one(file, &file->reader, query);
      pthread_mutex_lock(&file->lock);
    } else break;
  }
  watch_tx(file);
  pthread_mutex_unlock(&file->lock);
}

// ---- queues ----

static void wake(mw_sqlite_file *file, pthread_cond_t *cond) {
  if (file->inline_loop) kick(file);
  else pthread_cond_signal(cond);
}

void mw_sqlite_file_wake(mw_sqlite_file *file) { wake(file, &file->write_cond); }

bool mw_sqlite_file_enqueue(mw_sqlite_query *query, mw_list *queue) {
  mw_sqlite_file *file = query->file;
  pthread_mutex_lock(&file->lock);
  bool ends = query->job.kind == MW_SQLITE_TX_END || query->job.kind == MW_SQLITE_TX_QUERY;
  bool fits = ends || (file->waiting_queries < MAX_WAITING_QUERIES &&
                       file->waiting_query_bytes + query->job.bytes <= MAX_WAITING_QUERY_BYTES);
  if (fits) {
    query->state = MW_SQLITE_QUEUED;
    query->queue = queue;
    file->waiting_queries++;
    file->waiting_query_bytes += query->job.bytes;
    mw_list_push(queue, &query->job.node);
    wake(file, queue == &file->reads ? &file->read_cond : &file->write_cond);
  }
  pthread_mutex_unlock(&file->lock);
  return fits;
}

bool mw_sqlite_file_withdraw(mw_sqlite_query *query) {
  mw_sqlite_file *file = query->file;
  pthread_mutex_lock(&file->lock);
  bool waited = query->state == MW_SQLITE_QUEUED;
  if (waited) {
    mw_list_remove(&query->job.node);
    query->state = MW_SQLITE_DONE;
    file->waiting_queries--;
    file->waiting_query_bytes -= query->job.bytes;
  }
  pthread_mutex_unlock(&file->lock);
  return waited;
}

// ---- open and close ----

static void init_cond(pthread_cond_t *cond) {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(cond, &attr);
  pthread_condattr_destroy(&attr);
}

static int start_threads(mw_sqlite_file *file, int readers, mw_err *err) {
  if (file->inline_loop) {
    file->has_writer = true;
    mw_timer_init(&file->tx_timer, on_tx_over, file);
    return 0;
  }
  if (!(file->flags & MW_SQLITE_READ_ONLY_FILE)) {
    if (mw_thread_start(&file->writer_thread, "db-write", run_writer, file))
      return mw_err_set(err, MW_EIO, "cannot start a thread for %s", file->path);
    file->has_writer = true;
  }
  file->reader_threads = mw_calloc((size_t)(readers ? readers : 1), sizeof *file->reader_threads);
  for (; file->readers_count < readers; file->readers_count++)
    if (mw_thread_start(&file->reader_threads[file->readers_count], "db-read", run_reader, file))
      return mw_err_set(err, MW_EIO, "cannot start a thread for %s", file->path);
  return 0;
}

int mw_sqlite_file_open(mw_sqlite_file *file, mw_sqlite_store *store, const char *name, int flags, int readers, mw_err *err) {
  size_t size = strlen(store->base.data_dir) + strlen(name) + 2;
  *file = (mw_sqlite_file){.store = store, .path = mw_alloc(size), .flags = flags, .opened = true, .inline_loop = store->base.inline_loop};
  snprintf(file->path, size, "%s/%s", store->base.data_dir, name);
  atomic_store(&file->checkpoint_mark, CHECKPOINT_PAGES);
  pthread_mutex_init(&file->lock, NULL);
  mw_sqlite_health_init(&file->health);
  init_cond(&file->write_cond);
  init_cond(&file->read_cond);
  mw_list_init(&file->members);
  mw_list_init(&file->writes);
  mw_list_init(&file->tx_jobs);
  mw_list_init(&file->reads);
  int code = mw_sqlite_conn_open(&file->writer, file->path, flags, err);
  if (code) return code;
  if (flags & MW_SQLITE_READ_ONLY_FILE) {
    mw_sqlite_conn_close(&file->writer);
    return start_threads(file, readers, err);
  }
  sqlite3_wal_hook(file->writer.db, on_wal, file);
  // A statement with triggers keeps what it changes until it is done; without this, much of that goes through a file in /var/tmp. Not for
  // plugins, whose statements may sort more than memory has.
  if (!(flags & MW_SQLITE_GUARDED)) mw_sqlite_control(&file->writer, "PRAGMA temp_store=MEMORY");
  return start_threads(file, readers, err);
}

void mw_sqlite_file_close(mw_sqlite_file *file) {
  if (!file->opened) return;
  pthread_mutex_lock(&file->lock);
  file->stopping = true;
  pthread_cond_broadcast(&file->write_cond);
  pthread_cond_broadcast(&file->read_cond);
  pthread_mutex_unlock(&file->lock);
  for (int i = 0; i < file->readers_count; i++) mw_thread_join(&file->reader_threads[i]);
  if (file->has_writer && !file->inline_loop) mw_thread_join(&file->writer_thread);
  if (file->inline_loop) mw_timer_stop(&file->tx_timer);
  mw_sqlite_conn_close(&file->reader);
  mw_sqlite_group_deinit(file);
  mw_sqlite_claim_deinit(file);
  mw_sqlite_conn_close(&file->writer);
  pthread_cond_destroy(&file->write_cond);
  pthread_cond_destroy(&file->read_cond);
  pthread_mutex_destroy(&file->lock);
  mw_sqlite_health_deinit(&file->health);
  mw_free(file->reader_threads);
  mw_free(file->path);
  file->opened = false;
}

// ---- checkpoints ----

void mw_sqlite_checkpoint(mw_sqlite_file *file) {
  mw_sqlite_store *store = file->store;
  pthread_mutex_lock(&store->cp_lock);
  pthread_cond_signal(&store->cp_cond);
  pthread_mutex_unlock(&store->cp_lock);
}

static void checkpoint_file(mw_sqlite_file *file, mw_sqlite_conn *conn) {
  mw_err err = {0};
  int pages = 0, copied = 0, rc = SQLITE_ERROR;
  if (MW_FAULT(sqlite_checkpoint))
    mw_err_set(&err, MW_EIO, "%s: a page could not be copied back", file->path);
  else if (conn->db || !mw_sqlite_conn_open(conn, file->path, file->flags, &err))
    rc = sqlite3_wal_checkpoint_v2(conn->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &copied);
  if (rc != SQLITE_OK && rc != SQLITE_BUSY)
    mw_log(MW_LOG_WARN, "store", "a checkpoint failed; the log grows until one succeeds", MW_LOG_S("file", file->path),
           MW_LOG_S("error", err.text[0] ? err.text : sqlite3_errmsg(conn->db)));
  // With the rest done by the writer the log starts over. A reader in the way: asked again some pages later.
  bool rest = rc == SQLITE_OK && copied == pages;
  atomic_store(&file->checkpoint_mark, copied == pages ? CHECKPOINT_PAGES : pages + CHECKPOINT_PAGES / 4);
  atomic_store(&file->checkpoint, rest ? MW_SQLITE_CP_FINISH : MW_SQLITE_CP_NONE);
}

static mw_sqlite_file *next_wanted(mw_sqlite_store *store, int *index) {
  for (*index = 0; *index < MW_SQLITE_FILES; (*index)++)
    if (atomic_load(&store->files[*index].checkpoint) == MW_SQLITE_CP_WANTED) return &store->files[*index];
  return NULL;
}

static void run_checkpointer(void *arg) {
  mw_sqlite_store *store = arg;
  mw_sqlite_conn conns[MW_SQLITE_FILES] = {0};
  pthread_mutex_lock(&store->cp_lock);
  while (!store->cp_stopping) {
    int index;
    mw_sqlite_file *file = next_wanted(store, &index);
    if (!file) {
      pthread_cond_wait(&store->cp_cond, &store->cp_lock);
      continue;
    }
    pthread_mutex_unlock(&store->cp_lock);
    checkpoint_file(file, &conns[index]);
    pthread_mutex_lock(&store->cp_lock);
  }
  pthread_mutex_unlock(&store->cp_lock);
  for (int i = 0; i < MW_SQLITE_FILES; i++) mw_sqlite_conn_close(&conns[i]);
}

int mw_sqlite_checkpointer_start(mw_sqlite_store *store, mw_err *err) {
  pthread_mutex_init(&store->cp_lock, NULL);
  init_cond(&store->cp_cond);
  if (mw_thread_start(&store->checkpointer, "db-checkpoint", run_checkpointer, store))
    return mw_err_set(err, MW_EIO, "cannot start a thread for checkpoints");
  store->has_checkpointer = true;
  return 0;
}

void mw_sqlite_checkpointer_stop(mw_sqlite_store *store) {
  if (!store->has_checkpointer) return;
  pthread_mutex_lock(&store->cp_lock);
  store->cp_stopping = true;
  pthread_cond_signal(&store->cp_cond);
  pthread_mutex_unlock(&store->cp_lock);
  mw_thread_join(&store->checkpointer);
  pthread_cond_destroy(&store->cp_cond);
  pthread_mutex_destroy(&store->cp_lock);
  store->has_checkpointer = false;
}
