// SPDX-License-Identifier: MIT
#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "store/archive.h"
#include "store/data_dir.h"

#define PATH_SIZE 4300
#define MIB (1024 * 1024)
#define ARCHIVE "backup.tar"

static const char *const names[] = {"moonwatch.db", "app.db", "telemetry.db"};

typedef struct work {
  const mw_backup *what;
  bool to_stdout;
  char dir[PATH_SIZE - 100]; // where it is worked in
  int dir_fd;                // locked
  mw_snapshot snapshot;
} work;

static int64_t size_of(const char *dir, const char *name) {
  char path[PATH_SIZE];
  struct stat st;
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return stat(path, &st) ? -1 : st.st_size;
}

// ---- what there is ----

static int find_sources(work *w, mw_err *err) {
  const char *dir = w->what->data_dir;
  if (size_of(dir, names[0]) <= 0)
    return mw_err_set(err, MW_ENOTFOUND, "there is no database in %s: name the data folder with --data", dir);
  w->snapshot = (mw_snapshot){.from_dir = dir, .to_dir = w->dir, .stop = w->what->stop};
  for (int i = 0; i < (w->what->with_telemetry ? 3 : 2); i++)
    if (size_of(dir, names[i]) > 0) w->snapshot.names[w->snapshot.count++] = names[i];
  return 0;
}

// ---- where it is worked in ----

// Removes what a backup makes there, by name: the folder could have been somebody's before.
static void clear_dir(int dir_fd) {
  static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
  char name[40];
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    for (size_t k = 0; k < sizeof tails / sizeof *tails; k++) {
      snprintf(name, sizeof name, "%s%s", names[i], tails[k]);
      unlinkat(dir_fd, name, 0);
    }
  unlinkat(dir_fd, ARCHIVE, 0);
}

// What is copied there is everything that the server knows, and others may write beside FILE: the folder must be ours and closed to them.
static int open_work_dir(work *w, mw_err *err) {
  struct stat st;
  w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (w->dir_fd < 0 && errno != ELOOP && errno != ENOTDIR) return mw_err_set(err, MW_EIO, "cannot open the folder %s: %s", w->dir, strerror(errno));
  bool is_ours = w->dir_fd >= 0 && !fstat(w->dir_fd, &st) && st.st_uid == geteuid() && !(st.st_mode & 077);
  if (is_ours) return 0;
  if (w->dir_fd >= 0) close(w->dir_fd);
  w->dir_fd = -1;
  return mw_err_set(err, MW_EINVALID, "%s is needed as a folder of this user alone, and somebody else made it: remove it, or name another file", w->dir);
}

static int make_work_dir(work *w, mw_err *err) {
  const char *temp = getenv("TMPDIR");
  int rc = 0;
  if (w->to_stdout) {
    snprintf(w->dir, sizeof w->dir, "%s/moonwatch-backup.XXXXXX", temp && *temp ? temp : "/var/tmp");
    if (!mkdtemp(w->dir)) rc = errno;
  } else {
    struct stat st;
    if (!stat(w->what->file, &st) && !S_ISREG(st.st_mode))
      return mw_err_set(err, MW_EINVALID, "%s is there and no file: name a file", w->what->file);
    snprintf(w->dir, sizeof w->dir, "%s.part", w->what->file);
    if (mkdir(w->dir, 0700) && errno != EEXIST) rc = errno;
  }
  if (rc) return mw_err_set(err, MW_EIO, "cannot make the folder %s: %s", w->dir, strerror(rc));
  if ((rc = open_work_dir(w, err))) return rc;
  if (flock(w->dir_fd, LOCK_EX | LOCK_NB)) {
    close(w->dir_fd);
    w->dir_fd = -1;
    return mw_err_set(err, MW_ELOCKED, "another backup writes %s: wait for it, or name another file", w->what->file);
  }
  clear_dir(w->dir_fd); // what a killed backup left
  return 0;
}

static int check_space(const work *w, mw_err *err) {
  struct statvfs fs;
  int64_t need = 0;
  for (int i = 0; i < w->snapshot.count; i++) need += size_of(w->snapshot.from_dir, w->snapshot.names[i]) * (w->to_stdout ? 1 : 2);
  if (statvfs(w->dir, &fs)) return 0;
  int64_t has = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
  if (has > need) return 0;
  return mw_err_set(err, MW_EIO, "a backup needs about %lld MiB in %s and %lld MiB are free: free some space%s", (long long)(need / MIB + 1), w->dir,
                    (long long)(has / MIB), w->to_stdout ? ", or name another folder in TMPDIR" : ", or write to another disk");
}

static void remove_work_dir(work *w) {
  if (w->dir_fd < 0) return;
  clear_dir(w->dir_fd);
  rmdir(w->dir);
  close(w->dir_fd);
}

// ---- the archive ----

static void format_sum(const uint8_t sum[MW_SHA256_LEN], char text[65]) {
  for (int i = 0; i < MW_SHA256_LEN; i++) snprintf(text + 2 * i, 3, "%02x", sum[i]);
}

static int open_copy(const work *w, int i) {
  char path[PATH_SIZE];
  snprintf(path, sizeof path, "%s/%s", w->dir, w->snapshot.names[i]);
  return open(path, O_RDONLY | O_CLOEXEC);
}

