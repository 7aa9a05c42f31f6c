// SPDX-License-Identifier: MIT
// Connections of the SQLite engine: how a file is opened, what plugins may not do, the statement cache, errors in words.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/world.h"
#include "store/sqlite.h"
#include "store/sqlite_fault.h"

#define CACHE_STATEMENTS 128
#define CACHE_MAX_SQL (16 * 1024)
#define PROGRESS_OPS 2000               // virtual machine steps between two looks at the deadline: some 20 us
#define MAX_VALUE_BYTES (64 * 1024 * 1024)
#define BUSY_MS 5000                    // only a foreign process can hold a lock on us

// SQLite's own memory statistics take a global lock an allocation.
static void configure(void) { sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

// ---- the time of a world (base/world.h) in SQL: CURRENT_TIMESTAMP, datetime('now') ----

#define WORLD_VFS "moonwatch-world"
#define JULIAN_MS 210866760000000LL // of 1970

static int world_time_ms(sqlite3_vfs *vfs, sqlite3_int64 *out) {
  *out = JULIAN_MS + mw_clock_wall_us() / 1000;
  return SQLITE_OK;
}

static int world_time(sqlite3_vfs *vfs, double *out) {
  *out = (double)(JULIAN_MS + mw_clock_wall_us() / 1000) / 86400000.0;
  return SQLITE_OK;
}

static const char *choose_vfs(void) {
  static sqlite3_vfs vfs; // specs of plugins have one thread
  const char *usual = mw_sqlite_fault_vfs();
  if (!mw_world_current()) return usual;
  if (!vfs.zName) {
    vfs = *sqlite3_vfs_find(usual);
    vfs.zName = WORLD_VFS;
    vfs.pNext = NULL;
    vfs.xCurrentTime = world_time;
    vfs.xCurrentTimeInt64 = world_time_ms;
    sqlite3_vfs_register(&vfs, 0);
  }
  return WORLD_VFS;
}

static void fn_uuid(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL) return;
  const char *text = (const char *)sqlite3_value_text(argv[0]);
  mw_id id;
  if (!text || !mw_id_parse(mw_str_of(text, (size_t)sqlite3_value_bytes(argv[0])), &id))
    sqlite3_result_error(ctx, "mw_uuid: not the text form of a UUID", -1);
  else sqlite3_result_blob(ctx, id.bytes, sizeof id.bytes, SQLITE_TRANSIENT);
}

static void fn_uuid_text(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL) return;
  mw_id id;
  char text[MW_ID_TEXT];
  if (sqlite3_value_bytes(argv[0]) != (int)sizeof id.bytes) {
    sqlite3_result_error(ctx, "mw_uuid_text: not 16 bytes", -1);
    return;
  }
  memcpy(id.bytes, sqlite3_value_blob(argv[0]), sizeof id.bytes);
  mw_id_format(&id, text);
  sqlite3_result_text(ctx, text, MW_ID_TEXT - 1, SQLITE_TRANSIENT);
}

static int on_progress(void *arg) {
  mw_sqlite_conn *conn = arg;
  if (!conn->job) return 0;
  mw_sqlite_query *query = (mw_sqlite_query *)conn->job;
  if (atomic_load_explicit(&query->cancel, memory_order_relaxed)) return 1;
  // In a world of its own the clock stands still while a statement runs: its time is counted by the machine's.
  bool stands = mw_world_current() != NULL;
  if (stands && !conn->runs_until_ns) conn->runs_until_ns = mw_clock_real_ns() + query->opts.timeout_ms * 1000000;
  if (stands ? mw_clock_real_ns() < conn->runs_until_ns : mw_clock_mono_ns() < query->deadline_ns) return 0;
  int none = 0;
  atomic_compare_exchange_strong(&query->cancel, &none, MW_ETIMEOUT);
  return 1;
}

// Pragmas that only tell something, so that tools written for SQLite find their way.
static bool is_harmless_pragma(const char *name, const char *value) {
  static const char *const informing[] = {"table_info", "table_xinfo", "table_list", "index_list", "index_info",
                                          "index_xinfo", "foreign_key_list", "foreign_key_check", "integrity_check",
                                          "quick_check", "compile_options", "function_list", "collation_list"};
  for (size_t i = 0; i < sizeof informing / sizeof *informing; i++)
    if (sqlite3_stricmp(name, informing[i]) == 0) return true;
  static const char *const readable[] = {"user_version", "application_id", "foreign_keys", "journal_mode", "page_count",
                                         "page_size", "freelist_count", "encoding", "data_version", "schema_version"};
  for (size_t i = 0; !value && i < sizeof readable / sizeof *readable; i++)
    if (sqlite3_stricmp(name, readable[i]) == 0) return true;
  return false;
}

