// SPDX-License-Identifier: MIT
// The blocking connection of migrations on SQLite. The data lock keeps other processes away.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "store/sqlite.h"

struct mw_admin {
  mw_sqlite_conn conn;
  char *path;
};

static int open_admin(mw_store *store, mw_admin **out, mw_err *err) {
  mw_admin *admin = MW_NEW(mw_admin);
  size_t size = strlen(store->data_dir) + sizeof "/moonwatch.db";
  admin->path = mw_alloc(size);
  snprintf(admin->path, size, "%s/moonwatch.db", store->data_dir);
  int code = mw_sqlite_conn_open(&admin->conn, admin->path, store->exclusive ? 0 : MW_SQLITE_READ_ONLY_FILE, err);
  if (code) {
    mw_free(admin->path);
    mw_free(admin);
    return code;
  }
  *out = admin;
  return 0;
}

static void close_admin(mw_admin *admin) {
  mw_sqlite_conn_close(&admin->conn);
  mw_free(admin->path);
  mw_free(admin);
}

static int step_rows(mw_admin *admin, sqlite3_stmt *stmt, mw_admin_row_cb cb, void *arg, mw_err *err) {
  const char *texts[16];
  int rc, columns = sqlite3_column_count(stmt);
  while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
    for (int i = 0; i < columns && i < 16; i++) texts[i] = (const char *)sqlite3_column_text(stmt, i);
    if (cb) cb(arg, columns < 16 ? columns : 16, texts);
  }
  return rc == SQLITE_DONE ? 0 : mw_sqlite_fail(&admin->conn, rc, err);
}

static int exec_admin(mw_admin *admin, mw_str sql, mw_admin_row_cb cb, void *arg, mw_err *err) {
  const char *at = sql.ptr, *end = sql.ptr + sql.len;
  while (at < end) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(admin->conn.db, at, (int)(end - at), &stmt, &at);
    if (rc) return mw_sqlite_fail(&admin->conn, rc, err);
    if (!stmt) continue; // a comment
    int code = step_rows(admin, stmt, cb, arg, err);
    sqlite3_finalize(stmt);
    if (code) return code;
  }
  return 0;
}

static void count_table(void *arg, int columns, const char *const *texts) { *(int *)arg = texts[0] && *texts[0] != '0'; }

static int copy_to(mw_admin *admin, const char *copy, mw_err *err) {
  char *sql = sqlite3_mprintf("VACUUM INTO %Q", copy);
  unlink(copy);
  int code = exec_admin(admin, mw_str_from(sql), NULL, NULL, err);
  sqlite3_free(sql);
  if (code) return code;
  int fd = open(copy, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fchmod(fd, 0600) || fsync(fd)) code = mw_err_set(err, MW_EIO, "cannot sync %s: %s", copy, strerror(errno));
  if (fd >= 0) close(fd);
  return code;
}

/** Copies the database to moonwatch.db.before-migration, unless it is still empty. The copy before is kept until this one is whole. */
static int before_change(mw_admin *admin, mw_err *err) {
  int has_tables = 0;
  int code = exec_admin(admin, MW_STR("SELECT count(*) FROM sqlite_master WHERE name = 'executions'"), count_table, &has_tables, err);
  if (code || !has_tables) return code;
  char *copy = sqlite3_mprintf("%s.before-migration", admin->path);
  char *part = sqlite3_mprintf("%s.new", copy);
  code = copy_to(admin, part, err);
  if (!code && rename(part, copy)) code = mw_err_set(err, MW_EIO, "cannot rename %s: %s", part, strerror(errno));
  if (code) {
    unlink(part);
    mw_err_wrap(err, "the schema is not changed, because the database cannot be copied beside itself first (free some space)");
  }
  sqlite3_free(part);
  sqlite3_free(copy);
  return code;
}

const mw_admin_ops mw_admin_sqlite = {open_admin, close_admin, exec_admin, before_change};
