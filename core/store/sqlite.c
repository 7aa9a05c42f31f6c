// SPDX-License-Identifier: MIT
// The SQLite engine: the worker's side. Makes jobs, hands them to the files and calls back with what came out.
#include "store/sqlite.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"

#define AGAIN_MS 1000 // between two tries of what nobody waits for

static mw_sqlite_store *store_of(const mw_store *store) { return (mw_sqlite_store *)store; }
static mw_sqlite_client *client_of(const mw_store_client *client) { return (mw_sqlite_client *)client; }
static mw_sqlite_client *job_client(const mw_sqlite_job *job) { return (mw_sqlite_client *)job->base.client; }

// ---- open and close ----

static int open_store(mw_store *base, mw_err *err) {
  mw_sqlite_store *store = store_of(base);
  int only = base->exclusive ? 0 : MW_SQLITE_READ_ONLY_FILE;
  int readers = base->sqlite_readers;
  atomic_store(&base->lease_until_ms, INT64_MAX);
  if (base->is_single) {
    int rc = mw_sqlite_file_open(&store->files[MW_SQLITE_APP_FILE], store, base->single_name, MW_SQLITE_GUARDED, readers, err);
    return rc || base->inline_loop ? rc : mw_sqlite_checkpointer_start(store, err);
  }
  int code = mw_sqlite_file_open(&store->files[MW_SQLITE_ENGINE_FILE], store, "moonwatch.db", only, readers, err);
  if (!code) code = mw_sqlite_file_open(&store->files[MW_SQLITE_APP_FILE], store, "app.db", only | MW_SQLITE_GUARDED, readers, err);
  if (base->inline_loop || only) return code; // no telemetry, and no thread for checkpoints
  if (!code) code = mw_sqlite_file_open(&store->files[MW_SQLITE_TELEMETRY_FILE], store, "telemetry.db", MW_SQLITE_NORMAL, 0, err);
  if (!code) code = mw_sqlite_checkpointer_start(store, err);
  return code;
}

static void stop_node(mw_sqlite_store *store) {
  int64_t epoch = atomic_load(&store->base.epoch);
  if (!epoch) return;
  char sql[128];
  snprintf(sql, sizeof sql, "UPDATE nodes SET stopped_us = %lld WHERE epoch = %lld", (long long)mw_clock_wall_us(), (long long)epoch);
  mw_sqlite_conn conn;
  if (mw_sqlite_conn_open(&conn, store->files[MW_SQLITE_ENGINE_FILE].path, 0, NULL)) return;
  mw_sqlite_control(&conn, sql);
  mw_sqlite_conn_close(&conn);
}

static void close_store(mw_store *base) {
  mw_sqlite_store *store = store_of(base);
  mw_sqlite_checkpointer_stop(store);
  if (store->files[MW_SQLITE_ENGINE_FILE].opened) stop_node(store);
  for (int i = 0; i < MW_SQLITE_FILES; i++) mw_sqlite_file_close(&store->files[i]);
}

static mw_sqlite_health *health_of(const mw_store *store) { return &store_of(store)->files[MW_SQLITE_ENGINE_FILE].health; }

static bool is_up(const mw_store *store) { return !mw_sqlite_health_is_ill(health_of(store)); }

static void why_down(const mw_store *store, char *text, size_t size) { mw_sqlite_health_why(health_of(store), text, size); }

// ---- answers ----

typedef struct basket {
  mw_sqlite_client *client;
  mw_list jobs;
} basket;

static void on_answers(void *arg);

static void put_in_inbox(mw_sqlite_client *client, mw_list *jobs) {
  pthread_mutex_lock(&client->lock);
  bool first = mw_list_is_empty(&client->inbox);
  mw_list_splice(&client->inbox, jobs);
  // Inside the lock: once the loop has seen these jobs the client may be gone.
  if (first) mw_loop_post(client->base.loop, on_answers, client);
  pthread_mutex_unlock(&client->lock);
}

