// SPDX-License-Identifier: MIT
// The SQLite engine: what executions write, as members of the groups that the engine file's writer commits. Members of one turn of a worker are handed
// over together at its end.
#include "store/sqlite.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "loop/loop.h"

#define MAX_WAIT_NS ((int64_t)2 * 1000000000) // a CREATE that would wait longer is refused
#define MAX_QUEUED_BYTES (64 * 1024 * 1024)

static mw_sqlite_store *store_of(const mw_store *store) { return (mw_sqlite_store *)store; }
static mw_sqlite_client *client_of(const mw_store_client *client) { return (mw_sqlite_client *)client; }

void mw_sqlite_flush(void *arg) {
  mw_sqlite_client *client = arg;
  mw_sqlite_file *file = &store_of(client->base.store)->files[MW_SQLITE_ENGINE_FILE];
  client->flush_due = false;
  client->outbox_count = client->outbox_bytes = 0;
  pthread_mutex_lock(&file->lock);
  if (mw_list_is_empty(&file->members)) atomic_store_explicit(&file->waiting_since_ns, mw_clock_mono_ns(), memory_order_relaxed);
  mw_list_splice(&file->members, &client->outbox);
  mw_sqlite_file_wake(file);
  pthread_mutex_unlock(&file->lock);
  mw_sqlite_try_close(client);
}

static mw_sqlite_member *new_member(mw_sqlite_client *client, mw_sqlite_kind kind, size_t extra, void *arg) {
  mw_sqlite_member *m = mw_alloc(sizeof *m + extra);
  m->job = (mw_sqlite_job){.base.client = &client->base, .kind = kind, .bytes = sizeof *m + extra};
  m->has_existing = false;
  m->control = 0;
  m->arg = arg;
  return m;
}

static int hand_over(mw_sqlite_client *client, mw_sqlite_member *m) {
  mw_sqlite_file *file = &store_of(client->base.store)->files[MW_SQLITE_ENGINE_FILE];
  atomic_fetch_add_explicit(&file->queued, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&file->queued_bytes, m->job.bytes, memory_order_relaxed);
  mw_list_push(&client->outbox, &m->job.node);
  if (!client->flush_due) {
    client->flush_due = true;
    mw_loop_defer(client->base.loop, mw_sqlite_flush, client);
  }
  return 0;
}

static int submit(mw_sqlite_client *client, mw_sqlite_member *m) {
  mw_sqlite_add_outstanding(client);
  return hand_over(client, m);
}

void mw_sqlite_on_again(mw_timer *timer, void *arg) {
  mw_sqlite_client *client = arg;
  for (mw_sqlite_job *job; (job = MW_LIST_POP(&client->again, mw_sqlite_job, node));) hand_over(client, (mw_sqlite_member *)job);
}

/** True when a member that comes now would wait too long. */
static bool is_congested(mw_sqlite_file *file) {
  size_t queued = atomic_load_explicit(&file->queued, memory_order_relaxed);
  if (atomic_load_explicit(&file->queued_bytes, memory_order_relaxed) > MAX_QUEUED_BYTES) return true;
  if (queued == 0) return false;
  int64_t wait_ns = (int64_t)(queued / MW_SQLITE_GROUP_MEMBERS) * atomic_load_explicit(&file->group_ns, memory_order_relaxed);
  int64_t started_ns = atomic_load_explicit(&file->group_started_ns, memory_order_relaxed);
  int64_t since_ns = atomic_load_explicit(&file->waiting_since_ns, memory_order_relaxed);
  if (since_ns && (!started_ns || since_ns < started_ns)) started_ns = since_ns; // a transaction holds the writer
  if (started_ns) wait_ns += mw_clock_mono_ns() - started_ns;
  return wait_ns > MAX_WAIT_NS;
}

static size_t size_of_more(const mw_write_more *more) {
  return more->group.len + more->tags.len + more->parent_key.len + more->state.len + more->waits.len + more->take.len;
}

static const mw_write_more *pack_more(char **at, const mw_write_more *more) {
  mw_write_more *to = (mw_write_more *)*at;
  *at += sizeof *to;
  *to = *more;
  to->group = mw_sqlite_pack(at, more->group);
  to->tags = mw_sqlite_pack(at, more->tags);
  to->parent_key = mw_sqlite_pack(at, more->parent_key);
  to->state = mw_sqlite_pack(at, more->state);
  to->waits = mw_sqlite_pack(at, more->waits);
  to->take = mw_sqlite_pack(at, more->take);
  return to;
}

