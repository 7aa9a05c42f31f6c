// SPDX-License-Identifier: MIT
#include "store/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define PATIENCE_MS 10000
#define STEP_PAGES 256
#define BUSY_PAUSE_MS 5

typedef struct source {
  const char *name;
  sqlite3 *db;
} source;

typedef struct taker {
  const mw_snapshot *what;
  source sources[MW_SNAPSHOT_MAX];
  sqlite3 *watch; // a second connection to the first file: sees whether it was committed to
} taker;

static int fail(sqlite3 *db, int rc, const char *name, mw_err *err) {
  const char *words = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
  int number = db ? sqlite3_system_errno(db) : 0;
  switch (rc & 0xff) {
    case SQLITE_FULL: return mw_err_set(err, MW_EIO, "%s: the disk is full: free some space, or write to another one", name);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return mw_err_set(err, MW_EIO, "%s is damaged (%s): restore the last backup with `moonwatch restore`", name, words);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return mw_err_set(err, MW_EBUSY, "%s is locked by another program (%s): try again", name, words);
    default: return mw_err_set(err, MW_EIO, "%s: %s%s%s", name, words, number ? ": " : "", number ? strerror(number) : "");
  }
}

static int open_file(const char *dir, const char *name, int flags, sqlite3 **db, mw_err *err) {
  char path[4200];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  int rc = sqlite3_open_v2(path, db, flags | SQLITE_OPEN_NOMUTEX, NULL);
  if (rc == SQLITE_OK) {
    sqlite3_extended_result_codes(*db, 1);
    sqlite3_busy_timeout(*db, PATIENCE_MS);
    return 0;
  }
  int code = fail(*db, rc, name, err);
  sqlite3_close_v2(*db);
  *db = NULL;
  return code;
}

// ---- one moment ----

static int read_number(sqlite3 *db, const char *sql, int64_t *out) {
  sqlite3_stmt *stmt = NULL;
  int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
  if (rc == SQLITE_ROW) *out = sqlite3_column_int64(stmt, 0), rc = SQLITE_OK;
  sqlite3_finalize(stmt);
  return rc;
}

static int pin(sqlite3 *db) {
  int64_t ignored;
  int rc = sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
  return rc ? rc : read_number(db, "SELECT count(*) FROM sqlite_master", &ignored);
}

static void unpin(taker *t) {
  for (int i = 0; i < t->what->count; i++)
    if (!sqlite3_get_autocommit(t->sources[i].db)) sqlite3_exec(t->sources[i].db, "ROLLBACK", NULL, NULL, NULL);
}

static int try_pin(taker *t, bool *still, mw_err *err) {
  int64_t before = 0, after = 0;
  int rc = read_number(t->watch, "PRAGMA data_version", &before);
  if (rc) return fail(t->watch, rc, t->what->names[0], err);
  for (int i = 0; i < t->what->count; i++) {
    source *s = &t->sources[i];
    rc = pin(s->db);
    if (rc) return fail(s->db, rc, s->name, err);
  }
  rc = read_number(t->watch, "PRAGMA data_version", &after);
  *still = before == after;
  return rc ? fail(t->watch, rc, t->what->names[0], err) : 0;
}

static int pin_all(taker *t, mw_err *err) {
  int64_t give_up_ms = mw_clock_mono_ms() + PATIENCE_MS;
  bool still = false;
  for (;;) {
    int code = try_pin(t, &still, err);
    if (code || still) return code;
    unpin(t);
    if (mw_clock_mono_ms() > give_up_ms)
      return mw_err_set(err, MW_EBUSY, "the server commits without a pause: no moment was found at which the files belong together; try again");
    usleep(200);
  }
}

// ---- the copy ----

static bool is_stopped(const taker *t) { return t->what->stop && *t->what->stop; }

static int run_copy(taker *t, source *s, sqlite3_backup *backup, sqlite3 *to, mw_err *err) {
  int64_t give_up_ms = mw_clock_mono_ms() + PATIENCE_MS;
  for (;;) {
    int rc = sqlite3_backup_step(backup, STEP_PAGES);
    if (rc == SQLITE_DONE) return 0;
    if (is_stopped(t)) return mw_err_set(err, MW_ECANCELED, "stopped");
    if (rc == SQLITE_OK) {
      give_up_ms = mw_clock_mono_ms() + PATIENCE_MS;
    } else if ((rc != SQLITE_BUSY && rc != SQLITE_LOCKED) || mw_clock_mono_ms() > give_up_ms) {
      // The step says what, the destination in which words.
      return fail((rc & 0xff) == (sqlite3_errcode(to) & 0xff) ? to : NULL, rc, s->name, err);
    } else usleep(BUSY_PAUSE_MS * 1000);
  }
}