void mw_sqlite_answer(mw_list *jobs) {
  enum { BASKETS = 32 };
  basket baskets[BASKETS];
  int count = 0, last = 0;
  for (mw_sqlite_job *job; (job = MW_LIST_POP(jobs, mw_sqlite_job, node));) {
    mw_sqlite_client *client = job_client(job);
    if (count == 0 || baskets[last].client != client) {
      for (last = 0; last < count && baskets[last].client != client; last++) {}
      if (last == BASKETS) {
        last--;
        put_in_inbox(baskets[last].client, &baskets[last].jobs);
        baskets[last].client = client;
      } else if (last == count) {
        baskets[count].client = client;
        mw_list_init(&baskets[count++].jobs);
      }
    }
    mw_list_push(&baskets[last].jobs, &job->node);
  }
  for (int i = 0; i < count; i++) put_in_inbox(baskets[i].client, &baskets[i].jobs);
}

void mw_sqlite_answer_one(mw_sqlite_job *job) {
  mw_list jobs;
  mw_list_init(&jobs);
  mw_list_push(&jobs, &job->node);
  put_in_inbox(job_client(job), &jobs);
}

int mw_sqlite_job_fail(mw_sqlite_job *job, int code, const mw_err *err) {
  if (!job->err) job->err = mw_alloc(sizeof *job->err);
  *job->err = *err;
  job->status = job->err->code = code;
  return code;
}

static const mw_err *words_of(mw_sqlite_job *job, mw_err *space) {
  if (job->status == 0) return NULL;
  if (job->err && job->err->code == job->status) return job->err;
  mw_err_set(space, job->status, "%s", mw_err_text(job->status));
  return space;
}

static void answer_member(mw_sqlite_member *m) {
  mw_err space;
  const mw_err *err = words_of(&m->job, &space);
  int status = m->job.status;
  switch (m->job.kind) {
    case MW_SQLITE_CLAIM:
      m->cb.claimed(status, m->claim.list, status ? 0 : m->claim.count, status ? INT64_MAX : m->claim.next_due_us, err, m->arg);
      mw_arena_deinit(&m->claim.arena);
      break;
    case MW_SQLITE_NODE: m->cb.registered(status, err, m->arg); break;
    case MW_SQLITE_WRITE:
      if (m->write.more && m->write.more->control) *m->write.more->control = m->control;
      m->cb.written(status, m->has_existing ? &m->existing : NULL, err, m->arg);
      break;
    default: m->cb.written(status, m->has_existing ? &m->existing : NULL, err, m->arg);
  }
}

static void free_tx(mw_sqlite_tx *tx) {
  mw_list_remove(&tx->client_node);
  bool kept = tx->orphaned && !tx->released;
  if (kept) tx->base.client = &tx->orphan;
  else mw_free(tx);
}

static int end_tx(mw_sqlite_tx *tx, bool commit, mw_tx_cb cb, void *arg);

static void answer_tx(mw_sqlite_query *q, int status, const mw_err *err, bool begun) {
  mw_sqlite_tx *tx = q->tx;
  bool over = status != 0 || q->job.kind == MW_SQLITE_TX_END;
  if (q->tx_cb) q->tx_cb(status, over ? NULL : &tx->base, err, q->arg);
  if (!over) return;
  if (begun) end_tx(tx, false, NULL, NULL); // it began although it had been cancelled
  else free_tx(tx);
}

static void answer_query(mw_sqlite_query *q) {
  mw_timer_stop(&q->timer);
  mw_list_remove(&q->client_node);
  bool begun = q->job.kind == MW_SQLITE_BEGIN && q->job.status == 0;
  if (q->tx) q->tx->pending = NULL;
  if (atomic_load(&q->cancel) == MW_ECANCELED && q->job.status != MW_ECANCELED) {
    mw_err err;
    mw_err_set(&err, MW_ECANCELED, "the statement was cancelled");
    mw_sqlite_job_fail(&q->job, MW_ECANCELED, &err);
  }
  mw_err space;
  const mw_err *err = words_of(&q->job, &space);
  int status = q->job.status;
  if (q->job.kind == MW_SQLITE_QUERY || q->job.kind == MW_SQLITE_TX_QUERY)
    q->cb(status, status ? NULL : &q->result.rows, err, q->sqlstate, q->arg);
  else answer_tx(q, status, err, begun);
}

void mw_sqlite_try_close(mw_sqlite_client *client) {
  if (!client->closing || client->outstanding || client->flush_due) return;
  void (*cb)(void *arg) = client->closed;
  void *arg = client->closed_arg;
  pthread_mutex_lock(&client->lock); // the thread that answered last may still be between its post and its unlock
  pthread_mutex_unlock(&client->lock);
  pthread_mutex_destroy(&client->lock);
  mw_loop_unhold(client->base.loop);
  mw_free(client);
  if (cb) cb(arg);
}

