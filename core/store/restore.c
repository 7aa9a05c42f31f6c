// SPDX-License-Identifier: MIT
// Restoring: the archive is unpacked into DATA/restore.new and compared; then, with a mark in the folder that tells of a crash, what was there is
// renamed into a folder of its own and the new files to their places.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "store/archive.h"
#include "store/backup.h"
#include "store/data_dir.h"
#include "store/migrate.h"

#define PATH_SIZE 4300
#define MIB (1024 * 1024)

static const char *const names[] = {"moonwatch.db", "app.db", "telemetry.db"};
enum { NAMES = 3 };

typedef struct work {
  const mw_restore *what;
  mw_manifest *manifest;
  int fd, lock_fd;
  char stage[PATH_SIZE - 100];
  bool force; // asked for, or an earlier restore was cut short here
} work;

static void path_in(const char *dir, const char *name, char path[PATH_SIZE]) { snprintf(path, PATH_SIZE, "%s/%s", dir, name); }

static bool exists(const char *dir, const char *name) {
  char path[PATH_SIZE];
  path_in(dir, name, path);
  return access(path, F_OK) == 0;
}

static void sync_dir(const char *dir) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

// ---- the archive ----

static int open_file(work *w, mw_err *err) {
  if (strcmp(w->what->file, "-") == 0) w->fd = STDIN_FILENO;
  else if ((w->fd = open(w->what->file, O_RDONLY | O_CLOEXEC)) < 0)
    return mw_err_set(err, MW_ENOTFOUND, "cannot open %s: %s", w->what->file, strerror(errno));
  return 0;
}

static int read_manifest(work *w, mw_err *err) {
  mw_archive_member member;
  mw_buf text = MW_BUF_INIT;
  int code = mw_archive_next(w->fd, &member, err);
  if (!code && strcmp(member.name, MW_MANIFEST_NAME)) code = mw_err_set(err, MW_EINVALID, "it does not begin with " MW_MANIFEST_NAME);
  if (!code) code = mw_archive_get_text(w->fd, &member, MW_MANIFEST_MAX_BYTES, &text, err);
  if (!code) code = mw_manifest_read(w->manifest, mw_buf_str(&text), err);
  mw_buf_deinit(&text);
  return code;
}

static bool is_ours(const char *name) {
  for (int i = 0; i < NAMES; i++)
    if (strcmp(names[i], name) == 0) return true;
  return false;
}

static int check_manifest(const work *w, mw_err *err) {
  const mw_manifest *m = w->manifest;
  int known = mw_migrate_newest("sqlite");
  if (m->schema > known)
    return mw_err_set(err, MW_EVERSION, "it was made by Moonwatch %s with schema %d, and this program knows schemas up to %d: restore it with that "
                      "version or a newer one", m->moonwatch, m->schema, known);
  if (mw_manifest_find(m, names[0]) < 0) return mw_err_set(err, MW_EINVALID, "it holds no moonwatch.db");
  for (int i = 0; i < m->count; i++)
    if (!is_ours(m->files[i].name)) return mw_err_set(err, MW_EINVALID, "it holds %s, which no Moonwatch wrote", m->files[i].name);
  return 0;
}

static int get_file(const work *w, const mw_archive_member *member, int to, mw_err *err) {
  int i = mw_manifest_find(w->manifest, member->name);
  uint8_t sum[MW_SHA256_LEN];
  char text[65];
  if (i < 0) return mw_err_set(err, MW_EINVALID, "it holds %s, which its manifest does not name", member->name);
  if (member->size != w->manifest->files[i].bytes) return mw_err_set(err, MW_EINVALID, "its %s has another size than its manifest says", member->name);
  int code = mw_archive_get(w->fd, member, to, sum, err);
  for (int k = 0; k < MW_SHA256_LEN; k++) snprintf(text + 2 * k, 3, "%02x", sum[k]);
  if (!code && strcmp(text, w->manifest->files[i].sha256))
    code = mw_err_set(err, MW_EINVALID, "its %s is damaged: the SHA-256 differs from the manifest's", member->name);
  return code;
}

static int open_staged(const work *w, const char *name, mw_err *err) {
  char path[PATH_SIZE];
  struct stat st;
  path_in(w->stage, name, path);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return mw_err_set(err, MW_EIO, "cannot make %s: %s", path, strerror(errno));
  // Root restores for the user whose folder it is.
  if (geteuid() == 0 && !stat(w->what->data_dir, &st) && fchown(fd, st.st_uid, st.st_gid)) {
    close(fd);
    return mw_err_set(err, MW_EIO, "cannot give %s to the owner of the data folder: %s", path, strerror(errno));
  }
  return fd;
}

