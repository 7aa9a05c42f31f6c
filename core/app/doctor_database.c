// SPDX-License-Identifier: MIT
// Checks of the database: reachable, of a version that fits, settings that keep promises, clocks that agree.
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

#include "app/doctor.h"
#include "base/clock.h"
#include "loop/loop.h"
#include "store/inspect.h"
#include "store/migrate.h"
#include "store/redis.h"

#define MIB (1024 * 1024)
#define CLOCK_APART_US 1000000
#define WAL_WARN_MIB 512
#define REDIS_MS 5000
#define OLDEST_POSTGRES 130000
#define OWN_CONNECTIONS 3 // of a worker, besides those for mw.query

static void check_schema(mw_doctor *d, const char *engine, int schema) {
  static const char what[] = "schema";
  int known = mw_migrate_newest(engine);
  if (schema > known)
    mw_doctor_fail(d, what, "version %d, and this program knows versions up to %d: use the newer program, or undo with `moonwatch migrate down` of that one",
                   schema, known);
  else if (schema == known) mw_doctor_ok(d, what, "version %d, as this program", schema);
  else if (d->conf->migrate_auto) mw_doctor_ok(d, what, "version %d; the next start brings it to %d", schema, known);
  else mw_doctor_fail(d, what, "version %d of %d, and migrate.auto is off: run `moonwatch migrate up`", schema, known);
}

// ---- SQLite ----

static void check_sqlite(mw_doctor *d) {
  mw_inspect_sqlite f;
  mw_err err;
  if (mw_inspect_sqlite_file(d->conf->data, &f, &err)) return mw_doctor_fail(d, "database", "%s", err.text);
  if (!f.exists) return mw_doctor_ok(d, "database", "SQLite; the first start makes it");
  mw_doctor_ok(d, "database", "SQLite, %.1f MiB, %lld unfinished executions", (double)f.bytes / MIB, (long long)f.unfinished);
  check_schema(d, "sqlite", f.schema);
  if (f.wal_bytes > (int64_t)WAL_WARN_MIB * MIB)
    mw_doctor_warn(d, "log file", "moonwatch.db-wal is %lld MiB: a reader holds it up (a backup, another program?) or the disk was full",
                   (long long)(f.wal_bytes / MIB));
  else if (f.wal_bytes > 0) mw_doctor_ok(d, "log file", "%.1f MiB", (double)f.wal_bytes / MIB);
  int64_t ahead_us = f.newest_us - mw_clock_wall_us();
  if (ahead_us > CLOCK_APART_US)
    mw_doctor_fail(d, "clock", "a server was started here %lld s from now: the clock of this machine was set back; set it right before starting one",
                   (long long)(ahead_us / 1000000));
}

static void check_integrity(mw_doctor *d) {
  static const char *const names[] = {"moonwatch.db", "app.db", "telemetry.db"};
  mw_err err;
  bool ok = true;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (mw_inspect_sqlite_deep(d->conf->data, names[i], &err)) {
      mw_doctor_fail(d, "integrity", "%s", err.text);
      ok = false;
    }
  if (ok) mw_doctor_ok(d, "integrity", "SQLite finds nothing wrong with the files");
}

// ---- PostgreSQL ----

static void check_durability(mw_doctor *d, const mw_inspect_postgres *p) {
  static const char what[] = "postgres durability";
  if (strcmp(p->fsync, "on")) mw_doctor_fail(d, what, "fsync is %s: a power cut can destroy the database: set fsync = on", p->fsync);
  else if (strcmp(p->synchronous_commit, "off") == 0)
    mw_doctor_fail(d, what, "synchronous_commit is off: a crash of the server loses what was acknowledged: set it to on");
  else mw_doctor_ok(d, what, "fsync on, synchronous_commit %s", p->synchronous_commit);
}

static void check_connections(mw_doctor *d, const mw_inspect_postgres *p) {
  static const char what[] = "postgres connections";
  int needs = mw_config_workers(d->conf) * ((int)d->conf->postgres_pool + OWN_CONNECTIONS) + 1;
  if (p->is_pooled)
    mw_doctor_warn(d, what, "a pooler answers (PgBouncer?): it has to be in session mode, because prepared statements, LISTEN and advisory locks are used");
  if (needs > p->max_connections)
    mw_doctor_fail(d, what, "this node opens up to %d and max_connections is %d: raise it, or lower postgres.pool or workers", needs, p->max_connections);
  else if (needs * 2 > p->max_connections)
    mw_doctor_warn(d, what, "this node opens up to %d of max_connections %d: a second node does not fit", needs, p->max_connections);
  else mw_doctor_ok(d, what, "this node opens up to %d of %d (%d in use)", needs, p->max_connections, p->used_connections);
}

