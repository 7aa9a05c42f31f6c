// SPDX-License-Identifier: MIT
#include "store/inspect.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "store/data_dir.h"
#include "store/pg_target.h"
#include "store/pq.h"
#include "store/snapshot.h"

// ---- SQLite ----

static int64_t size_of(const char *dir, const char *name, const char *suffix) {
  char path[4200];
  struct stat st;
  snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
  return stat(path, &st) ? -1 : st.st_size;
}

static int fail(sqlite3 *db, int rc, const char *name, mw_err *err) {
  bool damaged = (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
  const char *words = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
  return mw_err_set(err, MW_EIO, damaged ? "%s is damaged (%s): restore the last backup with `moonwatch restore`" : "%s cannot be read: %s", name,
                    words);
}

/** A file that nobody uses and that has no log is opened as one that does not change: SQLite makes no files beside it then. */
static int open_file(const char *dir, const char *name, sqlite3 **db, mw_err *err) {
  char path[4200], uri[3 * 4200];
  bool still = size_of(dir, name, "-wal") <= 0 && mw_data_dir_holder(dir) == 0;
  snprintf(path, sizeof path, "%s/%s", dir, name);
  mw_snapshot_uri(path, still, uri, sizeof uri);
  int rc = sqlite3_open_v2(uri, db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
  sqlite3_busy_timeout(*db, 2000);
  if (rc == SQLITE_OK) return 0;
  int code = fail(*db, rc, name, err);
  sqlite3_close_v2(*db);
  return code;
}

static int ask(sqlite3 *db, const char *sql, int64_t *out) {
  sqlite3_stmt *stmt = NULL;
  int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
  if (rc == SQLITE_ROW) *out = sqlite3_column_int64(stmt, 0);
  sqlite3_finalize(stmt);
  return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int mw_inspect_sqlite_file(const char *dir, mw_inspect_sqlite *out, mw_err *err) {
  sqlite3 *db;
  int64_t tables = 0, schema = 0;
  *out = (mw_inspect_sqlite){.bytes = size_of(dir, "moonwatch.db", ""), .wal_bytes = size_of(dir, "moonwatch.db", "-wal")};
  out->exists = out->bytes > 0;
  if (!out->exists) return 0;
  int code = open_file(dir, "moonwatch.db", &db, err);
  if (code) return code;
  int rc = ask(db, "SELECT count(*) FROM sqlite_master WHERE name IN ('schema_migrations', 'nodes', 'executions')", &tables);
  if (!rc && tables) rc = ask(db, "SELECT max(version) FROM schema_migrations", &schema);
  if (!rc && tables == 3) rc = ask(db, "SELECT max(started_us) FROM nodes", &out->newest_us);
  if (!rc && tables == 3) rc = ask(db, "SELECT count(*) FROM executions WHERE status < 8", &out->unfinished);
  out->schema = (int)schema;
  if (rc) code = fail(db, rc, "moonwatch.db", err);
  sqlite3_close_v2(db);
  return code;
}

int mw_inspect_sqlite_deep(const char *dir, const char *name, mw_err *err) {
  sqlite3 *db;
  sqlite3_stmt *stmt = NULL;
  if (size_of(dir, name, "") <= 0) return 0;
  int code = open_file(dir, name, &db, err);
  if (code) return code;
  int rc = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL);
  if (!rc) rc = sqlite3_step(stmt);
  const char *found = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
  if (rc != SQLITE_ROW) code = fail(db, rc, name, err);
  else if (!found || strcmp(found, "ok"))
    code = mw_err_set(err, MW_EIO, "%s is damaged (%s): restore the last backup with `moonwatch restore`", name, found ? found : "?");
  sqlite3_finalize(stmt);
  sqlite3_close_v2(db);
  return code;
}

// ---- PostgreSQL ----

/** Runs a statement; returns its result when there is a row, else NULL with words in `err`. */
static PGresult *row_of(PGconn *pg, const char *sql, mw_err *err) {
  PGresult *result = PQexec(pg, sql);
  if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0) return result;
  const char *words = PQerrorMessage(pg);
  mw_err_set(err, MW_ESQL, "PostgreSQL: %.*s", (int)strcspn(words, "\n"), *words ? words : "no answer");
  PQclear(result);
  return NULL;
}

static int read_settings(PGconn *pg, mw_inspect_postgres *out, mw_err *err) {
  int64_t before_us = mw_clock_wall_us(), began_ns = mw_clock_mono_ns();
  PGresult *r = row_of(pg, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, current_setting('synchronous_commit'),"
                           " current_setting('fsync'), current_setting('max_connections'), pg_is_in_recovery(),"
                           " current_setting('default_transaction_read_only'), pg_backend_pid(), current_setting('server_version'),"
                           " pg_database_size(current_database()), (SELECT count(*) FROM pg_stat_activity)", err);
  if (!r) return MW_ESQL;
  out->answer_us = (mw_clock_mono_ns() - began_ns) / 1000;
  out->ahead_us = strtoll(PQgetvalue(r, 0, 0), NULL, 10) - (before_us + out->answer_us / 2);
  snprintf(out->synchronous_commit, sizeof out->synchronous_commit, "%s", PQgetvalue(r, 0, 1));
  snprintf(out->fsync, sizeof out->fsync, "%s", PQgetvalue(r, 0, 2));
  out->max_connections = atoi(PQgetvalue(r, 0, 3));
  out->in_recovery = *PQgetvalue(r, 0, 4) == 't';
  out->read_only = strcmp(PQgetvalue(r, 0, 5), "on") == 0;
  // A pooler answers with a process number of its own when a connection is made.
  out->is_pooled = atoi(PQgetvalue(r, 0, 6)) != PQbackendPID(pg);
  snprintf(out->version, sizeof out->version, "%s", PQgetvalue(r, 0, 7));
  out->bytes = strtoll(PQgetvalue(r, 0, 8), NULL, 10);
  out->used_connections = atoi(PQgetvalue(r, 0, 9));
  out->version_number = PQserverVersion(pg);
  PQclear(r);
  return 0;
}

static int read_schema(PGconn *pg, const char *schema, mw_inspect_postgres *out, mw_err *err) {
  mw_buf sql = MW_BUF_INIT;
  mw_buf_printf(&sql, "SELECT count(*) FROM information_schema.tables WHERE table_schema = '%s' AND table_name = 'schema_migrations'", schema);
  PGresult *r = row_of(pg, mw_buf_cstr(&sql), err);
  bool exists = r && *PQgetvalue(r, 0, 0) != '0';
  int code = r ? 0 : MW_ESQL;
  PQclear(r);
  mw_buf_reset(&sql, 4096);
  if (exists) {
    mw_buf_printf(&sql, "SELECT coalesce(max(version), 0) FROM \"%s\".schema_migrations", schema);
    r = row_of(pg, mw_buf_cstr(&sql), err);
    if (r) out->schema = atoi(PQgetvalue(r, 0, 0));
    else code = MW_ESQL;
    PQclear(r);
  }
  mw_buf_deinit(&sql);
  return code;
}

int mw_inspect_postgres_url(const char *url, const char *schema, mw_inspect_postgres *out, mw_err *err) {
  mw_pg_target *target;
  PGconn *pg;
  *out = (mw_inspect_postgres){0};
  int code = mw_pg_target_new(url, NULL, NULL, &target, err);
  if (code) return code;
  code = mw_pg_target_connect(target, &pg, err);
  mw_pg_target_free(target);
  if (code) return code;
  PQclear(PQexec(pg, "SET statement_timeout = 5000"));
  code = read_settings(pg, out, err);
  if (!code) code = read_schema(pg, schema, out, err);
  PQfinish(pg);
  return code;
}
