// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include "loop/loop.h"
#include "store/pg_group.h"
#include "store/pg_writer.h"

// This process as an owner: its row in `nodes` with a lease by the database's clock, and claiming. A lease is
// renewed every third of it by whichever client comes first; a node whose lease is over, or that started again
// under its old id, is dead, and its executions can be claimed. What the fence protects is in pg_batch.c.

#define LINE_MIN 8     /* At least so many of a workflow and priority are looked at in a claim. */
#define AGAIN_US 50000 /* When something becomes due just now. */

// Not clock_timestamp, which is volatile and keeps an index from being used.
#define DB_NOW_US "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"

typedef void (*register_cb)(int status, const mw_err *err, void *arg);

struct mw_pg_node {
  mw_pg_writer *writer;
  mw_loop *loop;
  mw_pg_store *store;
  mw_pg_op op;
  mw_pg_binds binds;
  char id[MW_ID_TEXT];
  mw_timer timer; /**< Next renewal; while the op runs, its deadline. */
  bool running, closed;
  bool renewing; /**< The op is a renewal, else a registration. */
  int64_t sent_ms, sent_ns, epoch;
  register_cb cb;
  void *arg;
  char *add, *renew, *admit, *claim, *stop_dead, *next_due;
};

static int64_t renew_ms(const mw_pg_node *node) { return node->store->base.pg_lease_ms / 3; }

/** All nodes have the database's clock, as leases and what is due have. */
static void follow_clock(int64_t database_us, int64_t sent_ns) {
  int64_t moved_us = mw_clock_follow(database_us, sent_ns);
  if (moved_us)
    mw_log(MW_LOG_WARN, "store", "this machine's clock is not the database's, which counts from now on", MW_LOG_I("moved_ms", moved_us / 1000));
}

static void on_result(mw_pg_op *op, int stmt, const PGresult *result) {
  mw_pg_node *node = MW_CONTAINER(op, mw_pg_node, op);
  if (PQntuples(result) != 1) return;
  node->epoch = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
  if (PQnfields(result) > 1) follow_clock(strtoll(PQgetvalue(result, 0, 1), NULL, 10), node->sent_ns);
}

static void answer_register(mw_pg_node *node, int status, const mw_err *err) {
  register_cb cb = node->cb;
  node->cb = NULL;
  if (cb) cb(status, status ? err : NULL, node->arg);
}

static void take_lease(mw_pg_node *node) {
  atomic_store(&node->store->base.epoch, node->epoch);
  atomic_store(&node->store->base.lease_until_ms, node->sent_ms + node->store->base.pg_lease_ms * 2 / 3);
  mw_timer_start(node->loop, &node->timer, renew_ms(node));
}

static void on_done(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  mw_pg_node *node = MW_CONTAINER(op, mw_pg_node, op);
  node->running = false;
  mw_timer_stop(&node->timer);
  if (node->closed) return;
  if (status == 0) {
    take_lease(node);
    mw_pg_writer_become_up(node->writer);
    if (!node->renewing) answer_register(node, 0, NULL);
    return;
  }
  if (status == MW_EUNAVAILABLE || status == MW_ECANCELED)
    return; // With the connection; it begins again with the next one.
  mw_log(MW_LOG_WARN, "store",
         node->renewing ? "the node's lease could not be renewed" : "the node could not be registered",
         MW_LOG_S("reason", err ? err->text : ""));
  if (node->renewing) {
    mw_pg_writer_reject(node->writer, err);
  } else {
    mw_pg_writer_become_up(node->writer);
    answer_register(node, status, err);
  }
}