static const char only_app_db[] = "ATTACH, DETACH and VACUUM are not allowed here: for another database there is mw.db(name)";

// It would live in one of several connections, and hide the table of that name from every plugin there.
static int refuse_temporary(mw_sqlite_conn *conn) {
  conn->refused = "temporary tables, views and triggers are not allowed here: use WITH, or a table of your own";
  return SQLITE_DENY;
}

static int on_authorize(void *arg, int action, const char *a, const char *b, const char *db, const char *trigger) {
  mw_sqlite_conn *conn = arg;
  if (conn->trusted) return SQLITE_OK;
  switch (action) {
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
      conn->refused = "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not allowed here: use mw.transaction(function(tx) … end)";
      return SQLITE_DENY;
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
      conn->refused = only_app_db;
      return SQLITE_DENY;
    case SQLITE_PRAGMA:
      if (is_harmless_pragma(a, b)) return SQLITE_OK;
      conn->refused = "this PRAGMA is not allowed here: the connection is shared by all plugins, only those that inform are let through";
      return SQLITE_DENY;
    case SQLITE_CREATE_TEMP_TABLE:
    case SQLITE_CREATE_TEMP_INDEX:
    case SQLITE_CREATE_TEMP_TRIGGER:
    case SQLITE_CREATE_TEMP_VIEW: return refuse_temporary(conn);
    case SQLITE_CREATE_TABLE:
    case SQLITE_CREATE_INDEX:
    case SQLITE_CREATE_TRIGGER:
    case SQLITE_CREATE_VIEW:
    case SQLITE_CREATE_VTABLE: return db && sqlite3_stricmp(db, "temp") == 0 ? refuse_temporary(conn) : SQLITE_OK;
    default: return SQLITE_OK;
  }
}

static int run_pragmas(mw_sqlite_conn *conn, int flags) {
  if (flags & MW_SQLITE_READ_ONLY_FILE) return SQLITE_OK;
  int rc = mw_sqlite_control(conn, "PRAGMA journal_mode=WAL");
  if (!rc) rc = mw_sqlite_control(conn, "PRAGMA wal_autocheckpoint=0");
  if (!rc) rc = mw_sqlite_control(conn, flags & MW_SQLITE_NORMAL ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL");
  if (!rc && (flags & MW_SQLITE_QUERY_ONLY)) rc = mw_sqlite_control(conn, "PRAGMA query_only=1");
  return rc;
}

static void configure_conn(mw_sqlite_conn *conn, int flags) {
  sqlite3 *db = conn->db;
  sqlite3_extended_result_codes(db, 1);
  sqlite3_busy_timeout(db, BUSY_MS);
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES);
  sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, MW_MAX_SQL_BYTES);
  sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
  sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
  int kind = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  sqlite3_create_function(db, "mw_uuid", 1, kind, NULL, fn_uuid, NULL, NULL);
  sqlite3_create_function(db, "mw_uuid_text", 1, kind, NULL, fn_uuid_text, NULL, NULL);
  sqlite3_progress_handler(db, PROGRESS_OPS, on_progress, conn);
  if (!(flags & MW_SQLITE_GUARDED)) return;
  sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
  sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
  sqlite3_set_authorizer(db, on_authorize, conn);
}

// SQLite makes files that everybody may read, and the folder may be one that others can enter. Made without opening it: closing a
// descriptor of a database would drop the locks that this process has on it. Its log gets the same mode and owner; root makes it for the
// user whose folder it is.
static void make_private(const char *path) {
  const char *slash = strrchr(path, '/');
  struct stat st;
  if (mknod(path, S_IFREG | 0600, 0) || geteuid() != 0 || !slash) return;
  char *dir = mw_strndup(path, (size_t)(slash - path) + 1);
  if (!stat(dir, &st) && st.st_uid != 0 && lchown(path, st.st_uid, st.st_gid)) unlink(path); // as if it had not been tried
  mw_free(dir);
}

