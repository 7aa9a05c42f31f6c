// SPDX-License-Identifier: MIT
// Statements of the SQLite engine: parameters in, rows out; writes that share commits; transactions.
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "store/sqlite.h"

#define MAX_RESULT_BYTES (64 * 1024 * 1024)
#define GROUP_NS (20 * 1000000) // a group of statements takes no more in after this long

void mw_sqlite_query_init(mw_sqlite_query *query) {
  mw_arena_init(&query->result.arena);
  query->sqlstate = "";
}

void mw_sqlite_query_deinit(mw_sqlite_query *query) {
  mw_arena_deinit(&query->result.arena);
  mw_free(query->result.values);
}

static void clear_result(mw_sqlite_query *query) {
  mw_arena_reset(&query->result.arena);
  query->result.rows = (mw_rows){0};
  query->result.bytes = 0;
  query->job.status = 0;
  query->sqlstate = "";
}

// ---- one statement ----

static int bind_value(sqlite3_stmt *stmt, int at, const mw_value *value) {
  switch (value->kind) {
    case MW_VALUE_NULL: return sqlite3_bind_null(stmt, at);
    case MW_VALUE_BOOL: return sqlite3_bind_int(stmt, at, value->i != 0);
    case MW_VALUE_INT: return sqlite3_bind_int64(stmt, at, value->i);
    case MW_VALUE_NUM: return sqlite3_bind_double(stmt, at, value->num);
    case MW_VALUE_TEXT:
      return sqlite3_bind_text64(stmt, at, value->str.ptr ? value->str.ptr : "", value->str.len, SQLITE_STATIC, SQLITE_UTF8);
    case MW_VALUE_BLOB: return sqlite3_bind_blob64(stmt, at, value->str.ptr ? value->str.ptr : "", value->str.len, SQLITE_STATIC);
  }
  return SQLITE_MISUSE;
}

static int bind_params(mw_sqlite_stmt *stmt, const mw_query_opts *opts, mw_err *err) {
  if (opts->nparams > (size_t)stmt->params)
    return mw_err_set(err, MW_EINVALID, "%zu parameters were given and the statement has placeholders for %d", opts->nparams,
                      stmt->params);
  for (int i = 1, n = sqlite3_bind_parameter_count(stmt->stmt); i <= n; i++) {
    const char *name = sqlite3_bind_parameter_name(stmt->stmt, i);
    size_t number = name ? (size_t)atoi(name + 1) : (size_t)i;
    if (number > opts->nparams) continue; // stays NULL
    int rc = bind_value(stmt->stmt, i, &opts->params[number - 1]);
    if (rc == SQLITE_TOOBIG) return mw_err_set(err, MW_ELIMIT, "parameter %zu is larger than 64 MiB", number);
    if (rc) return mw_err_set(err, MW_EINVALID, "parameter %zu cannot be bound: %s", number, sqlite3_errstr(rc));
  }
  return 0;
}

static mw_str keep(mw_sqlite_result *result, const void *bytes, int len) {
  result->bytes += (size_t)len;
  return (mw_str){mw_arena_strndup(&result->arena, bytes ? bytes : "", (size_t)len), (size_t)len};
}

static mw_value column_value(mw_sqlite_result *result, sqlite3_stmt *stmt, int at) {
  switch (sqlite3_column_type(stmt, at)) {
    case SQLITE_INTEGER: return MW_VALUE_OF_INT(sqlite3_column_int64(stmt, at));
    case SQLITE_FLOAT: return (mw_value){.kind = MW_VALUE_NUM, .num = sqlite3_column_double(stmt, at)};
    case SQLITE_TEXT: {
      const void *text = sqlite3_column_text(stmt, at);
      return MW_VALUE_OF_TEXT(keep(result, text, sqlite3_column_bytes(stmt, at)));
    }
    case SQLITE_BLOB: {
      const void *blob = sqlite3_column_blob(stmt, at);
      return MW_VALUE_OF_BLOB(keep(result, blob, sqlite3_column_bytes(stmt, at)));
    }
    default: return MW_VALUE_OF_NULL;
  }
}