static void run(mw_pg_node *node, mw_pg_conn *conn, bool renewing) {
  mw_store *store = &node->store->base;
  node->running = true;
  node->renewing = renewing;
  node->epoch = 0;
  node->sent_ns = mw_clock_mono_ns();
  node->sent_ms = node->sent_ns / 1000000;
  atomic_store(&node->store->renewed_ms, node->sent_ms);
  mw_pg_op_init(&node->op);
  node->op.on_result = on_result;
  node->op.on_done = on_done;
  mw_id_format(&store->node_id, node->id);
  node->binds.count = 0;
  mw_pg_bind_text(&node->binds, node->id);
  mw_pg_bind_text(&node->binds, store->node_name);
  mw_pg_bind_i64(&node->binds, store->pg_lease_ms * 1000);
  if (renewing) mw_pg_bind_i64(&node->binds, atomic_load(&store->epoch));
  node->op.stmts[0] = (mw_pg_stmt){
      .sql = renewing ? node->renew : node->add, .params = mw_pg_binds_params(&node->binds), .prepare = true};
  node->op.nstmts = 1;
  mw_timer_start(node->loop, &node->timer, store->pg_lease_ms / 2);
  mw_pg_conn_run(conn, &node->op);
}

/** The op has no answer. What stands before it gets as long as a lease; then nobody is at the other end, and without a lease
 * this node may do nothing with what would still come. */
static void give_up_waiting(mw_pg_node *node) {
  int64_t left_ms = node->store->base.pg_lease_ms - (mw_clock_mono_ms() - node->sent_ms);
  if (mw_pg_conn_is_front(&node->op)) {
    mw_pg_conn_cancel(&node->op);
  } else if (left_ms > 0) {
    mw_timer_start(node->loop, &node->timer, left_ms);
  } else {
    mw_err err = {0};
    mw_err_set(&err, MW_EUNAVAILABLE, "PostgreSQL: it does not answer");
    mw_pg_writer_reject(node->writer, &err);
  }
}

static void on_timer(mw_timer *timer, void *arg) {
  mw_pg_node *node = arg;
  if (node->running) {
    give_up_waiting(node);
    return;
  }
  mw_pg_conn *conn = mw_pg_writer_conn(node->writer);
  if (!conn) return; // Renewed when it comes back.
  if (atomic_load(&node->store->base.epoch) == 0) {
    mw_timer_start(node->loop, timer, renew_ms(node));
    return;
  }
  int64_t renewed_ms = atomic_load(&node->store->renewed_ms);
  int64_t due_ms = renewed_ms + renew_ms(node) - mw_clock_mono_ms();
  if (due_ms <= 0 && atomic_compare_exchange_strong(&node->store->renewed_ms, &renewed_ms, mw_clock_mono_ms()))
    run(node, conn, true);
  else
    mw_timer_start(node->loop, &node->timer, due_ms > 0 ? due_ms : renew_ms(node));
}

bool mw_pg_node_on_conn(mw_pg_node *node, mw_pg_conn *conn) {
  bool registered = atomic_load(&node->store->base.epoch) != 0;
  if (!registered && !node->cb) {
    mw_timer_start(node->loop, &node->timer, renew_ms(node)); // another client may register; then this one watches over the lease, too
    return false;
  }
  run(node, conn, registered);
  return true;
}

/** The connection has gone; the timer is started again with the next one. */
void mw_pg_node_cancel(mw_pg_node *node) { mw_timer_stop(&node->timer); }

int mw_pg_register_node(mw_store_client *base, register_cb cb, void *arg) {
  mw_pg_client *client = (mw_pg_client *)base;
  mw_pg_node *node = mw_pg_writer_node(client->writer);
  if (node->cb || atomic_load(&node->store->base.epoch)) return MW_EEXISTS;
  node->cb = cb;
  node->arg = arg;
  mw_pg_conn *conn = mw_pg_writer_conn(client->writer);
  if (conn && !node->running) run(node, conn, false);
  return 0;
}

/* ---- claiming ---- */

enum { CLAIM_NO_JIT, CLAIM_ADMIT, CLAIM_TAKE, CLAIM_STOP_DEAD, CLAIM_NEXT_DUE, CLAIM_STATEMENTS };