void mw_sqlite_add_outstanding(mw_sqlite_client *client) {
  if (client->outstanding++ == 0) mw_loop_hold(client->base.loop);
}

mw_str mw_sqlite_pack(char **at, mw_str text) {
  if (text.len) memcpy(*at, text.ptr, text.len);
  mw_str packed = {*at, text.len};
  *at += text.len;
  return packed;
}

int mw_sqlite_check_writable(const mw_sqlite_client *client) {
  if (client->closing) return MW_ECANCELED;
  return client->base.store->exclusive ? 0 : MW_EDENIED;
}

// Unattended members whose write failed go into the next groups, once a second.
static bool keep_for_later(mw_sqlite_client *client, mw_sqlite_job *job) {
  mw_sqlite_member *m = (mw_sqlite_member *)job;
  bool fails = job->status == MW_EIO || job->status == MW_EBUSY || job->status == MW_EMEMORY;
  if (!fails || job->kind != MW_SQLITE_WRITE || !m->write.unattended || client->closing) return false;
  if (mw_clock_mono_ms() >= m->until_ms) return false;
  mw_list_push(&client->again, &job->node);
  if (!mw_timer_is_armed(&client->again_timer)) mw_timer_start(client->base.loop, &client->again_timer, AGAIN_MS);
  return true;
}

static void finish_job(mw_sqlite_client *client, mw_sqlite_job *job) {
  bool is_query = job->kind >= MW_SQLITE_QUERY;
  if (is_query) answer_query((mw_sqlite_query *)job);
  else answer_member((mw_sqlite_member *)job);
  if (is_query) mw_sqlite_query_deinit((mw_sqlite_query *)job);
  mw_free(job->err);
  mw_free(job);
  if (--client->outstanding == 0) mw_loop_unhold(client->base.loop);
}

static void on_answers(void *arg) {
  mw_sqlite_client *client = arg;
  mw_list jobs;
  mw_list_init(&jobs);
  pthread_mutex_lock(&client->lock);
  mw_list_splice(&jobs, &client->inbox);
  pthread_mutex_unlock(&client->lock);
  mw_loop_hold(client->base.loop);
  for (mw_sqlite_job *job; (job = MW_LIST_POP(&jobs, mw_sqlite_job, node));)
    if (!keep_for_later(client, job)) finish_job(client, job);
  mw_loop_unhold(client->base.loop);
  mw_sqlite_try_close(client);
}

// ---- statements ----

static void stop_query(mw_sqlite_query *q, int why) {
  int none = 0;
  if (!atomic_compare_exchange_strong(&q->cancel, &none, why)) return;
  if (!mw_sqlite_file_withdraw(q)) return; // it runs: the progress handler sees it
  mw_err err;
  if (why == MW_ETIMEOUT)
    mw_err_set(&err, why, "the database was busy for %lld ms: the statement was not run", (long long)q->opts.timeout_ms);
  else mw_err_set(&err, why, "the statement was cancelled");
  mw_sqlite_job_fail(&q->job, why, &err);
  mw_sqlite_answer_one(&q->job);
}

static void on_query_timer(mw_timer *timer, void *arg) { stop_query(arg, MW_ETIMEOUT); }

static mw_sqlite_query *new_query(mw_sqlite_client *client, mw_sqlite_kind kind, const mw_query_opts *opts, void *arg) {
  size_t extra = opts ? opts->nparams * sizeof(mw_value) + opts->sql.len : 0;
  for (size_t i = 0; opts && i < opts->nparams; i++)
    if (opts->params[i].kind == MW_VALUE_TEXT || opts->params[i].kind == MW_VALUE_BLOB) extra += opts->params[i].str.len;
  mw_sqlite_query *q = mw_alloc(sizeof *q + extra);
  *q = (mw_sqlite_query){.job = {.base.client = &client->base, .kind = kind, .bytes = sizeof *q + extra}, .arg = arg};
  mw_sqlite_query_init(q);
  mw_timer_init(&q->timer, on_query_timer, q);
  mw_list_push(&client->queries, &q->client_node);
  if (!opts) return q;
  q->opts = *opts;
  mw_value *params = (mw_value *)(q + 1);
  char *at = (char *)(params + opts->nparams);
  for (size_t i = 0; i < opts->nparams; i++) {
    params[i] = opts->params[i];
    if (params[i].kind == MW_VALUE_TEXT || params[i].kind == MW_VALUE_BLOB) params[i].str = mw_sqlite_pack(&at, params[i].str);
  }
  q->opts.params = params;
  q->opts.sql = mw_sqlite_pack(&at, opts->sql);
  return q;
}