static void keep_names(mw_sqlite_result *result, sqlite3_stmt *stmt) {
  int columns = sqlite3_column_count(stmt);
  mw_str *names = mw_arena_alloc(&result->arena, sizeof *names * (size_t)(columns ? columns : 1));
  for (int i = 0; i < columns; i++) names[i] = mw_arena_str(&result->arena, mw_str_from(sqlite3_column_name(stmt, i)));
  result->rows = (mw_rows){.columns = (size_t)columns, .names = names};
}

static int keep_row(mw_sqlite_query *query, sqlite3_stmt *stmt, mw_err *err) {
  mw_sqlite_result *result = &query->result;
  size_t columns = result->rows.columns, need = (result->rows.count + 1) * columns;
  if (result->rows.count == query->opts.max_rows)
    return mw_err_set(err, MW_ELIMIT, "the result has more than %zu rows: add a LIMIT, or ask for it in parts", query->opts.max_rows);
  if (need > result->cap) {
    result->cap = result->cap ? result->cap * 2 : 64;
    if (result->cap < need) result->cap = need;
    result->values = mw_realloc(result->values, result->cap * sizeof *result->values);
  }
  mw_value *row = result->values + result->rows.count * columns;
  for (size_t i = 0; i < columns; i++) row[i] = column_value(result, stmt, (int)i);
  result->rows.count++;
  if (result->bytes + need * sizeof(mw_value) > MAX_RESULT_BYTES)
    return mw_err_set(err, MW_ELIMIT, "the result is larger than %d MiB: ask for it in parts", MAX_RESULT_BYTES / 1024 / 1024);
  return 0;
}

static int stop_error(mw_sqlite_query *query, mw_err *err) {
  int why = atomic_load(&query->cancel);
  if (why == MW_ETIMEOUT)
    return mw_err_set(err, why, "the statement took longer than %lld ms and was cancelled", (long long)query->opts.timeout_ms);
  return mw_err_set(err, why ? why : MW_ECANCELED, "the statement was cancelled");
}

static int step_all(mw_sqlite_conn *conn, mw_sqlite_query *query, sqlite3_stmt *stmt, mw_err *err) {
  int64_t before = sqlite3_total_changes64(conn->db);
  keep_names(&query->result, stmt);
  for (;;) {
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
      int code = keep_row(query, stmt, err);
      if (code) return code;
      continue;
    }
    if (rc != SQLITE_DONE) {
      query->sqlstate = mw_sqlite_result_name(rc);
      return (rc & 0xff) == SQLITE_INTERRUPT ? stop_error(query, err) : mw_sqlite_fail(conn, rc, err);
    }
    query->result.rows.values = query->result.values;
    if (!sqlite3_stmt_readonly(stmt) && sqlite3_total_changes64(conn->db) != before)
      query->result.rows.affected = sqlite3_changes64(conn->db);
    return 0;
  }
}

static int run_statement(mw_sqlite_conn *conn, mw_sqlite_query *query, bool *forward, mw_err *err) {
  if (atomic_load(&query->cancel)) return stop_error(query, err);
  mw_sqlite_stmt *stmt;
  bool owned;
  int code = mw_sqlite_prepare(conn, query->opts.sql, &stmt, &owned, err);
  if (code) {
    if (code == MW_ESQL || code == MW_EDENIED) query->sqlstate = mw_sqlite_result_name(sqlite3_extended_errcode(conn->db));
    return code;
  }
  if (forward && !sqlite3_stmt_readonly(stmt->stmt)) {
    *forward = true;
  } else {
    // RETURNING that is cut off by a limit must not leave its changes behind.
    bool undo = !sqlite3_stmt_readonly(stmt->stmt) && sqlite3_column_count(stmt->stmt) > 0;
    if (undo) mw_sqlite_control(conn, "SAVEPOINT mw_statement");
    code = bind_params(stmt, &query->opts, err);
    conn->job = &query->job;
    conn->runs_until_ns = 0;
    if (!code) code = step_all(conn, query, stmt->stmt, err);
    conn->job = NULL;
    sqlite3_reset(stmt->stmt);
    sqlite3_clear_bindings(stmt->stmt);
    if (undo && !sqlite3_get_autocommit(conn->db)) {
      if (code) mw_sqlite_control(conn, "ROLLBACK TO mw_statement");
      mw_sqlite_control(conn, "RELEASE mw_statement");
    }
  }
  if (owned) mw_sqlite_stmt_free(stmt);
  return code;
}

