// SPDX-License-Identifier: MIT
#include "store/pg_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "store/pg_group.h"
#include "store/pg_notice.h"

struct mw_pg_writer {
  mw_pg_client *client;
  mw_pg_conn *conn;
  mw_pg_groups *groups;
  mw_pg_node *node;
  mw_pg_notices *notices;
  mw_timer retry;
  int attempt;
  bool up, closed, told_down;
  mw_list jobs;
  char *put_code, *add_change;
};

#define JOB_MS 30000
#define JOB_WAIT_MS 2000 /* While this writer is connecting although another worker's is up. */

static void connect_now(mw_pg_writer *writer);
static void run_waiting_jobs(mw_pg_writer *writer);

/* ---- up and down ---- */

static void set_why(mw_pg_writer *writer, const mw_err *err) {
  mw_pg_store *store = mw_pg_store_of(writer->client);
  pthread_mutex_lock(&store->lock);
  snprintf(store->why, sizeof store->why, "%s", err->text);
  pthread_mutex_unlock(&store->lock);
}

static void tell(mw_pg_writer *writer, bool up) {
  mw_store_client *base = &writer->client->base;
  if (base->on_state) base->on_state(up, base->on_state_arg);
}

void mw_pg_writer_become_up(mw_pg_writer *writer) {
  if (writer->up || writer->closed) return;
  writer->up = true;
  writer->attempt = 0;
  mw_pg_store *store = mw_pg_store_of(writer->client);
  atomic_fetch_add(&store->writers_up, 1);
  if (writer->told_down) mw_log(MW_LOG_INFO, "store", "PostgreSQL answers again");
  writer->told_down = false;
  mw_pg_groups_on_up(writer->groups);
  run_waiting_jobs(writer);
  tell(writer, true);
  if (writer->conn) mw_pg_notices_on_up(writer->notices, writer->conn);
}

static void become_down(mw_pg_writer *writer, const mw_err *err) {
  bool was_up = writer->up;
  set_why(writer, err);
  writer->up = false;
  if (was_up) atomic_fetch_sub(&mw_pg_store_of(writer->client)->writers_up, 1);
  if (!writer->told_down) {
    mw_log(MW_LOG_WARN, "store", "PostgreSQL is away, reconnecting in the background",
           MW_LOG_S("reason", err->text));
    writer->told_down = true;
    mw_pg_groups_on_down(writer->groups, err);
    if (!writer->closed) tell(writer, false);
  } else if (was_up) {
    mw_pg_groups_on_down(writer->groups, err);
  }
}

static void try_again(mw_pg_writer *writer) {
  if (writer->closed) return;
  // The first attempt after a loss comes soon; the others back off.
  mw_timer_start(writer->client->base.loop, &writer->retry, mw_pg_backoff_ms(++writer->attempt));
}

static void drop_conn(mw_pg_writer *writer, const mw_err *err) {
  mw_pg_conn *conn = writer->conn;
  writer->conn = NULL;
  mw_pg_node_cancel(writer->node);
  become_down(writer, err); // first: who hears that its work was lost may ask for more at once
  if (conn) mw_pg_conn_close(conn, err, NULL, NULL);
  try_again(writer);
}

static void on_event(mw_pg_conn *conn, mw_pg_event event, const mw_err *err, void *arg) {
  mw_pg_writer *writer = arg;
  if (event == MW_PG_DOWN) {
    mw_err own = *err;
    drop_conn(writer, &own);
  } else if (event == MW_PG_UP && !mw_pg_node_on_conn(writer->node, conn)) {
    mw_pg_writer_become_up(writer);
  }
}

void mw_pg_writer_reject(mw_pg_writer *writer, const mw_err *err) {
  mw_err own = *err;
  if (!writer->closed) drop_conn(writer, &own);
}

static void connect_now(mw_pg_writer *writer) {
  writer->conn =
      mw_pg_conn_open(writer->client->base.loop, mw_pg_store_of(writer->client)->writer, on_event, writer);
}

static void on_retry(mw_timer *timer, void *arg) { connect_now(arg); }

/* ---- jobs ---- */

static void end_job(mw_pg_job *job, int status, const mw_err *err) {
  mw_list_remove(&job->node);
  mw_timer_stop(&job->timer);
  job->answer(job, status, err);
  for (size_t i = 0; i < sizeof job->arrays / sizeof job->arrays[0]; i++) mw_pg_array_deinit(&job->arrays[i]);
  mw_arena_deinit(&job->arena);
  mw_free(job);
}