static int stage_file(const work *w, const mw_archive_member *member, mw_err *err) {
  if (w->what->only_check) return get_file(w, member, -1, err);
  if (!is_ours(member->name)) return mw_err_set(err, MW_EINVALID, "it holds %s, which its manifest does not name", member->name);
  int fd = open_staged(w, member->name, err);
  if (fd < 0) return fd;
  int code = get_file(w, member, fd, err);
  if (!code && fsync(fd)) code = mw_err_set(err, MW_EIO, "cannot sync %s: %s", member->name, strerror(errno));
  if (close(fd) && !code) code = mw_err_set(err, MW_EIO, "cannot close %s: %s", member->name, strerror(errno));
  return code;
}

static int stage_all(const work *w, mw_err *err) {
  bool seen[MW_SNAPSHOT_MAX] = {false};
  mw_archive_member member;
  for (;;) {
    int code = mw_archive_next(w->fd, &member, err);
    if (code) return code;
    if (!*member.name) break;
    int i = mw_manifest_find(w->manifest, member.name);
    if (i >= 0 && seen[i]) return mw_err_set(err, MW_EINVALID, "it holds %s twice", member.name);
    code = stage_file(w, &member, err);
    if (code) return code;
    seen[i] = true;
    if (w->what->stop && *w->what->stop) return mw_err_set(err, MW_ECANCELED, "stopped");
  }
  for (int i = 0; i < w->manifest->count; i++)
    if (!seen[i]) return mw_err_set(err, MW_EINVALID, "its manifest names %s and it is not there", w->manifest->files[i].name);
  return 0;
}

// ---- the folder ----

static int check_folder(work *w, mw_err *err) {
  const char *dir = w->what->data_dir;
  w->force = w->what->force || exists(dir, MW_DATA_DIR_RESTORING);
  for (int i = 0; !w->force && i < NAMES; i++)
    if (exists(dir, names[i]))
      return mw_err_set(err, MW_EEXISTS, "there is a %s in %s already: give --force to move the old files aside (nothing is deleted), or choose another "
                        "folder with --data", names[i], dir);
  return 0;
}

static int check_space(const work *w, mw_err *err) {
  struct statvfs fs;
  int64_t need = mw_manifest_bytes(w->manifest);
  if (statvfs(w->what->data_dir, &fs)) return 0;
  int64_t has = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
  if (has > need) return 0;
  return mw_err_set(err, MW_EIO, "the backup needs %lld MiB in %s and %lld MiB are free", (long long)(need / MIB + 1), w->what->data_dir,
                    (long long)(has / MIB));
}

static void clear_stage(const work *w) {
  char path[PATH_SIZE];
  if (!*w->stage) return;
  for (int i = 0; i < NAMES; i++) {
    path_in(w->stage, names[i], path);
    unlink(path);
  }
  rmdir(w->stage);
}

static int make_stage(work *w, mw_err *err) {
  snprintf(w->stage, sizeof w->stage, "%s/restore.new", w->what->data_dir);
  clear_stage(w);
  if (!mkdir(w->stage, 0700)) return 0;
  int why = errno;
  char stage[sizeof w->stage];
  memcpy(stage, w->stage, sizeof stage);
  *w->stage = 0;
  return mw_err_set(err, MW_EIO, "cannot make %s: %s", stage, strerror(why));
}

/** The manifest could be forged, the schema in the file is what a server would run on. */
static int check_schema(const work *w, mw_err *err) {
  char path[PATH_SIZE];
  int version = 0;
  path_in(w->stage, names[0], path);
  int code = mw_snapshot_version(path, &version, err);
  if (!code && version != w->manifest->schema)
    code = mw_err_set(err, MW_EINVALID, "its moonwatch.db is at schema %d and its manifest says %d", version, w->manifest->schema);
  return code;
}

// ---- the renames ----

static int mark(const work *w, mw_err *err) {
  char path[PATH_SIZE];
  path_in(w->what->data_dir, MW_DATA_DIR_RESTORING, path);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || fsync(fd)) return mw_err_set(err, MW_EIO, "cannot make %s: %s", path, strerror(errno));
  close(fd);
  sync_dir(w->what->data_dir);
  return 0;
}