void mw_sqlite_query_run(mw_sqlite_conn *conn, mw_sqlite_query *query, bool *forward) {
  mw_err err;
  clear_result(query);
  int code = run_statement(conn, query, forward, &err);
  if (!code) return;
  mw_arena_reset(&query->result.arena);
  query->result.rows = (mw_rows){0};
  mw_sqlite_job_fail(&query->job, code, &err);
}

// ---- statements that share a commit ----

static void fail_query(mw_sqlite_conn *conn, mw_sqlite_query *query, int rc) {
  mw_err err;
  clear_result(query);
  query->sqlstate = mw_sqlite_result_name(rc);
  mw_sqlite_job_fail(&query->job, mw_sqlite_fail(conn, rc, &err), &err);
}

static mw_sqlite_query *as_query(mw_list *node) {
  return (mw_sqlite_query *)MW_CONTAINER(node, mw_sqlite_job, node);
}

static void put_back(mw_list *writes, mw_list *ran) {
  mw_list_splice(ran, writes);
  mw_list_splice(writes, ran);
}

static void fail_all(mw_sqlite_conn *conn, mw_list *ran, int rc) {
  MW_LIST_EACH(ran, node) fail_query(conn, as_query(node), rc);
}

/** Runs up to `limit` statements in one transaction. What is answered moves to `done`; what a rollback undid stays in `writes` and
 *  runs again. Returns how many have to run alone then, because their commit failed and one of them is to blame. */
static int run_write_group(mw_sqlite_file *file, mw_list *writes, mw_list *done, int limit) {
  mw_sqlite_conn *conn = &file->writer;
  mw_list ran;
  mw_list_init(&ran);
  int count = 0;
  int64_t until_ns = mw_clock_mono_ns() + GROUP_NS;
  int rc = mw_sqlite_control(conn, "BEGIN IMMEDIATE");
  if (rc) {
    mw_list_splice(&ran, writes); // the same would happen to each: the disk is full, the file is locked
    fail_all(conn, &ran, rc);
    mw_list_splice(done, &ran);
    return 0;
  }
  while (count < limit && !mw_list_is_empty(writes) && (count == 0 || mw_clock_mono_ns() < until_ns)) {
    mw_list *node = mw_list_pop(writes);
    mw_sqlite_query_run(conn, as_query(node), NULL);
    if (sqlite3_get_autocommit(conn->db)) {
      // It rolled all of them back (cancelled in the middle, OR ROLLBACK): it has its answer, the others start over.
      mw_list_push(done, node);
      put_back(writes, &ran);
      return 0;
    }
    mw_list_push(&ran, node);
    count++;
  }
  rc = mw_sqlite_check_place(conn);
  if (!rc) rc = mw_sqlite_control(conn, "COMMIT");
  if (rc) {
    bool blame = count > 1 && !mw_sqlite_is_environment(rc); // a deferred foreign key
    if (blame) put_back(writes, &ran);
    else fail_all(conn, &ran, rc);
    if (!sqlite3_get_autocommit(conn->db)) mw_sqlite_control(conn, "ROLLBACK");
    if (blame) return count;
  }
  mw_list_splice(done, &ran);
  return 0;
}

void mw_sqlite_writes_run(mw_sqlite_file *file, mw_list *writes) {
  int alone = 0;
  while (!mw_list_is_empty(writes)) {
    mw_list done;
    mw_list_init(&done);
    int blamed = run_write_group(file, writes, &done, alone > 0 ? 1 : INT_MAX);
    if (alone > 0) alone--;
    if (blamed) alone = blamed;
    mw_sqlite_answer(&done);
  }
}

