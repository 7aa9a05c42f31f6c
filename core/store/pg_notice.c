// SPDX-License-Identifier: MIT
#include "store/pg_notice.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/id.h"
#include "loop/loop.h"

#define WORK_CHANNEL "moonwatch_work"
#define CONTROL_CHANNEL "moonwatch_control"
#define WORK_EVERY_MS 50

struct mw_pg_notices {
  mw_pg_writer *writer;
  mw_timer timer;    /**< The next WORK may go. */
  bool is_due, waits; /**< One was asked for meanwhile; the timer runs. */
};

static void tell(mw_pg_notices *notices, mw_store_notice notice, mw_str id) {
  mw_store_client *client = &mw_pg_writer_client(notices->writer)->base;
  if (client->on_notice) client->on_notice(notice, id, client->on_notice_arg);
}

// ---- hearing ----

static void on_notified(mw_pg_conn *conn, const char *channel, const char *payload, void *arg) {
  mw_pg_notices *notices = arg;
  mw_str schema = mw_str_from(mw_pg_writer_client(notices->writer)->base.store->schema), text = mw_str_from(payload);
  if (text.len < schema.len || memcmp(text.ptr, schema.ptr, schema.len) != 0) return;
  mw_str rest = mw_str_of(text.ptr + schema.len, text.len - schema.len);
  if (strcmp(channel, WORK_CHANNEL) == 0 && rest.len == 0) tell(notices, MW_NOTICE_WORK, rest);
  else if (strcmp(channel, CONTROL_CHANNEL) == 0 && rest.len > 1 && rest.ptr[0] == '/')
    tell(notices, MW_NOTICE_CONTROL, mw_str_of(rest.ptr + 1, rest.len - 1));
}

/** Without it the others' notices are not heard; claiming goes on by its own clock. */
static void on_answered(mw_pg_job *job, int status, const mw_err *err) {}

void mw_pg_notices_on_up(mw_pg_notices *notices, mw_pg_conn *conn) {
  mw_pg_conn_on_notify(conn, on_notified, notices);
  mw_pg_job *job = mw_pg_job_new(notices->writer, on_answered);
  job->op.stmts[0] = (mw_pg_stmt){.sql = "LISTEN " WORK_CHANNEL};
  job->op.stmts[1] = (mw_pg_stmt){.sql = "LISTEN " CONTROL_CHANNEL};
  job->op.nstmts = 2;
  mw_pg_job_run(job);
  tell(notices, MW_NOTICE_WORK, MW_STR(""));
}

// ---- saying ----

static void say(mw_pg_notices *notices, const char *channel, mw_str id) {
  const char *schema = mw_pg_writer_client(notices->writer)->base.store->schema;
  mw_pg_job *job = mw_pg_job_new(notices->writer, on_answered);
  size_t size = strlen(schema) + id.len + 2;
  char *payload = mw_arena_alloc(&job->arena, size);
  snprintf(payload, size, "%s%s%.*s", schema, id.len ? "/" : "", MW_STR_FMT(id));
  mw_pg_bind_text(&job->binds, channel);
  mw_pg_bind_text(&job->binds, payload);
  job->op.stmts[0] = (mw_pg_stmt){.sql = "SELECT pg_notify($1, $2)", .params = mw_pg_binds_params(&job->binds), .prepare = true};
  job->op.nstmts = 1;
  mw_pg_job_run(job);
}

static void send_work(mw_pg_notices *notices) {
  notices->is_due = false;
  notices->waits = true;
  mw_timer_start(mw_pg_writer_client(notices->writer)->base.loop, &notices->timer, WORK_EVERY_MS);
  say(notices, WORK_CHANNEL, MW_STR(""));
}

static void on_timer(mw_timer *timer, void *arg) {
  mw_pg_notices *notices = arg;
  notices->waits = false;
  if (notices->is_due) send_work(notices);
}

void mw_pg_notify(mw_store_client *base, mw_store_notice notice, mw_str id) {
  mw_pg_notices *notices = mw_pg_writer_notices(((mw_pg_client *)base)->writer);
  if (notice == MW_NOTICE_CONTROL) say(notices, CONTROL_CHANNEL, id);
  else if (notices->waits) notices->is_due = true;
  else send_work(notices);
}

// ---- life ----

mw_pg_notices *mw_pg_notices_new(mw_pg_writer *writer) {
  mw_pg_notices *notices = MW_NEW(mw_pg_notices);
  notices->writer = writer;
  mw_timer_init(&notices->timer, on_timer, notices);
  return notices;
}

void mw_pg_notices_free(mw_pg_notices *notices) {
  mw_timer_stop(&notices->timer);
  mw_free(notices);
}