static int hash_copy(const work *w, int i, mw_manifest *m, mw_err *err) {
  static char chunk[MIB / 4];
  uint8_t sum[MW_SHA256_LEN];
  long long n = -EIO;
  int fd = open_copy(w, i);
  if (fd < 0) return mw_err_set(err, MW_EIO, "cannot open the copy of %s: %s", w->snapshot.names[i], strerror(errno));
  mw_sha256 *hash = mw_sha256_new();
  while ((n = mw_archive_read(fd, chunk, sizeof chunk)) > 0) {
    mw_sha256_add(hash, chunk, (size_t)n);
    m->files[i].bytes += n;
  }
  mw_sha256_finish(hash, sum);
  close(fd);
  snprintf(m->files[i].name, sizeof m->files[i].name, "%s", w->snapshot.names[i]);
  format_sum(sum, m->files[i].sha256);
  return n < 0 ? mw_err_set(err, MW_EIO, "cannot read the copy of %s: %s", w->snapshot.names[i], strerror((int)-n)) : 0;
}

static int describe(const work *w, mw_manifest *m, mw_err *err) {
  char path[PATH_SIZE];
  *m = (mw_manifest){.format = MW_MANIFEST_FORMAT, .count = w->snapshot.count, .moonwatch = MW_VERSION};
  mw_clock_format(mw_clock_wall_us(), m->created_at);
  snprintf(path, sizeof path, "%s/%s", w->dir, names[0]);
  int code = mw_snapshot_version(path, &m->schema, err);
  for (int i = 0; !code && i < m->count; i++) code = hash_copy(w, i, m, err);
  return code;
}

static int put_files(const work *w, const mw_manifest *m, int to, mw_err *err) {
  int code = 0;
  for (int i = 0; !code && i < m->count; i++) {
    uint8_t sum[MW_SHA256_LEN];
    char text[65];
    int fd = open_copy(w, i);
    if (fd < 0) return mw_err_set(err, MW_EIO, "cannot open the copy of %s: %s", m->files[i].name, strerror(errno));
    code = mw_archive_put(to, m->files[i].name, fd, m->files[i].bytes, sum, err);
    close(fd);
    format_sum(sum, text);
    if (!code && strcmp(text, m->files[i].sha256))
      code = mw_err_set(err, MW_EIO, "the copy of %s changed while it was read: the disk or the memory of this machine is at fault", m->files[i].name);
    if (!code && w->what->stop && *w->what->stop) code = mw_err_set(err, MW_ECANCELED, "stopped");
  }
  return code;
}

static int put_all(const work *w, const mw_manifest *m, int to, mw_err *err) {
  mw_buf text = MW_BUF_INIT;
  mw_manifest_write(m, &text);
  int code = mw_archive_put_text(to, MW_MANIFEST_NAME, mw_buf_str(&text), err);
  mw_buf_deinit(&text);
  if (!code) code = put_files(w, m, to, err);
  return code ? code : mw_archive_end(to, err);
}

/** Syncs the folder that holds `path`, so that a rename in it is on the disk. */
static void sync_parent(const char *path) {
  char dir[PATH_SIZE];
  snprintf(dir, sizeof dir, "%s", path);
  char *slash = strrchr(dir, '/');
  if (slash) slash[slash == dir] = 0;
  int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

static int write_file(const work *w, const mw_manifest *m, mw_err *err) {
  char path[PATH_SIZE];
  snprintf(path, sizeof path, "%s/" ARCHIVE, w->dir);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return mw_err_set(err, MW_EIO, "cannot make %s: %s", path, strerror(errno));
  int code = put_all(w, m, fd, err);
  if (!code && fsync(fd)) code = mw_err_set(err, MW_EIO, "cannot sync %s: %s", path, strerror(errno));
  if (close(fd) && !code) code = mw_err_set(err, MW_EIO, "cannot close %s: %s", path, strerror(errno));
  int fault = code ? 0 : MW_FAULT(file_rename);
  if (!code && (fault || rename(path, w->what->file)))
    code = mw_err_set(err, MW_EIO, "cannot rename to %s: %s", w->what->file, strerror(fault ? -fault : errno));
  if (!code) sync_parent(w->what->file);
  return code;
}

int mw_backup_write(const mw_backup *backup, mw_manifest *manifest, mw_err *err) {
  work w = {.what = backup, .dir_fd = -1, .to_stdout = strcmp(backup->file, "-") == 0};
  if (strlen(backup->file) > MW_DATA_DIR_MAX || strlen(backup->data_dir) > MW_DATA_DIR_MAX)
    return mw_err_set(err, MW_EINVALID, "the path is too long");
  int code = mw_data_dir_check_restored(backup->data_dir, err);
  if (!code) code = find_sources(&w, err);
  if (!code) code = make_work_dir(&w, err);
  if (!code) code = check_space(&w, err);
  if (!code) code = mw_snapshot_take(&w.snapshot, err);
  if (!code) code = describe(&w, manifest, err);
  if (!code) code = w.to_stdout ? put_all(&w, manifest, STDOUT_FILENO, err) : write_file(&w, manifest, err);
  remove_work_dir(&w);
  return code;
}