// ---- transactions ----

static void set_tx(mw_sqlite_file *file, mw_sqlite_tx *tx) {
  pthread_mutex_lock(&file->lock);
  file->tx = tx;
  pthread_mutex_unlock(&file->lock);
}

static void doom(mw_sqlite_tx *tx, int code, const mw_err *err, const char *sqlstate) {
  if (tx->doom) return;
  tx->doom = code;
  tx->doom_err = *err;
  tx->doom_state = sqlstate;
}

static int answer_doomed(mw_sqlite_query *query) {
  query->sqlstate = query->tx->doom_state;
  return mw_sqlite_job_fail(&query->job, query->tx->doom, &query->tx->doom_err);
}

static void expire(mw_sqlite_file *file, mw_sqlite_tx *tx) {
  mw_err err;
  mw_err_set(&err, MW_ETIMEOUT, "the transaction took longer than %lld ms and was rolled back", (long long)tx->timeout_ms);
  tx->doom = 0;
  doom(tx, MW_ETIMEOUT, &err, "");
  mw_sqlite_control(&file->writer, "ROLLBACK");
}

// Called with the lock held; nothing else touches `tx` of a file.
void mw_sqlite_tx_expire(mw_sqlite_file *file) {
  expire(file, file->tx);
  file->tx = NULL;
}

static void tx_begin(mw_sqlite_file *file, mw_sqlite_query *query) {
  mw_sqlite_tx *tx = query->tx;
  mw_err err;
  int rc = atomic_load(&query->cancel) ? SQLITE_INTERRUPT : mw_sqlite_control(&file->writer, "BEGIN IMMEDIATE");
  if (rc) {
    fail_query(&file->writer, query, rc);
    int why = atomic_load(&query->cancel);
    if (why) mw_sqlite_job_fail(&query->job, why, (mw_err_set(&err, why, "%s", mw_err_text(why)), &err));
    return;
  }
  tx->deadline_ns = mw_clock_mono_ns() + tx->timeout_ms * 1000000;
  set_tx(file, tx);
}

static void tx_query(mw_sqlite_file *file, mw_sqlite_query *query) {
  mw_sqlite_tx *tx = query->tx;
  if (tx->doom) {
    answer_doomed(query);
    return;
  }
  if (query->deadline_ns > tx->deadline_ns) query->deadline_ns = tx->deadline_ns;
  mw_sqlite_query_run(&file->writer, query, NULL);
  if (mw_clock_mono_ns() >= tx->deadline_ns) {
    expire(file, tx);
    set_tx(file, NULL);
    clear_result(query);
    answer_doomed(query);
  } else if (query->job.status) {
    doom(tx, query->job.status, query->job.err, query->sqlstate);
  }
}

static void tx_end(mw_sqlite_file *file, mw_sqlite_query *query) {
  mw_sqlite_tx *tx = query->tx;
  mw_sqlite_conn *conn = &file->writer;
  int rc = SQLITE_OK;
  if (file->tx == tx) {
    if (query->commit && !tx->doom && !(rc = mw_sqlite_check_place(conn))) rc = mw_sqlite_control(conn, "COMMIT");
    if (rc) fail_query(conn, query, rc);
    if (!sqlite3_get_autocommit(conn->db)) mw_sqlite_control(conn, "ROLLBACK");
    set_tx(file, NULL);
  }
  if (query->commit && tx->doom) answer_doomed(query);
}

void mw_sqlite_tx_run(mw_sqlite_file *file, mw_sqlite_query *query) {
  if (query->job.kind == MW_SQLITE_BEGIN) tx_begin(file, query);
  else if (query->job.kind == MW_SQLITE_TX_QUERY) tx_query(file, query);
  else tx_end(file, query);
  mw_sqlite_answer_one(&query->job);
}