// For this transaction. The planner takes the lines for many more than there are, and would compile for a second what runs for some ms.
static const char no_jit_sql[] = "SELECT set_config('jit', 'off', true)";

static mw_str cell(mw_pg_job *job, const PGresult *result, int row, int column) {
  return mw_arena_str(&job->arena, mw_str_of(PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)));
}

static void on_claimed(mw_pg_op *op, int stmt, const PGresult *result) {
  mw_pg_job *job = MW_CONTAINER(op, mw_pg_job, op);
  if (stmt == CLAIM_NEXT_DUE) {
    bool known = PQntuples(result) == 1 && !PQgetisnull(result, 0, 0);
    job->number = INT64_MAX;
    if (known) job->number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    return;
  }
  if (stmt != CLAIM_TAKE) return;
  int rows = PQntuples(result);
  mw_claimed *list = mw_arena_calloc(&job->arena, (size_t)(rows ? rows : 1) * sizeof *list);
  for (int row = 0; row < rows; row++) {
    mw_claimed *c = &list[job->count];
    if (!mw_id_parse(mw_str_from(PQgetvalue(result, row, 0)), &c->id)) continue;
    c->fence = strtoll(PQgetvalue(result, row, 1), NULL, 10);
    c->created_us = strtoll(PQgetvalue(result, row, 2), NULL, 10);
    c->api_level = atoi(PQgetvalue(result, row, 3));
    c->interrupted = PQgetvalue(result, row, 4)[0] == 't';
    c->control = atoi(PQgetvalue(result, row, 10));
    c->priority = atoi(PQgetvalue(result, row, 11));
    c->has_parent = mw_id_parse(mw_str_from(PQgetvalue(result, row, 12)), &c->parent);
    mw_str *texts[] = {&c->app, &c->workflow, &c->input, &c->bundle, &c->seed};
    for (int i = 0; i < 5; i++) *texts[i] = cell(job, result, row, 5 + i);
    mw_str *more[] = {&c->group, &c->parent_key, &c->tags, &c->state};
    for (int i = 0; i < 4; i++) *more[i] = cell(job, result, row, 13 + i);
    job->count++;
  }
  job->data = list;
}

static void answer_claim(mw_pg_job *job, int status, const mw_err *err) {
  // Sent, and nobody knows whether it happened: what it took would belong to this node and be run by nobody.
  if (status == MW_EUNAVAILABLE && job->op.was_sent) mw_pg_groups_note_claim(mw_pg_writer_groups(job->writer), job->token);
  mw_err lost = {0};
  bool cut = status == 0 && job->count > 0 && MW_FAULT(pg_claim);
  if (cut) {
    mw_pg_groups_note_claim(mw_pg_writer_groups(job->writer), job->token);
    status = mw_err_set(&lost, MW_EUNAVAILABLE, "PostgreSQL: the connection was closed");
    err = &lost;
  }
  int64_t next_us = job->number;
  if ((int64_t)job->count >= (job->limit < LINE_MIN ? job->limit : LINE_MIN)) next_us = mw_clock_wall_us(); // there may be more
  if (next_us != INT64_MAX && job->count == 0) {
    // Not again at once.
    int64_t soonest_us = mw_clock_wall_us() + AGAIN_US;
    if (next_us < soonest_us) next_us = soonest_us;
  }
  ((mw_claim_cb)job->cb)(status, status ? NULL : job->data, status ? 0 : job->count,
                         status ? INT64_MAX : next_us, status ? err : NULL, job->arg);
  if (cut) mw_pg_writer_reject(job->writer, &lost);
}