static int start_query(mw_sqlite_client *client, mw_sqlite_query *q, mw_list *queue, int64_t timeout_ms) {
  q->deadline_ns = mw_clock_mono_ns() + timeout_ms * 1000000;
  mw_sqlite_add_outstanding(client);
  mw_timer_start(client->base.loop, &q->timer, timeout_ms);
  if (mw_sqlite_file_enqueue(q, queue)) return 0;
  mw_timer_stop(&q->timer);
  mw_list_remove(&q->client_node);
  mw_sqlite_query_deinit(q);
  mw_free(q);
  if (--client->outstanding == 0) mw_loop_unhold(client->base.loop);
  return MW_EBUSY;
}

/** A first guess, which saves a way through a reader: it looks at the statement and forwards what writes. */
static bool looks_like_a_write(mw_str sql) {
  static const char *const words[] = {"INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER"};
  while (sql.len && strchr(" \t\r\n", *sql.ptr)) sql = mw_str_of(sql.ptr + 1, sql.len - 1);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    size_t len = strlen(words[i]);
    if (sql.len > len && mw_str_eq_nocase(mw_str_of(sql.ptr, len), mw_str_from(words[i]))) return true;
  }
  return false;
}

static mw_sqlite_file *file_of(mw_sqlite_client *client, mw_db db) {
  return &store_of(client->base.store)->files[db == MW_DB_ENGINE ? MW_SQLITE_ENGINE_FILE : MW_SQLITE_APP_FILE];
}

static int query(mw_store_client *base, mw_db db, const mw_query_opts *opts, mw_query_cb cb, void *arg, mw_query **out) {
  mw_sqlite_client *client = client_of(base);
  if (client->closing) return MW_ECANCELED;
  mw_sqlite_file *file = file_of(client, db);
  mw_sqlite_query *q = new_query(client, MW_SQLITE_QUERY, opts, arg);
  q->file = file;
  q->cb = cb;
  bool writes = file->has_writer && looks_like_a_write(opts->sql);
  int code = start_query(client, q, writes ? &file->writes : &file->reads, opts->timeout_ms);
  if (!code && out) *out = &q->job.base;
  return code;
}

static void query_cancel(mw_query *handle) { stop_query((mw_sqlite_query *)handle, MW_ECANCELED); }

// ---- transactions ----

static int begin(mw_store_client *base, mw_db db, int64_t timeout_ms, mw_tx_cb cb, void *arg) {
  mw_sqlite_client *client = client_of(base);
  int code = mw_sqlite_check_writable(client);
  if (code) return code;
  mw_sqlite_tx *tx = MW_NEW(mw_sqlite_tx);
  tx->base.client = base;
  tx->file = file_of(client, db);
  tx->timeout_ms = timeout_ms;
  mw_list_push(&client->txs, &tx->client_node);
  mw_sqlite_query *q = new_query(client, MW_SQLITE_BEGIN, NULL, arg);
  q->file = tx->file;
  q->tx = tx;
  q->tx_cb = cb;
  q->opts.timeout_ms = timeout_ms;
  tx->pending = q;
  code = start_query(client, q, &tx->file->writes, timeout_ms);
  if (code) free_tx(tx);
  return code;
}

static int tx_query(mw_tx *handle, const mw_query_opts *opts, mw_query_cb cb, void *arg) {
  mw_sqlite_tx *tx = (mw_sqlite_tx *)handle;
  mw_sqlite_client *client = client_of(tx->base.client);
  if (tx->orphaned) return MW_ECANCELED;
  if (tx->pending || tx->ending) return MW_EINVALID;
  mw_sqlite_query *q = new_query(client, MW_SQLITE_TX_QUERY, opts, arg);
  q->file = tx->file;
  q->tx = tx;
  q->cb = cb;
  tx->pending = q;
  int code = start_query(client, q, &tx->file->tx_jobs, opts->timeout_ms);
  if (code) tx->pending = NULL;
  return code;
}