int mw_sqlite_write(mw_store_client *base, const mw_write *w, mw_write_cb cb, void *arg) {
  mw_sqlite_client *client = client_of(base);
  int code = mw_sqlite_check_writable(client);
  if (code) return code;
  bool create = w->kind == MW_WRITE_CREATE;
  if (create && is_congested(&store_of(base->store)->files[MW_SQLITE_ENGINE_FILE])) return MW_EBUSY;
  size_t extra = create ? w->app.len + w->workflow.len + w->external_id.len + w->key.len + w->request_hash.len + w->input.len +
                              w->bundle.len + w->seed.len
                        : w->data.len + w->output.len + w->error.len;
  if (w->more) extra += sizeof *w->more + size_of_more(w->more);
  mw_sqlite_member *m = new_member(client, MW_SQLITE_WRITE, extra, arg);
  char *at = (char *)(m + 1);
  mw_write *to = &m->write;
  *to = *w;
  if (w->more) to->more = pack_more(&at, w->more);
  if (create) {
    to->app = mw_sqlite_pack(&at, w->app);
    to->workflow = mw_sqlite_pack(&at, w->workflow);
    to->external_id = mw_sqlite_pack(&at, w->external_id);
    to->key = mw_sqlite_pack(&at, w->key);
    to->request_hash = mw_sqlite_pack(&at, w->request_hash);
    to->input = mw_sqlite_pack(&at, w->input);
    to->bundle = mw_sqlite_pack(&at, w->bundle);
    to->seed = mw_sqlite_pack(&at, w->seed);
  } else {
    to->data = mw_sqlite_pack(&at, w->data);
    to->output = mw_sqlite_pack(&at, w->output);
    to->error = mw_sqlite_pack(&at, w->error);
  }
  m->cb.written = cb;
  m->until_ms = mw_clock_mono_ms() + w->patience_ms;
  return submit(client, m);
}

int mw_sqlite_register_node(mw_store_client *base, void (*cb)(int status, const mw_err *err, void *arg), void *arg) {
  int code = mw_sqlite_check_writable(client_of(base));
  if (code) return code;
  mw_sqlite_member *m = new_member(client_of(base), MW_SQLITE_NODE, 0, arg);
  m->node.now_us = mw_clock_wall_us();
  m->cb.registered = cb;
  return submit(client_of(base), m);
}

int mw_sqlite_claim(mw_store_client *base, int64_t now_us, int limit, mw_claim_cb cb, void *arg) {
  int code = mw_sqlite_check_writable(client_of(base));
  if (code) return code;
  mw_sqlite_member *m = new_member(client_of(base), MW_SQLITE_CLAIM, 0, arg);
  m->claim.now_us = now_us;
  m->claim.limit = limit;
  m->claim.list = NULL;
  m->claim.count = 0;
  m->claim.next_due_us = INT64_MAX;
  mw_arena_init(&m->claim.arena);
  m->cb.claimed = cb;
  return submit(client_of(base), m);
}

int mw_sqlite_put_code(mw_store_client *base, const mw_code *list, size_t count, mw_write_cb cb, void *arg) {
  int code = mw_sqlite_check_writable(client_of(base));
  if (code) return code;
  size_t extra = count * sizeof *list;
  for (size_t i = 0; i < count; i++) extra += list[i].hash.len + list[i].text.len;
  mw_sqlite_member *m = new_member(client_of(base), MW_SQLITE_CODE, extra, arg);
  m->code.list = (mw_code *)(m + 1);
  m->code.count = count;
  m->code.now_us = mw_clock_wall_us();
  char *at = (char *)(m->code.list + count);
  for (size_t i = 0; i < count; i++) m->code.list[i] = (mw_code){mw_sqlite_pack(&at, list[i].hash), mw_sqlite_pack(&at, list[i].text)};
  m->cb.written = cb;
  return submit(client_of(base), m);
}

int mw_sqlite_add_change(mw_store_client *base, mw_str app, mw_str kind, mw_str subject, mw_str actor, mw_str detail,
                      mw_write_cb cb, void *arg) {
  int code = mw_sqlite_check_writable(client_of(base));
  if (code) return code;
  mw_sqlite_member *m = new_member(client_of(base), MW_SQLITE_CHANGE, app.len + kind.len + subject.len + actor.len + detail.len, arg);
  char *at = (char *)(m + 1);
  m->change.app = mw_sqlite_pack(&at, app);
  m->change.kind = mw_sqlite_pack(&at, kind);
  m->change.subject = mw_sqlite_pack(&at, subject);
  m->change.actor = mw_sqlite_pack(&at, actor);
  m->change.detail = mw_sqlite_pack(&at, detail);
  m->change.now_us = mw_clock_wall_us();
  m->cb.written = cb;
  return submit(client_of(base), m);
}