int mw_sqlite_conn_open(mw_sqlite_conn *conn, const char *path, int flags, mw_err *err) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, configure);
  *conn = (mw_sqlite_conn){.path = path, .guarded = flags & MW_SQLITE_GUARDED,
                           .only_reads = flags & (MW_SQLITE_READ_ONLY_FILE | MW_SQLITE_QUERY_ONLY)};
  mw_map_init(&conn->cache);
  mw_list_init(&conn->recent);
  int mode = flags & MW_SQLITE_READ_ONLY_FILE ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  if (mode & SQLITE_OPEN_CREATE) make_private(path);
  int rc = sqlite3_open_v2(path, &conn->db, mode | SQLITE_OPEN_NOMUTEX, choose_vfs());
  if (rc == SQLITE_OK) {
    configure_conn(conn, flags);
    rc = run_pragmas(conn, flags);
  }
  if (rc == SQLITE_OK) return 0;
  int code = mw_sqlite_fail(conn, rc, err);
  mw_err_wrap(err, "open %s", path);
  mw_sqlite_conn_close(conn);
  return code;
}

void mw_sqlite_stmt_free(mw_sqlite_stmt *stmt) {
  sqlite3_finalize(stmt->stmt);
  mw_free(stmt->sql);
  mw_free(stmt);
}

void mw_sqlite_conn_close(mw_sqlite_conn *conn) {
  if (!conn->db) return;
  for (mw_sqlite_stmt *stmt; (stmt = MW_LIST_POP(&conn->recent, mw_sqlite_stmt, node));) mw_sqlite_stmt_free(stmt);
  mw_map_deinit(&conn->cache);
  conn->trusted = true;
  sqlite3_close_v2(conn->db);
  conn->db = NULL;
}

int mw_sqlite_control(mw_sqlite_conn *conn, const char *sql) {
  bool was = conn->trusted;
  conn->trusted = true;
  int rc = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
  conn->trusted = was;
  return rc;
}