int mw_pg_claim(mw_store_client *base, int64_t now_us, int limit, mw_claim_cb cb, void *arg) {
  mw_pg_client *client = (mw_pg_client *)base;
  mw_pg_node *node = mw_pg_writer_node(client->writer);
  int64_t epoch = atomic_load(&base->store->epoch);
  if (epoch == 0) return MW_EUNAVAILABLE;
  mw_pg_job *job = mw_pg_job_new(client->writer, answer_claim);
  job->cb = (void (*)(void))cb;
  job->arg = arg;
  job->number = INT64_MAX;
  char id[MW_ID_TEXT];
  mw_id_format(&base->store->node_id, id);
  const char *id_text = mw_arena_strndup(&job->arena, id, strlen(id));
  mw_pg_bind_i64(&job->binds, epoch);
  mw_pg_bind_text(&job->binds, id_text);
  mw_pg_params who = mw_pg_binds_params(&job->binds);
  mw_pg_bind_i64(&job->binds, limit);
  mw_pg_bind_i64(&job->binds, mw_clock_shifted_us()); // specs travel in time, and the database with them
  job->token = (int64_t)(mw_rand_u64() >> 2) + 1;
  job->limit = limit;
  mw_pg_bind_i64(&job->binds, job->token);
  mw_pg_binds *now = mw_arena_calloc(&job->arena, sizeof *now);
  mw_pg_bind_i64(now, mw_clock_shifted_us());
  job->op.stmts[CLAIM_NO_JIT] = (mw_pg_stmt){.sql = no_jit_sql, .prepare = true};
  job->op.stmts[CLAIM_ADMIT] = (mw_pg_stmt){.sql = node->admit, .params = mw_pg_binds_params(now), .prepare = true};
  job->op.stmts[CLAIM_TAKE] = (mw_pg_stmt){.sql = node->claim, .params = mw_pg_binds_params(&job->binds), .prepare = true};
  job->op.stmts[CLAIM_STOP_DEAD] = (mw_pg_stmt){.sql = node->stop_dead, .params = who, .prepare = true};
  job->op.stmts[CLAIM_NEXT_DUE] = (mw_pg_stmt){.sql = node->next_due, .params = mw_pg_binds_params(now), .prepare = true};
  job->op.nstmts = CLAIM_STATEMENTS;
  job->op.on_result = on_claimed;
  mw_pg_job_run(job);
  return 0;
}

/* ---- life ---- */

#define S "{{schema}}."
#define LEASE_END DB_NOW_US " + $3::bigint"
#define DEAD                                                                                                   \
  "stopped_us IS NULL AND epoch <> $1::bigint"                                                                 \
  " AND (node_id = $2::uuid OR lease_until_us IS NULL OR lease_until_us < " DB_NOW_US ")"

static const char add_sql[] =
    "INSERT INTO " S "nodes (node_id, name, started_us, lease_until_us)"
    " VALUES ($1::uuid, $2::text, " DB_NOW_US ", " LEASE_END ") RETURNING epoch, " DB_NOW_US;

// Its row may have been marked as stopped while it was away, or be gone with a restored backup: it lives under its epoch
// all the same.
static const char renew_sql[] =
    "INSERT INTO " S "nodes AS n (epoch, node_id, name, started_us, lease_until_us) OVERRIDING SYSTEM VALUE"
    " VALUES ($4::bigint, $1::uuid, $2::text, " DB_NOW_US ", " LEASE_END ")"
    " ON CONFLICT (epoch) DO UPDATE SET lease_until_us = excluded.lease_until_us, stopped_us = NULL"
    " RETURNING n.epoch, " DB_NOW_US;