static int end_tx(mw_sqlite_tx *tx, bool commit, mw_tx_cb cb, void *arg) {
  mw_sqlite_client *client = client_of(tx->base.client);
  tx->ending = true;
  mw_sqlite_query *q = new_query(client, MW_SQLITE_TX_END, NULL, arg);
  q->file = tx->file;
  q->tx = tx;
  q->commit = commit;
  q->tx_cb = cb;
  q->deadline_ns = INT64_MAX;
  mw_sqlite_add_outstanding(client);
  mw_sqlite_file_enqueue(q, &tx->file->tx_jobs); // never refused
  return 0;
}

/** The owner lets go of a transaction that was rolled back, or is about to be, because its client is gone. */
static int release_orphan(mw_sqlite_tx *tx) {
  tx->released = true;
  if (tx->base.client == &tx->orphan) mw_free(tx);
  return MW_ECANCELED;
}

static int tx_end(mw_tx *handle, bool commit, mw_tx_cb cb, void *arg) {
  mw_sqlite_tx *tx = (mw_sqlite_tx *)handle;
  if (tx->orphaned) return release_orphan(tx);
  if (tx->ending) return MW_EINVALID;
  if (tx->pending) stop_query(tx->pending, MW_ECANCELED);
  return end_tx(tx, commit, cb, arg);
}

// ---- clients ----

static mw_store_client *attach(mw_store *store, mw_loop *loop) {
  mw_sqlite_client *client = MW_NEW(mw_sqlite_client);
  client->base = (mw_store_client){.store = store, .loop = loop};
  mw_list_init(&client->outbox);
  mw_list_init(&client->again);
  mw_timer_init(&client->again_timer, mw_sqlite_on_again, client);
  mw_list_init(&client->queries);
  mw_list_init(&client->txs);
  mw_list_init(&client->inbox);
  pthread_mutex_init(&client->lock, NULL);
  return &client->base;
}

static void try_close_later(void *arg) {
  mw_sqlite_client *client = arg;
  client->flush_due = false;
  if (!mw_list_is_empty(&client->outbox)) mw_sqlite_flush(client);
  else mw_sqlite_try_close(client);
}

static void detach(mw_store_client *base, void (*cb)(void *arg), void *arg) {
  mw_sqlite_client *client = client_of(base);
  if (client->closing) return;
  client->closing = true;
  client->closed = cb;
  client->closed_arg = arg;
  mw_loop_hold(base->loop); // until it is gone
  mw_timer_stop(&client->again_timer);
  for (mw_sqlite_job *job; (job = MW_LIST_POP(&client->again, mw_sqlite_job, node));) finish_job(client, job);
  MW_LIST_EACH(&client->queries, node) {
    mw_sqlite_query *q = MW_CONTAINER(node, mw_sqlite_query, client_node);
    if (q->job.kind != MW_SQLITE_TX_END) stop_query(q, MW_ECANCELED);
  }
  MW_LIST_EACH(&client->txs, node) {
    mw_sqlite_tx *tx = MW_CONTAINER(node, mw_sqlite_tx, client_node);
    bool begins = tx->pending && tx->pending->job.kind == MW_SQLITE_BEGIN;
    if (tx->ending || begins) continue;
    tx->orphaned = true;
    tx->orphan = *base;
    end_tx(tx, false, NULL, NULL);
  }
  if (client->flush_due) return; // its turn's end hands over what is collected, then looks whether it can close
  client->flush_due = true;
  mw_loop_post(base->loop, try_close_later, client);
}

const mw_engine mw_engine_sqlite = {
    .name = "sqlite",
    .store_size = sizeof(mw_sqlite_store),
    .open = open_store,
    .close = close_store,
    .is_up = is_up,
    .why_down = why_down,
    .attach = attach,
    .detach = detach,
    .query = query,
    .query_cancel = query_cancel,
    .begin = begin,
    .tx_query = tx_query,
    .tx_end = tx_end,
    .write = mw_sqlite_write,
    .register_node = mw_sqlite_register_node,
    .claim = mw_sqlite_claim,
    .put_code = mw_sqlite_put_code,
    .add_change = mw_sqlite_add_change,
    .admin = &mw_admin_sqlite,
};