int mw_sqlite_check_place(mw_sqlite_conn *conn) {
  int moved = 0;
  int rc = sqlite3_file_control(conn->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  return rc == SQLITE_OK && moved ? SQLITE_READONLY_DBMOVED : SQLITE_OK;
}

// ---- statements ----

/** The number in "$12" or "?12"; 0: a name. */
static int number_of(const char *name) {
  if (*name != '$' && *name != '?') return 0;
  char *end;
  errno = 0;
  long number = strtol(name + 1, &end, 10);
  return *end || errno || number < 1 || number > 32766 ? 0 : (int)number;
}

static int count_params(sqlite3_stmt *stmt, int *out, mw_err *err) {
  int highest = 0;
  for (int i = 1, n = sqlite3_bind_parameter_count(stmt); i <= n; i++) {
    const char *name = sqlite3_bind_parameter_name(stmt, i);
    int number = name ? number_of(name) : i; // no name: "?", or a gap below "?5"
    if (!number) return mw_err_set(err, MW_EINVALID, "the placeholder %s is a name: write $1, $2 …", name);
    if (number > highest) highest = number;
  }
  *out = highest;
  return 0;
}

/** True when `text` has nothing but white space, semicolons and comments. */
static bool is_blank_sql(const char *text, const char *end) {
  while (text < end) {
    if (strchr(" \t\r\n\f;", *text)) {
      text++;
    } else if (end - text >= 2 && text[0] == '-' && text[1] == '-') {
      const char *line = memchr(text, '\n', (size_t)(end - text));
      text = line ? line : end;
    } else if (end - text >= 2 && text[0] == '/' && text[1] == '*') {
      const char *close = memmem(text + 2, (size_t)(end - text - 2), "*/", 2);
      text = close ? close + 2 : end;
    } else {
      return false;
    }
  }
  return true;
}

/** The same with the place in the statement's text, in characters as PostgreSQL counts them. */
static int fail_at(mw_sqlite_conn *conn, mw_str sql, int rc, mw_err *err) {
  int offset = sqlite3_error_offset(conn->db), characters = 1, code = mw_sqlite_fail(conn, rc, err);
  if (code != MW_ESQL || offset < 0 || (size_t)offset > sql.len || !err) return code;
  for (int i = 0; i < offset; i++) characters += ((unsigned char)sql.ptr[i] & 0xc0) != 0x80;
  char words[sizeof err->text];
  snprintf(words, sizeof words, "%s", err->text);
  return mw_err_set(err, code, "%s (at character %d)", words, characters);
}

static int prepare_new(mw_sqlite_conn *conn, mw_str sql, bool persistent, mw_sqlite_stmt **out, mw_err *err) {
  sqlite3_stmt *raw = NULL;
  const char *tail = NULL;
  conn->refused = NULL;
  if (conn->guarded && sql.len >= 6 && mw_str_eq_nocase(mw_str_of(sql.ptr, 6), MW_STR("VACUUM")))
    return mw_err_set(err, MW_EDENIED, "%s", only_app_db);
  int rc = sqlite3_prepare_v3(conn->db, sql.ptr, (int)sql.len, persistent ? SQLITE_PREPARE_PERSISTENT : 0, &raw, &tail);
  if (rc != SQLITE_OK) return fail_at(conn, sql, rc, err);
  if (!raw) return mw_err_set(err, MW_EINVALID, "there is no statement in the SQL text");
  int params = 0, code = 0;
  if (!is_blank_sql(tail, sql.ptr + sql.len))
    code = mw_err_set(err, MW_EINVALID, "one statement at a time: there is more after the first one");
  if (!code) code = count_params(raw, &params, err);
  if (code) {
    sqlite3_finalize(raw);
    return code;
  }
  mw_sqlite_stmt *stmt = MW_NEW(mw_sqlite_stmt);
  *stmt = (mw_sqlite_stmt){.stmt = raw, .sql = mw_strndup(sql.ptr, sql.len), .len = sql.len, .params = params};
  mw_list_init(&stmt->node);
  *out = stmt;
  return 0;
}

int mw_sqlite_prepare(mw_sqlite_conn *conn, mw_str sql, mw_sqlite_stmt **out, bool *owned, mw_err *err) {
  *owned = sql.len > CACHE_MAX_SQL;
  if (*owned) return prepare_new(conn, sql, false, out, err);
  mw_sqlite_stmt *stmt = mw_map_get(&conn->cache, sql);
  if (!stmt) {
    int code = prepare_new(conn, sql, true, &stmt, err);
    if (code) return code;
    if (conn->cache.count >= CACHE_STATEMENTS) {
      mw_sqlite_stmt *oldest = MW_LIST_POP(&conn->recent, mw_sqlite_stmt, node);
      mw_map_remove(&conn->cache, mw_str_of(oldest->sql, oldest->len));
      mw_sqlite_stmt_free(oldest);
    }
    mw_map_set(&conn->cache, sql, stmt);
  } else {
    mw_list_remove(&stmt->node);
  }
  mw_list_push(&conn->recent, &stmt->node);
  *out = stmt;
  return 0;
}

// ---- errors ----

static const struct {
  int rc;
  const char *name;
} result_names[] = {
#define N(name) {name, #name}
    N(SQLITE_ERROR), N(SQLITE_INTERNAL), N(SQLITE_PERM), N(SQLITE_ABORT), N(SQLITE_BUSY), N(SQLITE_LOCKED), N(SQLITE_NOMEM),
    N(SQLITE_READONLY), N(SQLITE_INTERRUPT), N(SQLITE_IOERR), N(SQLITE_CORRUPT), N(SQLITE_NOTFOUND), N(SQLITE_FULL),
    N(SQLITE_CANTOPEN), N(SQLITE_PROTOCOL), N(SQLITE_SCHEMA), N(SQLITE_TOOBIG), N(SQLITE_CONSTRAINT), N(SQLITE_MISMATCH),
    N(SQLITE_MISUSE), N(SQLITE_NOLFS), N(SQLITE_AUTH), N(SQLITE_RANGE), N(SQLITE_NOTADB),
    N(SQLITE_CONSTRAINT_CHECK), N(SQLITE_CONSTRAINT_COMMITHOOK), N(SQLITE_CONSTRAINT_FOREIGNKEY),
    N(SQLITE_CONSTRAINT_FUNCTION), N(SQLITE_CONSTRAINT_NOTNULL), N(SQLITE_CONSTRAINT_PRIMARYKEY),
    N(SQLITE_CONSTRAINT_TRIGGER), N(SQLITE_CONSTRAINT_UNIQUE), N(SQLITE_CONSTRAINT_ROWID), N(SQLITE_CONSTRAINT_DATATYPE),
    N(SQLITE_IOERR_READ), N(SQLITE_IOERR_SHORT_READ), N(SQLITE_IOERR_WRITE), N(SQLITE_IOERR_FSYNC),
    N(SQLITE_IOERR_TRUNCATE), N(SQLITE_IOERR_FSTAT), N(SQLITE_IOERR_SHMSIZE), N(SQLITE_IOERR_SHMMAP), N(SQLITE_IOERR_NOMEM),
    N(SQLITE_BUSY_SNAPSHOT), N(SQLITE_BUSY_RECOVERY), N(SQLITE_READONLY_DBMOVED), N(SQLITE_READONLY_CANTINIT),
    N(SQLITE_CANTOPEN_ISDIR), N(SQLITE_CANTOPEN_FULLPATH), N(SQLITE_CORRUPT_VTAB), N(SQLITE_CORRUPT_INDEX),
#undef N
};

const char *mw_sqlite_result_name(int extended_rc) {
  for (int rc = extended_rc;; rc &= 0xff) {
    for (size_t i = 0; i < sizeof result_names / sizeof *result_names; i++)
      if (result_names[i].rc == rc) return result_names[i].name;
    if (rc == (rc & 0xff)) return "SQLITE_ERROR";
  }
}

bool mw_sqlite_is_environment(int rc) {
  switch (rc & 0xff) {
    case SQLITE_IOERR: case SQLITE_FULL: case SQLITE_CORRUPT: case SQLITE_NOTADB: case SQLITE_CANTOPEN: case SQLITE_READONLY:
    case SQLITE_NOMEM: case SQLITE_BUSY: case SQLITE_LOCKED: case SQLITE_PROTOCOL: case SQLITE_PERM: return true;
    default: return false;
  }
}

/** A commit that failed does not tell the system's reason. */
static bool is_read_only(const char *path) {
  struct statvfs fs;
  return !statvfs(path, &fs) && (fs.f_flag & ST_RDONLY);
}

static int fail_full(const mw_sqlite_conn *conn, mw_err *err) {
  return mw_err_set(err, MW_EIO, "the disk is full: nothing was written to %s; free some space, and it goes on by itself", conn->path);
}

int mw_sqlite_fail(mw_sqlite_conn *conn, int rc, mw_err *err) {
  bool told = conn->db && sqlite3_errcode(conn->db) != SQLITE_OK; // else `rc` is not from the connection's last call
  const char *words = told ? sqlite3_errmsg(conn->db) : sqlite3_errstr(rc);
  switch (rc & 0xff) {
    case SQLITE_CONSTRAINT: return mw_err_set(err, MW_ECONSTRAINT, "%s", words);
    case SQLITE_AUTH: return mw_err_set(err, MW_EDENIED, "%s", conn->refused ? conn->refused : words);
    case SQLITE_TOOBIG: return mw_err_set(err, MW_ELIMIT, "a text, blob or statement is too large for the database (64 MiB, 1 MiB)");
    case SQLITE_NOMEM: return mw_err_set(err, MW_EMEMORY, "the database ran out of memory");
    case SQLITE_FULL: return fail_full(conn, err);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return mw_err_set(err, MW_EBUSY, "another program holds a lock on %s (%s)", conn->path, words);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return mw_err_set(err, MW_EIO, "%s is damaged (%s): stop the server and restore the last backup with `moonwatch restore`", conn->path,
                                             words);
    case SQLITE_READONLY:
      if (conn->only_reads)
        return mw_err_set(err, MW_EDENIED, "%s is open for reading only: %s", conn->path, words);
      if (rc == SQLITE_READONLY_DBMOVED)
        return mw_err_set(err, MW_EIO, "%s was moved or deleted while the server runs: nothing is stored any more; stop the server, put the "
                          "data folder back and start it again", conn->path);
      return mw_err_set(err, MW_EIO, "%s cannot be written: %s", conn->path, words);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_PROTOCOL: {
      int number = conn->db ? sqlite3_system_errno(conn->db) : 0;
      if (number == ENOSPC || number == EDQUOT) return fail_full(conn, err);
      if (number == EROFS || is_read_only(conn->path))
        return mw_err_set(err, MW_EIO, "%s is on a file system that is mounted read-only: look for disk errors and mount it for writing", conn->path);
      return mw_err_set(err, MW_EIO, "%s: %s%s%s%s", conn->path, words, number ? ": " : "", number ? strerror(number) : "",
                        rc & 0xff00 ? "; look for errors of the disk in the kernel's log" : "");
    }
    case SQLITE_INTERRUPT: return mw_err_set(err, MW_ECANCELED, "the statement was cancelled");
    default: return mw_err_set(err, MW_ESQL, "%s", words);
  }
}