// The time of a run of a group has come: the trigger gives it a slot or leaves it in the line.
static const char admit_sql[] =
    "WITH due AS MATERIALIZED (SELECT id, app, workflow, group_key FROM " S "executions"
    " WHERE status IN (1, 3) AND group_key IS NOT NULL AND slot = 0 AND due_us <= " DB_NOW_US " + $1::bigint"
    " ORDER BY due_us LIMIT 1000 FOR UPDATE SKIP LOCKED), "
    // In the order in which groups of writes lock them.
    "groups AS MATERIALIZED (SELECT g.app FROM " S "workflow_groups g"
    " WHERE (g.app, g.workflow, g.group_key) IN (SELECT app, workflow, group_key FROM due)"
    " ORDER BY g.group_key, g.workflow, g.app FOR UPDATE) "
    "UPDATE " S "executions SET status = 6 WHERE status IN (1, 3) AND id IN (SELECT id FROM due)"
    " AND (SELECT count(*) FROM groups) >= 0";

// A claim marks what it takes with its token, in the due time that a running execution has no use for, so that a claim whose
// answer never came can be undone (pg_group.h).
//
// `lines` are the pairs of workflow and priority in the index of what may become due, each found from the one before it, so that a claim
// costs what it takes and the lines that there are, however many runs sleep. What is due longest of each is locked, and of each workflow
// the same number taken. A workflow that is paused in every app is passed by, so that what piles up in it is not read.
#define READY "SELECT workflow, priority FROM " S "executions WHERE status IN (1, 3, 4)"
#define UNPAUSED                                                                                               \
  "NOT EXISTS (SELECT 1 FROM " S "workflow_pauses p WHERE p.app = e.app AND p.workflow IN (e.workflow, '*'))"
#define HAS_SLOT "(e.group_key IS NULL OR e.slot = 1)"

static const char claim_sql[] =
    "WITH RECURSIVE dead AS MATERIALIZED (SELECT epoch FROM " S "nodes WHERE " DEAD "), "
    "orphans AS ("
    "SELECT id, due_us FROM " S "executions WHERE (SELECT count(*) FROM dead) > 0 AND status = 2"
    " AND owner IN (SELECT epoch FROM dead) LIMIT $3::bigint FOR UPDATE SKIP LOCKED), "
    "lines AS ("
    "(" READY " ORDER BY workflow, priority DESC LIMIT 1) UNION ALL "
    "SELECT n.workflow, n.priority FROM lines l CROSS JOIN LATERAL (SELECT u.workflow, u.priority FROM ("
    "(" READY " AND workflow = l.workflow AND priority < l.priority ORDER BY priority DESC LIMIT 1) UNION ALL "
    "(" READY " AND workflow > l.workflow ORDER BY workflow, priority DESC LIMIT 1)) u"
    " ORDER BY u.workflow, u.priority DESC LIMIT 1) n), "
    "live AS MATERIALIZED (SELECT workflow, priority FROM lines l WHERE EXISTS (SELECT 1 FROM " S "apps a WHERE NOT EXISTS ("
    "SELECT 1 FROM " S "workflow_pauses p WHERE p.app = a.name AND p.workflow IN (l.workflow, '*')))), "
    "due AS MATERIALIZED ("
    "SELECT d.id, d.due_us, l.workflow, l.priority + greatest(0, (" DB_NOW_US " + $4::bigint - d.due_us) / 60000000) AS rank"
    " FROM live l CROSS JOIN LATERAL (SELECT e.id, e.due_us FROM " S "executions e WHERE e.status IN (1, 3, 4)"
    " AND e.workflow = l.workflow AND e.priority = l.priority AND e.due_us <= " DB_NOW_US " + $4::bigint"
    " AND e.control < 2 AND " HAS_SLOT " AND " UNPAUSED " ORDER BY e.due_us, e.id"
    " LIMIT least($3::bigint, greatest(8, 2 * $3::bigint / (SELECT count(*) FROM live))) FOR UPDATE OF e SKIP LOCKED) d), "
    "shares AS ("
    "SELECT id, due_us, rank, row_number() OVER (PARTITION BY workflow ORDER BY rank DESC, due_us, id) AS place FROM due), "
    // What an operator cancelled is undone also while its workflow is paused; all of it has the share of one more workflow.
    "cancelled AS MATERIALIZED ("
    "SELECT e.id, e.due_us FROM " S "executions e WHERE e.control >= 2 AND e.status IN (1, 3, 4)"
    " AND e.due_us <= " DB_NOW_US " + $4::bigint AND " HAS_SLOT " ORDER BY e.due_us, e.id"
    " LIMIT $3::bigint FOR UPDATE OF e SKIP LOCKED), "
    // Queued by a node whose clock is ahead, or before the database's was set back: what waits for no time is always due.
    "early AS ("
    "SELECT e.id, e.due_us FROM " S "executions e WHERE e.id IN (SELECT id FROM " S "executions WHERE status = 1"
    " ORDER BY id DESC LIMIT 1000) AND e.status = 1 AND e.due_us + 0 > " DB_NOW_US " + $4::bigint"
    " AND e.control < 2 AND " HAS_SLOT " AND " UNPAUSED " ORDER BY e.id LIMIT $3::bigint FOR UPDATE OF e SKIP LOCKED), "
    "picked AS ("
    "SELECT id, due_us, 0 AS kind, 0::bigint AS place, 0::bigint AS rank FROM orphans"
    " UNION ALL SELECT id, due_us, 1, place, rank FROM shares"
    " UNION ALL SELECT id, due_us, 1, row_number() OVER (ORDER BY due_us, id), 0 FROM cancelled"
    " UNION ALL SELECT id, due_us, 2, 0, 0 FROM early ORDER BY kind, place, rank DESC, due_us, id LIMIT $3::bigint), "
    "taken AS ("
    "UPDATE " S "executions e SET owner = $1::bigint, fence = e.fence + 1, status = 2, due_us = -$5::bigint,"
    " started_us = coalesce(e.started_us, " DB_NOW_US " + $4::bigint)"
    " FROM picked p WHERE e.id = p.id"
    " RETURNING e.*, p.kind, p.due_us AS was_due_us) "
    "SELECT id, fence, created_us, api_level, kind = 0, app, workflow, input, bundle, seed, control, priority, parent,"
    " group_key, parent_key, tags, state FROM taken ORDER BY was_due_us, id";

