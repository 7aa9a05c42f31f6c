// SPDX-License-Identifier: MIT
// The blocking connection of migrations on PostgreSQL. Holds an advisory lock, so that nodes that start together migrate once.
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "store/engine.h"
#include "store/pq.h"

#define CONNECT_SECONDS "10"
#define LOCK_MS 60000

struct mw_admin {
  PGconn *conn;
  char *schema;
};

static int fail(mw_admin *admin, int code, mw_err *err) {
  mw_str words = mw_str_from(PQerrorMessage(admin->conn));
  while (words.len && (words.ptr[words.len - 1] == '\n' || words.ptr[words.len - 1] == ' ')) words.len--;
  return mw_err_set(err, code, "%.*s", MW_STR_FMT(words));
}

/** Appends `sql` with the schema put in. */
static void expand(mw_buf *out, mw_str sql, const char *schema) {
  static const char mark[] = "{{schema}}";
  const size_t len = sizeof mark - 1;
  while (sql.len) {
    const char *hit = memmem(sql.ptr, sql.len, mark, len);
    size_t before = hit ? (size_t)(hit - sql.ptr) : sql.len;
    mw_buf_add(out, sql.ptr, before);
    if (!hit) return;
    mw_buf_add_cstr(out, schema);
    sql = mw_str_of(hit + len, sql.len - before - len);
  }
}

static int result_code(PGresult *result) {
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  if (!state) return MW_EUNAVAILABLE;
  if (memcmp(state, "23", 2) == 0) return MW_ECONSTRAINT;
  if (memcmp(state, "57", 2) == 0 || memcmp(state, "08", 2) == 0) return MW_EUNAVAILABLE;
  return strcmp(state, "55P03") == 0 ? MW_ELOCKED : MW_ESQL;
}

static void give_rows(PGresult *result, mw_admin_row_cb cb, void *arg) {
  const char *texts[16];
  int columns = PQnfields(result) < 16 ? PQnfields(result) : 16;
  for (int row = 0; cb && row < PQntuples(result); row++) {
    for (int i = 0; i < columns; i++) texts[i] = PQgetisnull(result, row, i) ? NULL : PQgetvalue(result, row, i);
    cb(arg, columns, texts);
  }
}

static int exec_admin(mw_admin *admin, mw_str sql, mw_admin_row_cb cb, void *arg, mw_err *err) {
  mw_buf text = MW_BUF_INIT;
  expand(&text, sql, admin->schema);
  int sent = PQsendQuery(admin->conn, mw_buf_cstr(&text));
  mw_buf_deinit(&text);
  if (!sent) return fail(admin, MW_EUNAVAILABLE, err);
  int code = 0;
  for (PGresult *result; (result = PQgetResult(admin->conn)); PQclear(result)) {
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK) give_rows(result, cb, arg);
    else if (status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY && !code) code = fail(admin, result_code(result), err);
  }
  return code;
}

static void close_admin(mw_admin *admin) {
  PQfinish(admin->conn); // the lock goes with the session
  mw_free(admin->schema);
  mw_free(admin);
}

static int open_admin(mw_store *store, mw_admin **out, mw_err *err) {
  int code = mw_pq_load(err);
  if (code) return code;
  mw_admin *admin = MW_NEW(mw_admin);
  admin->schema = mw_strdup(store->schema);
  const char *keys[] = {"dbname", "connect_timeout", "application_name", "client_encoding", "options", NULL};
  const char *values[] = {store->database_url, CONNECT_SECONDS, "moonwatch migrate", "UTF8", "-c client_min_messages=warning", NULL};
  admin->conn = PQconnectdbParams(keys, values, 1);
  if (PQstatus(admin->conn) != CONNECTION_OK) code = fail(admin, MW_EUNAVAILABLE, err);
  char sql[256];
  snprintf(sql, sizeof sql, "SET lock_timeout = %d; SELECT pg_advisory_lock(hashtextextended('moonwatch migrate %s', 0)); SET lock_timeout = 0",
           LOCK_MS, store->schema);
  if (!code) code = exec_admin(admin, mw_str_from(sql), NULL, NULL, err);
  if (code) {
    mw_err_wrap(err, "connect to PostgreSQL");
    close_admin(admin);
    return code;
  }
  *out = admin;
  return 0;
}

static int before_change(mw_admin *admin, mw_err *err) { return 0; }

const mw_admin_ops mw_admin_postgres = {open_admin, close_admin, exec_admin, before_change};
