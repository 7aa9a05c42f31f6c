// SPDX-License-Identifier: MIT
#include "store/sqlite_health.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "store/sqlite.h"

#define ENOUGH_BYTES (1024 * 1024) // less room than this would be gone with the next few groups

void mw_sqlite_health_init(mw_sqlite_health *health) {
  *health = (mw_sqlite_health){0};
  pthread_mutex_init(&health->lock, NULL);
}

void mw_sqlite_health_deinit(mw_sqlite_health *health) { pthread_mutex_destroy(&health->lock); }

bool mw_sqlite_health_is_ill(const mw_sqlite_health *health) { return atomic_load_explicit(&health->is_ill, memory_order_relaxed); }

void mw_sqlite_health_why(mw_sqlite_health *health, char *text, size_t size) {
  pthread_mutex_lock(&health->lock);
  snprintf(text, size, "%s", health->why);
  pthread_mutex_unlock(&health->lock);
}

static void set_why(mw_sqlite_health *health, const char *why) {
  pthread_mutex_lock(&health->lock);
  snprintf(health->why, sizeof health->why, "%s", why);
  pthread_mutex_unlock(&health->lock);
}

void mw_sqlite_health_passed(mw_sqlite_health *health, const char *path) {
  if (!mw_sqlite_health_is_ill(health) || health->is_damaged) return;
  atomic_store(&health->is_ill, false);
  set_why(health, "");
  mw_log(MW_LOG_INFO, "store", "the database can be written again", MW_LOG_S("file", path));
}

void mw_sqlite_health_failed(mw_sqlite_health *health, const char *path, int rc, const mw_err *err) {
  if (health->is_damaged) return;
  health->is_damaged = (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
  set_why(health, err->text);
  if (atomic_exchange(&health->is_ill, true) && !health->is_damaged) return;
  mw_log(MW_LOG_ERROR, "store", "the database cannot be written; what needs it answers 503 until it can", MW_LOG_S("file", path),
         MW_LOG_S("error", err->text));
}

static bool has_room(const char *path) {
  struct statvfs fs;
  return statvfs(path, &fs) || (unsigned long long)fs.f_bavail * fs.f_frsize >= ENOUGH_BYTES;
}

// Setting a number in the header writes a page even when it was the same before.
static int write_a_little(mw_sqlite_conn *conn) {
  int rc = mw_sqlite_control(conn, "BEGIN IMMEDIATE");
  if (!rc) rc = mw_sqlite_control(conn, "PRAGMA user_version=0");
  if (!rc) rc = mw_sqlite_check_place(conn);
  return rc ? rc : mw_sqlite_control(conn, "COMMIT");
}

void mw_sqlite_health_probe(mw_sqlite_health *health, mw_sqlite_conn *conn) {
  mw_err err;
  if (health->is_damaged || !has_room(conn->path)) return;
  int rc = write_a_little(conn);
  if (rc) {
    mw_sqlite_fail(conn, rc, &err);
    mw_sqlite_health_failed(health, conn->path, rc, &err);
  }
  if (!sqlite3_get_autocommit(conn->db)) mw_sqlite_control(conn, "ROLLBACK");
  if (!rc) mw_sqlite_health_passed(health, conn->path);
}