static void check_clocks(mw_doctor *d, int64_t ahead_us) {
  double apart_s = (double)llabs(ahead_us) / 1e6;
  if (llabs(ahead_us) > CLOCK_APART_US)
    mw_doctor_warn(d, "clock", "the database's clock is %.1f s %s this machine's: keep both by NTP; due times follow the database's", apart_s,
                   ahead_us > 0 ? "ahead of" : "behind");
  else mw_doctor_ok(d, "clock", "%.0f ms from the database's", apart_s * 1000);
}

static void check_postgres(mw_doctor *d) {
  mw_inspect_postgres p;
  mw_err err;
  if (mw_inspect_postgres_url(d->conf->database, d->conf->postgres_schema, &p, &err))
    return mw_doctor_fail(d, "database", "%s: check the URL, the server and its pg_hba.conf", err.text);
  if (p.version_number < OLDEST_POSTGRES)
    mw_doctor_warn(d, "database", "PostgreSQL %s: versions before 13 are not tried: upgrade it", p.version);
  else mw_doctor_ok(d, "database", "PostgreSQL %s, %.1f MiB, answers in %.1f ms", p.version, (double)p.bytes / MIB, (double)p.answer_us / 1000);
  if (p.in_recovery) mw_doctor_fail(d, "database", "it is a standby and takes no writes: name the primary");
  else if (p.read_only) mw_doctor_fail(d, "database", "default_transaction_read_only is on: nothing can be stored");
  check_schema(d, "postgres", p.schema);
  check_durability(d, &p);
  check_connections(d, &p);
  check_clocks(d, p.ahead_us);
}

static void check_app_database(mw_doctor *d) {
  mw_inspect_postgres p;
  mw_err err;
  if (!*d->conf->app_database) return;
  if (mw_inspect_postgres_url(d->conf->app_database, d->conf->postgres_schema, &p, &err))
    mw_doctor_fail(d, "app database", "%s: check app_database", err.text);
  else mw_doctor_ok(d, "app database", "PostgreSQL %s, answers in %.1f ms", p.version, (double)p.answer_us / 1000);
}

// ---- Redis ----

static void on_pong(int status, const mw_redis_reply *replies, size_t count, const mw_err *err, void *arg) {
  mw_doctor *d = arg;
  if (status) mw_doctor_fail(d, "redis", "%s: check redis.url and the server", err && err->text[0] ? err->text : mw_err_text(status));
  else if (replies->kind == MW_REDIS_ERROR) mw_doctor_fail(d, "redis", "%.*s: check user and password in redis.url", MW_STR_FMT(replies->str));
  else mw_doctor_ok(d, "redis", "answers");
  _exit(0); // the check is a process of its own
}

static void check_redis(mw_doctor *d) {
  mw_redis_conf conf = {.url = d->conf->redis_url, .ca_file = d->conf->redis_ca_file, .timeout_ms = REDIS_MS};
  mw_str ping = MW_STR("PING");
  mw_redis_command command = {.argv = &ping, .argc = 1};
  mw_redis *redis;
  mw_redis_request *request;
  mw_err err;
  if (!*conf.url) return;
  mw_loop *loop = mw_loop_new("doctor");
  if (mw_redis_new(loop, &conf, &redis, &err) ||
      mw_redis_send(redis, NULL, &(mw_redis_call){.commands = &command, .count = 1}, on_pong, d, &request, &err))
    return mw_doctor_fail(d, "redis", "%s", err.text);
  mw_loop_run(loop);
}

// ---- the machine's clock ----

static void check_ntp(mw_doctor *d) {
  struct timex state = {0};
  if (mw_clock_wall_us() < (int64_t)1735689600 * 1000000) // 2025
    return mw_doctor_fail(d, "clock", "this machine believes it is before 2025: set its clock");
  if (adjtimex(&state) < 0) return;
  if (state.status & STA_UNSYNC) mw_doctor_warn(d, "time sync", "the kernel knows of no time source: run an NTP client (systemd-timesyncd, chrony)");
  else mw_doctor_ok(d, "time sync", "the clock is kept by a time source");
}

const mw_doctor_check mw_doctor_database_checks[] = {
    {.name = "database", .run = check_sqlite, .timeout_ms = 15000, .engine = 1},
    {.name = "integrity", .run = check_integrity, .timeout_ms = 600000, .needs_deep = true, .engine = 1},
    {.name = "database", .run = check_postgres, .timeout_ms = 30000, .engine = 2},
    {.name = "app database", .run = check_app_database, .timeout_ms = 20000, .engine = 2},
    {.name = "redis", .run = check_redis, .timeout_ms = 2 * REDIS_MS},
    {.name = "time sync", .run = check_ntp, .timeout_ms = 2000},
    {.name = NULL},
};