static void on_job_done(mw_pg_op *op, int status, const char *sqlstate, const mw_err *err) {
  end_job(MW_CONTAINER(op, mw_pg_job, op), status, err);
}

/** It was not up when the job came; or the job takes too long. */
static void on_job_timer(mw_timer *timer, void *arg) {
  mw_pg_job *job = arg;
  if (job->op.conn) {
    mw_pg_conn_cancel(&job->op);
    return;
  }
  mw_err err = {0};
  mw_pg_store *store = mw_pg_store_of(job->writer->client);
  pthread_mutex_lock(&store->lock);
  mw_err_set(&err, MW_EUNAVAILABLE, "the database is away: %s", store->why);
  pthread_mutex_unlock(&store->lock);
  end_job(job, MW_EUNAVAILABLE, &err);
}

mw_pg_job *mw_pg_job_new(mw_pg_writer *writer, void (*answer)(mw_pg_job *job, int status, const mw_err *err)) {
  mw_pg_job *job = MW_NEW(mw_pg_job);
  job->writer = writer;
  job->answer = answer;
  mw_pg_op_init(&job->op);
  job->op.on_done = on_job_done;
  mw_arena_init(&job->arena);
  mw_timer_init(&job->timer, on_job_timer, job);
  mw_list_push(&writer->jobs, &job->node);
  return job;
}

static void send_job(mw_pg_job *job) {
  job->sent_ms = mw_clock_mono_ms();
  job->waits = false;
  mw_timer_start(job->writer->client->base.loop, &job->timer, JOB_MS);
  mw_pg_conn_run(job->writer->conn, &job->op);
}

void mw_pg_job_run(mw_pg_job *job) {
  mw_store_client *client = &job->writer->client->base;
  if (mw_pg_writer_conn(job->writer)) {
    send_job(job);
    return;
  }
  job->waits = true;
  mw_timer_start(client->loop, &job->timer, mw_store_is_up(client->store) ? JOB_WAIT_MS : 0);
}

static void run_waiting_jobs(mw_pg_writer *writer) {
  MW_LIST_EACH(&writer->jobs, node) {
    mw_pg_job *job = MW_CONTAINER(node, mw_pg_job, node);
    if (job->waits) send_job(job);
  }
}

/* ---- life ---- */

char *mw_pg_writer_sql(const mw_pg_writer *writer, const char *sql) {
  static const char mark[] = "{{schema}}";
  mw_buf out = MW_BUF_INIT;
  for (const char *at; (at = strstr(sql, mark)); sql = at + sizeof mark - 1) {
    mw_buf_add(&out, sql, (size_t)(at - sql));
    mw_buf_printf(&out, "\"%s\"", writer->client->base.store->schema);
  }
  mw_buf_add_cstr(&out, sql);
  mw_buf_cstr(&out);
  return mw_buf_take(&out);
}

mw_pg_writer *mw_pg_writer_new(mw_pg_client *client) {
  mw_pg_writer *writer = MW_NEW(mw_pg_writer);
  writer->client = client;
  mw_list_init(&writer->jobs);
  mw_timer_init(&writer->retry, on_retry, writer);
  writer->put_code =
      mw_pg_writer_sql(writer, "INSERT INTO {{schema}}.code (hash, text, created_us) "
                               "SELECT hash, text, $3::bigint FROM unnest($1::text[], $2::text[]) AS i(hash, "
                               "text) ORDER BY hash ON CONFLICT DO NOTHING");
  // The counter's row stays locked until the commit, so numbers become visible in their order.
  writer->add_change = mw_pg_writer_sql(
      writer, "WITH n AS (INSERT INTO {{schema}}.change_counters AS c (app, last) VALUES ($1, 1) "
              "ON CONFLICT (app) DO UPDATE SET last = c.last + 1 RETURNING last) "
              "INSERT INTO {{schema}}.changes (app, number, at_us, kind, subject, actor, detail) "
              "SELECT $1::text, n.last, $2::bigint, $3::text, $4::text, $5::text, $6::text FROM n");
  writer->groups = mw_pg_groups_new(writer);
  writer->node = mw_pg_node_new(writer);
  writer->notices = mw_pg_notices_new(writer);
  connect_now(writer);
  return writer;
}

