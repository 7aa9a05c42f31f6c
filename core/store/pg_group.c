// SPDX-License-Identifier: MIT
#include "store/pg_group.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "loop/loop.h"
#include "store/pg_batch.h"
#include "store/pg_writer.h"

#define GROUP_MEMBERS 512
#define GROUP_BYTES ((size_t)4 << 20)
#define GROUP_MS 30000      /* Then it is cancelled in the server. */
#define CREATE_WAIT_MS 2000 /* Back pressure: a create is refused when the oldest has waited this long, */
#define CREATE_BYTES ((size_t)64 << 20) /* or so much is queued. */
#define PATIENCE_MS 60000
#define TRIES_MAX 3     /* Of a group that another transaction was in the way of. */
#define UNSURE_MS 60000 /* How long creates and claims of unknown outcome are looked after. */
#define TICK_MS 1000

typedef struct group {
  mw_list node;
  mw_pg_member **members; /**< In the order of their ids. */
  int count, tries;
} group;

typedef struct lane {
  mw_pg_groups *groups;
  mw_write_kind kind;
  mw_list pending;
  size_t pending_bytes;
  mw_list parts; /**< Groups to run before anything pending: halves of a failed one. */
  group *flight;
  bool checking; /**< `flight` asks which of its missing members are there already. */
  mw_pg_op op;
  mw_pg_batch batch;
  mw_timer timer; /**< The group takes too long, or is tried again after a while. */
} lane;

typedef struct unsure {
  mw_list node;
  mw_id id;
  int64_t token; /**< Of a claim; 0: `id` is a create. */
  int64_t until_ms;
} unsure;

struct mw_pg_groups {
  mw_pg_writer *writer;
  mw_loop *loop;
  mw_store *store;
  lane lanes[2];
  mw_list refused; /**< Creates to answer in this turn. */

  mw_list unsure;
  mw_timer tick;
  mw_pg_batch_sql sql;
  uint64_t sequence;
  mw_err why;
  bool deferred, closed;
  int refs;
};

static void pump(lane *l);

/* ---- members and groups ---- */

static void answer(mw_pg_member *m, int status, const mw_id *existing, const mw_err *err) {
  if (m->more.control) *m->more.control = m->control;
  m->cb(status, existing, status ? err : NULL, m->arg);
  mw_free(m);
}

static void answer_with(mw_pg_member *m, int status, const char *text) {
  mw_err err = {0};
  mw_err_set(&err, status, "%s", text);
  answer(m, status, NULL, &err);
}

static group *make_group(mw_pg_member **members, int count) {
  group *g = MW_NEW(group);
  mw_list_init(&g->node);
  g->members = mw_alloc((size_t)count * sizeof *g->members);
  if (members) memcpy(g->members, members, (size_t)count * sizeof *g->members);
  g->count = members ? count : 0;
  return g;
}

static void free_group(group *g) {
  mw_list_remove(&g->node);
  mw_free(g->members);
  mw_free(g);
}