static int sync_file(const char *path, mw_err *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  int rc = fd < 0 || fsync(fd) ? errno : 0;
  if (fd >= 0) close(fd);
  return rc ? mw_err_set(err, MW_EIO, "cannot sync %s: %s", path, strerror(rc)) : 0;
}

static int copy(taker *t, source *s, mw_err *err) {
  char path[4200];
  sqlite3 *to = NULL;
  snprintf(path, sizeof path, "%s/%s", t->what->to_dir, s->name);
  if (unlink(path) && errno != ENOENT) return mw_err_set(err, MW_EIO, "cannot replace %s: %s", path, strerror(errno));
  int code = open_file(t->what->to_dir, s->name, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &to, err);
  if (code) return code;
  sqlite3_exec(to, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", NULL, NULL, NULL);
  sqlite3_backup *backup = sqlite3_backup_init(to, "main", s->db, "main");
  if (!backup) code = fail(to, sqlite3_errcode(to), s->name, err);
  else {
    code = run_copy(t, s, backup, to, err);
    sqlite3_backup_finish(backup);
  }
  sqlite3_close_v2(to);
  if (!code) code = sync_file(path, err);
  return code ? code : mw_snapshot_check(path, err);
}

static int open_all(taker *t, mw_err *err) {
  const mw_snapshot *what = t->what;
  int code = open_file(what->from_dir, what->names[0], SQLITE_OPEN_READONLY, &t->watch, err);
  for (int i = 0; !code && i < what->count; i++) {
    t->sources[i].name = what->names[i];
    code = open_file(what->from_dir, what->names[i], SQLITE_OPEN_READONLY, &t->sources[i].db, err);
  }
  return code;
}

int mw_snapshot_take(const mw_snapshot *snapshot, mw_err *err) {
  taker t = {.what = snapshot};
  int code = open_all(&t, err);
  if (!code) code = pin_all(&t, err);
  for (int i = 0; !code && i < snapshot->count; i++) {
    code = copy(&t, &t.sources[i], err);
    sqlite3_close_v2(t.sources[i].db); // its log may start over
    t.sources[i].db = NULL;
  }
  for (int i = 0; i < snapshot->count; i++) sqlite3_close_v2(t.sources[i].db);
  sqlite3_close_v2(t.watch);
  return code;
}

// ---- looking at a copy ----

void mw_snapshot_uri(const char *path, bool immutable, char *uri, size_t size) {
  size_t at = (size_t)snprintf(uri, size, "file:");
  for (; *path && at + 16 < size; path++) {
    bool plain = *path != '%' && *path != '?' && *path != '#';
    at += (size_t)snprintf(uri + at, size - at, plain ? "%c" : "%%%02X", (unsigned char)*path);
  }
  if (immutable) snprintf(uri + at, size - at, "?immutable=1");
}

/** Opens a file as one that nobody changes, so that neither a log nor a lock appears beside it. */
static int open_immutable(const char *path, sqlite3 **db, mw_err *err) {
  char uri[3 * 4200];
  mw_snapshot_uri(path, true, uri, sizeof uri);
  int rc = sqlite3_open_v2(uri, db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
  if (rc == SQLITE_OK) return 0;
  int code = fail(*db, rc, path, err);
  sqlite3_close_v2(*db);
  *db = NULL;
  return code;
}

int mw_snapshot_check(const char *path, mw_err *err) {
  sqlite3 *db = NULL;
  sqlite3_stmt *stmt = NULL;
  int code = open_immutable(path, &db, err);
  if (code) return code;
  int rc = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL);
  if (!rc) rc = sqlite3_step(stmt);
  if (rc != SQLITE_ROW) code = fail(db, rc, path, err);
  else {
    const char *found = (const char *)sqlite3_column_text(stmt, 0);
    if (!found || strcmp(found, "ok"))
      code = mw_err_set(err, MW_EIO, "%s is damaged (%s): restore the last backup with `moonwatch restore`", path, found ? found : "?");
  }
  sqlite3_finalize(stmt);
  sqlite3_close_v2(db);
  return code;
}

int mw_snapshot_version(const char *path, int *version, mw_err *err) {
  sqlite3 *db = NULL;
  int64_t number = 0;
  *version = 0;
  int code = open_immutable(path, &db, err);
  if (code) return code;
  int rc = read_number(db, "SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'", &number);
  if (!rc && number) rc = read_number(db, "SELECT coalesce(max(version), 0) FROM schema_migrations", &number);
  if (rc) code = fail(db, rc, path, err);
  else *version = (int)number;
  sqlite3_close_v2(db);
  return code;
}