void mw_pg_writer_close(mw_pg_writer *writer, void (*gone)(void *arg), void *arg) {
  mw_err err = {0};
  mw_err_set(&err, MW_ECANCELED, "the store was closed");
  writer->closed = true;
  if (writer->up) atomic_fetch_sub(&mw_pg_store_of(writer->client)->writers_up, 1);
  writer->up = false;
  mw_timer_stop(&writer->retry);
  mw_pg_node_close(writer->node, &err);
  mw_pg_conn *conn = writer->conn;
  writer->conn = NULL;
  if (conn)
    mw_pg_conn_close(conn, NULL, gone, arg);
  else
    mw_loop_post(writer->client->base.loop, gone, arg);
  mw_pg_groups_free(writer->groups, &err);
  while (!mw_list_is_empty(&writer->jobs))
    end_job(MW_CONTAINER(writer->jobs.next, mw_pg_job, node), MW_ECANCELED, &err);
  mw_pg_node_free(writer->node);
  mw_pg_notices_free(writer->notices);
  mw_free(writer->put_code);
  mw_free(writer->add_change);
  mw_free(writer);
}

bool mw_pg_writer_is_settled(const mw_pg_writer *writer) {
  return !writer->up || mw_pg_groups_are_idle(writer->groups);
}

bool mw_pg_writer_is_up(const mw_pg_writer *writer) { return writer->up; }
mw_pg_conn *mw_pg_writer_conn(mw_pg_writer *writer) {
  return writer->up && writer->conn && mw_pg_conn_is_up(writer->conn) ? writer->conn : NULL;
}
mw_pg_node *mw_pg_writer_node(mw_pg_writer *writer) { return writer->node; }
mw_pg_client *mw_pg_writer_client(mw_pg_writer *writer) { return writer->client; }
mw_pg_groups *mw_pg_writer_groups(mw_pg_writer *writer) { return writer->groups; }
mw_pg_notices *mw_pg_writer_notices(mw_pg_writer *writer) { return writer->notices; }

/* ---- code and changes ---- */

static void answer_write(mw_pg_job *job, int status, const mw_err *err) {
  ((mw_write_cb)job->cb)(status, NULL, status ? err : NULL, job->arg);
}

int mw_pg_put_code(mw_store_client *base, const mw_code *list, size_t count, mw_write_cb cb, void *arg) {
  mw_pg_writer *writer = ((mw_pg_client *)base)->writer;
  mw_pg_job *job = mw_pg_job_new(writer, answer_write);
  job->cb = (void (*)(void))cb;
  job->arg = arg;
  mw_pg_array_init(&job->arrays[0], MW_PG_TEXT);
  mw_pg_array_init(&job->arrays[1], MW_PG_TEXT);
  for (size_t i = 0; i < count; i++) {
    mw_pg_array_add_text(&job->arrays[0], list[i].hash);
    mw_pg_array_add_text(&job->arrays[1], list[i].text);
  }
  mw_pg_bind_array(&job->binds, &job->arrays[0]);
  mw_pg_bind_array(&job->binds, &job->arrays[1]);
  mw_pg_bind_i64(&job->binds, mw_clock_wall_us());
  job->op.stmts[0] =
      (mw_pg_stmt){.sql = writer->put_code, .params = mw_pg_binds_params(&job->binds), .prepare = true};
  job->op.nstmts = 1;
  mw_pg_job_run(job);
  return 0;
}

int mw_pg_add_change(mw_store_client *base, mw_str app, mw_str kind, mw_str subject, mw_str actor,
                     mw_str detail, mw_write_cb cb, void *arg) {
  mw_pg_writer *writer = ((mw_pg_client *)base)->writer;
  mw_pg_job *job = mw_pg_job_new(writer, answer_write);
  job->cb = (void (*)(void))cb;
  job->arg = arg;
  mw_pg_bind_text(&job->binds, app.len ? mw_arena_strndup(&job->arena, app.ptr, app.len) : "default");
  mw_pg_bind_i64(&job->binds, mw_clock_wall_us());
  mw_pg_bind_text(&job->binds, mw_arena_strndup(&job->arena, kind.ptr, kind.len));
  mw_pg_bind_text(&job->binds, mw_arena_strndup(&job->arena, subject.ptr, subject.len));
  mw_pg_bind_text(&job->binds, mw_arena_strndup(&job->arena, actor.ptr, actor.len));
  mw_pg_bind_text(&job->binds, detail.len ? mw_arena_strndup(&job->arena, detail.ptr, detail.len) : NULL);
  job->op.stmts[0] =
      (mw_pg_stmt){.sql = writer->add_change, .params = mw_pg_binds_params(&job->binds), .prepare = true};
  job->op.nstmts = 1;
  mw_pg_job_run(job);
  return 0;
}

int mw_pg_write(mw_store_client *base, const mw_write *write, mw_write_cb cb, void *arg) {
  return mw_pg_groups_write(((mw_pg_client *)base)->writer->groups, write, cb, arg);
}