static int by_id(const void *a, const void *b) {
  const mw_pg_member *x = *(mw_pg_member *const *)a, *y = *(mw_pg_member *const *)b;
  int order = memcmp(x->w.id.bytes, y->w.id.bytes, sizeof x->w.id.bytes);
  if (order) return order;
  return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void put_back(lane *l, mw_pg_member *m) {
  mw_list_unshift(&l->pending, &m->node);
  l->pending_bytes += m->bytes;
}

/** Takes what is pending, up to the bounds. What must not share a group (the same execution, or creates with
 * the same name) stays for the next one. */
static group *take_group(lane *l) {
  group *g = make_group(NULL, GROUP_MEMBERS);
  size_t bytes = 0;
  while (g->count < GROUP_MEMBERS && bytes < GROUP_BYTES && !mw_list_is_empty(&l->pending)) {
    mw_pg_member *m = MW_LIST_POP(&l->pending, mw_pg_member, node);
    l->pending_bytes -= m->bytes;
    bytes += m->bytes;
    g->members[g->count++] = m;
  }
  qsort(g->members, (size_t)g->count, sizeof *g->members, by_id);
  int kept = 0;
  mw_pg_names names;
  mw_pg_names_init(&names);
  mw_list later;
  mw_list_init(&later);
  for (int i = 0; i < g->count; i++) {
    mw_pg_member *m = g->members[i];
    bool same = kept && memcmp(g->members[kept - 1]->w.id.bytes, m->w.id.bytes, sizeof m->w.id.bytes) == 0;
    if (same || (l->kind == MW_WRITE_CREATE && !mw_pg_names_add(&names, &m->w)))
      mw_list_push(&later, &m->node);
    else
      g->members[kept++] = m;
  }
  g->count = kept;
  mw_pg_names_deinit(&names);
  for (mw_list *node; (node = later.prev) != &later;) {
    mw_list_remove(node);
    put_back(l, MW_CONTAINER(node, mw_pg_member, node));
  }
  return g;
}

/** Puts the members of a group back in front of the queue. */
static void requeue(lane *l, group *g) {
  for (int i = g->count - 1; i >= 0; i--) put_back(l, g->members[i]);
  free_group(g);
}

static unsure *add_unsure(mw_pg_groups *groups) {
  unsure *u = MW_NEW(unsure);
  u->until_ms = mw_clock_mono_ms() + UNSURE_MS;
  mw_list_push(&groups->unsure, &u->node);
  return u;
}

static void note_unsure(mw_pg_groups *groups, const mw_pg_member *m) {
  if (m->w.status == MW_STATUS_RUNNING) add_unsure(groups)->id = m->w.id;
}

/* ---- running a group ---- */

static void end_flight(lane *l) {
  free_group(l->flight);
  l->flight = NULL;
  pump(l);
}

static void on_done(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err);
static void on_result(mw_pg_op *op, int stmt, const PGresult *result);

static void clear_op(lane *l) {
  mw_pg_op_init(&l->op);
  l->op.once = true; // A group that fails is sent again from here, in its turn.
  l->op.on_result = on_result;
  l->op.on_done = on_done;
}

static void send_group(lane *l) {
  mw_pg_conn *conn = mw_pg_writer_conn(l->groups->writer);
  if (!conn) { // lost since it was asked for: with the next one
    requeue(l, l->flight);
    l->flight = NULL;
    return;
  }
  clear_op(l);
  l->checking = false;
  for (int i = 0; i < l->flight->count; i++) l->flight->members[i]->outcome = MW_ESTALE;
  mw_pg_batch_fill(&l->batch, l->kind, &l->groups->sql, atomic_load(&l->groups->store->epoch),
                   l->flight->members, l->flight->count, &l->op);
  mw_timer_start(l->groups->loop, &l->timer, GROUP_MS);
  mw_pg_conn_run(conn, &l->op);
}

/** Asks for the appends that did not come back: is the very row there, from an earlier try? */
static bool check_missing(lane *l) {
  group *g = l->flight;
  if (l->kind != MW_WRITE_APPEND || l->checking) return false;
  int missing = 0;
  for (int i = 0; i < g->count; i++) {
    mw_pg_member *m = g->members[i];
    if (m->outcome == MW_ESTALE)
      g->members[missing++] = m;
    else
      answer(m, m->outcome, NULL, NULL);
  }
  g->count = missing;
  mw_pg_conn *conn = mw_pg_writer_conn(l->groups->writer);
  if (missing == 0) return false;
  if (!conn || l->groups->closed) {
    requeue(l, g);
    l->flight = NULL;
    return true;
  }
  l->checking = true;
  clear_op(l);
  mw_pg_batch_fill_check(&l->batch, &l->groups->sql, g->members, g->count, &l->op);
  mw_timer_start(l->groups->loop, &l->timer, GROUP_MS);
  mw_pg_conn_run(conn, &l->op);
  return true;
}

static void finish_group(lane *l) {
  if (check_missing(l)) return;
  group *g = l->flight;
  for (int i = 0; i < g->count; i++) {
    mw_pg_member *m = g->members[i];
    if (m->outcome == 0)
      answer(m, 0, NULL, NULL);
    else if (m->outcome == MW_EEXISTS)
      answer(m, MW_EEXISTS, &m->existing, NULL);
    else if (m->outcome == MW_ECONFLICT)
      answer(m, MW_ECONFLICT, &m->existing, NULL);
    else if (l->kind == MW_WRITE_CREATE && m->more.own_id)
      answer(m, MW_EEXISTS, &m->w.id, NULL);
    else if (l->kind == MW_WRITE_CREATE)
      answer_with(m, MW_ECONFLICT, "an execution with this id is there already");
    else
      answer_with(m, MW_ESTALE, "another owner has taken the execution over");
  }
  g->count = 0;
  end_flight(l);
}

static void split(lane *l) {
  group *g = l->flight;
  int half = g->count / 2;
  mw_list_unshift(&l->parts, &make_group(g->members + half, g->count - half)->node);
  mw_list_unshift(&l->parts, &make_group(g->members, half)->node);
  end_flight(l);
}

/** The database's trouble and none of a member's: no room, shutting down, read-only after a fail-over, a crash
 * of ours or its own. */
static bool is_trouble(int status, const char *sqlstate) {
  return status == MW_ETIMEOUT || strncmp(sqlstate, "53", 2) == 0 || strncmp(sqlstate, "57", 2) == 0 ||
         strncmp(sqlstate, "58", 2) == 0 || strncmp(sqlstate, "XX", 2) == 0 || strcmp(sqlstate, "25006") == 0;
}

/** A prepared statement was gone or outdated; sent again it is prepared anew. */
static bool is_plan_lost(const char *sqlstate) {
  return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0 || strcmp(sqlstate, "0A000") == 0;
}

/** Creates are answered; appends wait for their patience and go again. */
static void give_up(lane *l, bool unknown, const mw_err *err) {
  group *g = l->flight;
  l->flight = NULL;
  if (l->kind == MW_WRITE_APPEND) {
    requeue(l, g);
    return;
  }
  for (int i = 0; i < g->count; i++) {
    if (unknown) note_unsure(l->groups, g->members[i]);
    answer(g->members[i], err->code, NULL, err);
  }
  free_group(g);
}

static void arm_tick(mw_pg_groups *groups);

static void on_done(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  lane *l = MW_CONTAINER(op, lane, op);
  mw_timer_stop(&l->timer);
  group *g = l->flight;
  mw_err own = err ? *err : (mw_err){0};
  bool cut = status == 0 && MW_FAULT(pg_commit);
  if (cut) status = mw_err_set(&own, MW_EUNAVAILABLE, "PostgreSQL: the connection was closed");
  if (status == 0) {
    finish_group(l);
  } else if (status == MW_EUNAVAILABLE || status == MW_ECANCELED) {
    give_up(l, op->was_sent, &own);
    if (!l->groups->closed) arm_tick(l->groups);
    if (cut) mw_pg_writer_reject(l->groups->writer, &own);
  } else if (is_trouble(status, sqlstate)) {
    mw_log(MW_LOG_WARN, "store", "PostgreSQL could not commit a group", MW_LOG_S("reason", own.text));
    own.code = MW_EUNAVAILABLE;
    give_up(l, false, &own);
    mw_timer_start(l->groups->loop, &l->timer, TICK_MS);
    arm_tick(l->groups);
    // After a fail-over this may be a standby now; another host of the URL, or the same one later, takes
    // writes.
    if (strcmp(sqlstate, "25006") == 0) mw_pg_writer_reject(l->groups->writer, &own);
  } else if ((status == MW_ESERIALIZE || is_plan_lost(sqlstate)) && ++g->tries < TRIES_MAX) {
    send_group(l);
  } else if (g->count > 1) {
    split(l);
  } else {
    g->count = 0;
    answer(g->members[0], status, NULL, &own);
    end_flight(l);
  }
}

static void on_result(mw_pg_op *op, int stmt, const PGresult *result) {
  lane *l = MW_CONTAINER(op, lane, op);
  if (l->checking)
    mw_pg_batch_take_check(l->flight->members, l->flight->count, result);
  else
    mw_pg_batch_take(l->kind, &l->batch, stmt, l->flight->members, l->flight->count, result);
}

static void on_lane_timer(mw_timer *timer, void *arg) {
  lane *l = arg;
  if (l->flight)
    mw_pg_conn_cancel(&l->op);
  else
    pump(l);
}

/** A create that this node would own is not sent once the node has no lease: nobody would look after it. */
static bool refuse_unowned(lane *l, group *g) {
  if (l->kind != MW_WRITE_CREATE || mw_clock_mono_ms() < atomic_load(&l->groups->store->lease_until_ms))
    return false;
  int kept = 0;
  for (int i = 0; i < g->count; i++) {
    mw_pg_member *m = g->members[i];
    if (m->w.status == MW_STATUS_RUNNING)
      answer_with(m, MW_EUNAVAILABLE, "this node's lease on the database has run out");
    else
      g->members[kept++] = m;
  }
  g->count = kept;
  return kept == 0;
}

static void pump(lane *l) {
  while (!l->flight && !mw_timer_is_armed(&l->timer) && mw_pg_writer_conn(l->groups->writer) &&
         !l->groups->closed) {
    group *g = MW_LIST_POP(&l->parts, group, node);
    if (!g && mw_list_is_empty(&l->pending)) return;
    if (!g) g = take_group(l);
    if (refuse_unowned(l, g)) {
      free_group(g);
      continue;
    }
    l->flight = g;
    send_group(l);
  }
}

/* ---- creates and claims whose outcome is unknown ---- */

static void answer_unsure(mw_pg_job *job, int status, const mw_err *err) {
  if (status && status != MW_ECANCELED) {
    mw_log(MW_LOG_WARN, "store", "executions of unknown outcome could not be put up for claiming",
           MW_LOG_S("reason", err ? err->text : ""));
  }
}

static mw_pg_job *new_release(mw_pg_groups *groups, uint32_t oid) {
  mw_pg_job *job = mw_pg_job_new(groups->writer, answer_unsure);
  mw_pg_array_init(&job->arrays[0], oid);
  return job;
}

static void run_release(mw_pg_groups *groups, mw_pg_job *job, const char *sql) {
  if (!job) return;
  mw_pg_bind_array(&job->binds, &job->arrays[0]);
  mw_pg_bind_i64(&job->binds, atomic_load(&groups->store->epoch));
  mw_pg_bind_i64(&job->binds, mw_clock_wall_us());
  job->op.stmts[0] = (mw_pg_stmt){.sql = sql, .params = mw_pg_binds_params(&job->binds), .prepare = true};
  job->op.nstmts = 1;
  mw_pg_job_run(job);
}

static void release_unsure(mw_pg_groups *groups) {
  if (mw_list_is_empty(&groups->unsure) || !mw_pg_writer_is_up(groups->writer)) return;
  mw_pg_job *ids = NULL, *claims = NULL;
  int64_t now_ms = mw_clock_mono_ms();
  MW_LIST_EACH(&groups->unsure, node) {
    unsure *u = MW_CONTAINER(node, unsure, node);
    mw_pg_job **job = u->token ? &claims : &ids;
    if (!*job) *job = new_release(groups, u->token ? MW_PG_INT8 : MW_PG_UUID);
    if (u->token) mw_pg_array_add_i64(&claims->arrays[0], -u->token);
    else mw_pg_array_add_id(&ids->arrays[0], &u->id);
    if (now_ms < u->until_ms) continue;
    mw_list_remove(&u->node);
    mw_free(u);
  }
  run_release(groups, ids, groups->sql.release);
  run_release(groups, claims, groups->sql.release_claims);
}

void mw_pg_groups_note_claim(mw_pg_groups *groups, int64_t token) {
  if (groups->closed) return;
  add_unsure(groups)->token = token;
  arm_tick(groups);
}

/* ---- waiting for the database ---- */

static void expire(lane *l) {
  int64_t now_ms = mw_clock_mono_ms();
  mw_list expired;
  mw_list_init(&expired);
  MW_LIST_EACH(&l->pending, node) {
    mw_pg_member *m = MW_CONTAINER(node, mw_pg_member, node);
    if (m->until_ms > now_ms) continue;
    mw_list_remove(&m->node);
    l->pending_bytes -= m->bytes;
    mw_list_push(&expired, &m->node);
  }
  for (mw_pg_member *m; (m = MW_LIST_POP(&expired, mw_pg_member, node));)
    answer(m, MW_EUNAVAILABLE, NULL, &l->groups->why);
}

static void arm_tick(mw_pg_groups *groups) {
  bool waiting = !mw_list_is_empty(&groups->lanes[MW_WRITE_APPEND].pending) ||
                 !mw_list_is_empty(&groups->lanes[MW_WRITE_CREATE].pending);
  if ((waiting || !mw_list_is_empty(&groups->unsure)) && !mw_timer_is_armed(&groups->tick)) {
    mw_timer_start(groups->loop, &groups->tick, TICK_MS);
  }
}

static void on_tick(mw_timer *timer, void *arg) {
  mw_pg_groups *groups = arg;
  release_unsure(groups);
  if (!groups->lanes[MW_WRITE_APPEND].flight) expire(&groups->lanes[MW_WRITE_APPEND]);
  bool connected = mw_pg_writer_is_up(groups->writer), down = !mw_store_is_up(groups->store);
  if (connected && down) { // silence: what is under way may still be answered, what waits behind it is not kept waiting
    char text[300];
    mw_store_why_down(groups->store, text, sizeof text);
    mw_err_set(&groups->why, MW_EUNAVAILABLE, "%s", text);
  }
  if (!connected || down) expire(&groups->lanes[MW_WRITE_CREATE]);
  arm_tick(groups);
}

static void unref(mw_pg_groups *groups) {
  if (--groups->refs == 0) mw_free(groups);
}

static void on_turn_end(void *arg) {
  mw_pg_groups *groups = arg;
  groups->deferred = false;
  mw_list refused;
  mw_list_init(&refused);
  mw_list_splice(&refused, &groups->refused);
  for (mw_pg_member *m; (m = MW_LIST_POP(&refused, mw_pg_member, node));)
    answer(m, MW_EUNAVAILABLE, NULL, &groups->why);
  if (!groups->closed) pump(&groups->lanes[MW_WRITE_CREATE]);
  if (!groups->closed) pump(&groups->lanes[MW_WRITE_APPEND]);
  unref(groups);
}

static void pump_later(mw_pg_groups *groups) {
  if (groups->deferred) return;
  groups->deferred = true;
  groups->refs++;
  mw_loop_defer(groups->loop, on_turn_end, groups);
}

/* ---- public ---- */

int mw_pg_groups_write(mw_pg_groups *groups, const mw_write *write, mw_write_cb cb, void *arg) {
  lane *l = &groups->lanes[write->kind];
  bool create = write->kind == MW_WRITE_CREATE;
  int64_t now_ms = mw_clock_mono_ms();
  if (create && !mw_list_is_empty(&l->pending)) {
    const mw_pg_member *oldest = MW_CONTAINER(l->pending.next, mw_pg_member, node);
    if (l->pending_bytes > CREATE_BYTES || now_ms - oldest->queued_ms > CREATE_WAIT_MS) return MW_EBUSY;
  }
  mw_pg_member *m = mw_pg_member_new(write, cb, arg);
  m->sequence = ++groups->sequence;
  m->queued_ms = now_ms;
  m->until_ms = now_ms + (create ? CREATE_WAIT_MS : write->patience_ms ? write->patience_ms : PATIENCE_MS);
  bool up = mw_pg_writer_is_up(groups->writer);
  bool soon = up || mw_store_is_up(groups->store); // another worker's writer is: ours is only connecting
  if (create && (!soon || (write->status == MW_STATUS_RUNNING && atomic_load(&groups->store->epoch) == 0))) {
    if (soon) mw_err_set(&groups->why, MW_EUNAVAILABLE, "this node is not registered in the database yet");
    mw_list_push(&groups->refused, &m->node);
  } else {
    mw_list_push(&l->pending, &m->node);
    l->pending_bytes += m->bytes;
    arm_tick(groups);
  }
  pump_later(groups);
  return 0;
}

bool mw_pg_groups_are_idle(const mw_pg_groups *groups) {
  for (int i = 0; i < 2; i++) {
    const lane *l = &groups->lanes[i];
    if (l->flight || !mw_list_is_empty(&l->pending) || !mw_list_is_empty(&l->parts)) return false;
  }
  return true;
}

void mw_pg_groups_on_up(mw_pg_groups *groups) {
  release_unsure(groups);
  for (int i = 0; i < 2; i++) pump(&groups->lanes[i]);
}

void mw_pg_groups_on_down(mw_pg_groups *groups, const mw_err *err) {
  groups->why = *err;
  for (int i = 0; i < 2; i++) {
    lane *l = &groups->lanes[i];
    mw_timer_stop(&l->timer);
    for (mw_list *node; (node = l->parts.prev) != &l->parts;) requeue(l, MW_CONTAINER(node, group, node));
  }
  lane *l = &groups->lanes[MW_WRITE_CREATE];
  mw_list_splice(&groups->refused, &l->pending);
  l->pending_bytes = 0;
  pump_later(groups);
  arm_tick(groups);
}

mw_pg_groups *mw_pg_groups_new(mw_pg_writer *writer) {
  mw_pg_groups *groups = MW_NEW(mw_pg_groups);
  mw_pg_client *client = mw_pg_writer_client(writer);
  groups->writer = writer;
  groups->loop = client->base.loop;
  groups->store = client->base.store;
  groups->refs = 1;
  mw_err_set(&groups->why, MW_EUNAVAILABLE, "the database has not been reached yet");
  mw_list_init(&groups->refused);
  mw_list_init(&groups->unsure);
  mw_timer_init(&groups->tick, on_tick, groups);
  mw_pg_batch_sql_init(&groups->sql, writer);
  for (int i = 0; i < 2; i++) {
    lane *l = &groups->lanes[i];
    l->groups = groups;
    l->kind = (mw_write_kind)i;
    mw_list_init(&l->pending);
    mw_list_init(&l->parts);
    mw_pg_op_init(&l->op);
    mw_timer_init(&l->timer, on_lane_timer, l);
  }
  return groups;
}

void mw_pg_groups_free(mw_pg_groups *groups, const mw_err *err) {
  groups->closed = true;
  groups->why = *err;
  mw_timer_stop(&groups->tick);
  for (int i = 0; i < 2; i++) {
    lane *l = &groups->lanes[i];
    mw_timer_stop(&l->timer);
    while (!mw_list_is_empty(&l->parts)) requeue(l, MW_CONTAINER(l->parts.next, group, node));
    for (mw_pg_member *m; (m = MW_LIST_POP(&l->pending, mw_pg_member, node));)
      answer(m, MW_ECANCELED, NULL, err);
    mw_pg_batch_deinit(&l->batch);
  }
  for (mw_pg_member *m; (m = MW_LIST_POP(&groups->refused, mw_pg_member, node));)
    answer(m, MW_ECANCELED, NULL, err);
  for (unsure *u; (u = MW_LIST_POP(&groups->unsure, unsure, node));) mw_free(u);
  mw_pg_batch_sql_deinit(&groups->sql);
  unref(groups);
}