static const char stop_dead_sql[] =
    "UPDATE " S "nodes n SET stopped_us = " DB_NOW_US " WHERE " DEAD
    " AND NOT EXISTS (SELECT 1 FROM " S "executions e WHERE e.status = 2 AND e.owner = n.epoch)";

static const char next_due_sql[] =
    "SELECT due_us FROM " S "executions WHERE status IN (1, 3, 4) AND due_us > " DB_NOW_US " + $1::bigint"
    " ORDER BY due_us LIMIT 1";

mw_pg_node *mw_pg_node_new(mw_pg_writer *writer) {
  mw_pg_node *node = MW_NEW(mw_pg_node);
  mw_pg_client *client = mw_pg_writer_client(writer);
  node->writer = writer;
  node->loop = client->base.loop;
  node->store = mw_pg_store_of(client);
  mw_timer_init(&node->timer, on_timer, node);
  mw_pg_op_init(&node->op);
  node->add = mw_pg_writer_sql(writer, add_sql);
  node->renew = mw_pg_writer_sql(writer, renew_sql);
  node->admit = mw_pg_writer_sql(writer, admit_sql);
  node->claim = mw_pg_writer_sql(writer, claim_sql);
  node->stop_dead = mw_pg_writer_sql(writer, stop_dead_sql);
  node->next_due = mw_pg_writer_sql(writer, next_due_sql);
  return node;
}

void mw_pg_node_close(mw_pg_node *node, const mw_err *err) {
  node->closed = true;
  mw_timer_stop(&node->timer);
  answer_register(node, MW_ECANCELED, err);
}

void mw_pg_node_free(mw_pg_node *node) {
  char *all[] = {node->add, node->renew, node->admit, node->claim, node->stop_dead, node->next_due};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) mw_free(all[i]);
  mw_free(node);
}