static void unmark(const work *w) {
  char path[PATH_SIZE];
  sync_dir(w->what->data_dir);
  path_in(w->what->data_dir, MW_DATA_DIR_RESTORING, path);
  unlink(path);
  sync_dir(w->what->data_dir);
}

static int move(const char *from_dir, const char *to_dir, const char *name, mw_err *err) {
  char from[PATH_SIZE], to[PATH_SIZE];
  path_in(from_dir, name, from);
  path_in(to_dir, name, to);
  if (access(from, F_OK) && errno == ENOENT) return 0;
  int fault = MW_FAULT(file_rename);
  if (!fault && !rename(from, to)) return 0;
  return mw_err_set(err, MW_EIO, "cannot rename %s to %s: %s; run the restore again", from, to, strerror(fault ? -fault : errno));
}

static int make_aside(const work *w, mw_buf *aside, mw_err *err) {
  char stamp[32];
  struct tm tm;
  time_t now = time(NULL);
  strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
  for (int i = 0; i < 100; i++) {
    mw_buf_reset(aside, 4096);
    mw_buf_printf(aside, i ? "%s/before-restore-%s.%d" : "%s/before-restore-%s", w->what->data_dir, stamp, i);
    if (!mkdir(mw_buf_cstr(aside), 0700)) return 0;
    if (errno != EEXIST) break;
  }
  return mw_err_set(err, MW_EIO, "cannot make %s: %s", mw_buf_cstr(aside), strerror(errno));
}

// A log belongs to its database: left beside another one it would be played into it. And without the old id the next server makes
// itself a new one: two folders of one origin are two nodes.
static int move_aside(const work *w, mw_buf *aside, mw_err *err) {
  static const char *const old[] = {"moonwatch.db", "moonwatch.db-wal", "moonwatch.db-shm", "app.db", "app.db-wal", "app.db-shm",
                                    "telemetry.db", "telemetry.db-wal", "telemetry.db-shm", "node.id"};
  bool any = false;
  for (size_t i = 0; i < sizeof old / sizeof *old; i++) any = any || exists(w->what->data_dir, old[i]);
  int code = any ? make_aside(w, aside, err) : 0;
  for (size_t i = 0; any && !code && i < sizeof old / sizeof *old; i++) code = move(w->what->data_dir, mw_buf_cstr(aside), old[i], err);
  return code;
}

static int swap(const work *w, mw_buf *aside, mw_err *err) {
  int code = mark(w, err);
  if (!code) code = move_aside(w, aside, err);
  for (int i = NAMES; !code && i-- > 0;) code = move(w->stage, w->what->data_dir, names[i], err);
  if (!code) unmark(w);
  return code;
}

// ---- the whole ----

static int check_only(work *w, mw_err *err) {
  int code = read_manifest(w, err);
  if (!code) code = check_manifest(w, err);
  return code ? code : stage_all(w, err);
}

static int restore(work *w, mw_buf *aside, mw_err *err) {
  int code = read_manifest(w, err);
  if (!code) code = check_manifest(w, err);
  if (code) return mw_err_wrap(err, "%s", w->what->file), code;
  code = mw_data_dir_make(w->what->data_dir, err);
  if (!code) code = mw_data_dir_lock(w->what->data_dir, &w->lock_fd, err);
  if (!code) code = check_folder(w, err);
  if (!code) code = check_space(w, err);
  if (!code) code = make_stage(w, err);
  if (code) return code;
  code = stage_all(w, err);
  if (!code) code = check_schema(w, err);
  if (code) return mw_err_wrap(err, "%s", w->what->file), code;
  return swap(w, aside, err);
}

int mw_backup_restore(const mw_restore *what, mw_manifest *manifest, mw_buf *aside, mw_err *err) {
  work w = {.what = what, .manifest = manifest, .fd = -1, .lock_fd = -1};
  if (strlen(what->data_dir) > MW_DATA_DIR_MAX) return mw_err_set(err, MW_EINVALID, "the path of the data folder is too long");
  int code = open_file(&w, err);
  if (!code && what->only_check) {
    code = check_only(&w, err);
    if (code) mw_err_wrap(err, "%s", what->file);
  } else if (!code) code = restore(&w, aside, err);
  clear_stage(&w);
  if (w.fd > STDIN_FILENO) close(w.fd);
  if (w.lock_fd >= 0) close(w.lock_fd);
  return code;
}
