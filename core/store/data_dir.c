// SPDX-License-Identifier: MIT
#include "store/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"

#define LOCK_TRIES 20
#define LOCK_WAIT_US 20000

static void path_in(const char *dir, const char *name, char *path, size_t size) { snprintf(path, size, "%s/%s", dir, name); }

// ---- the folder ----

static int make_dirs(const char *path) {
  char *copy = mw_strdup(path);
  int rc = 0;
  for (char *p = copy + 1; !rc && *p; p++) {
    if (*p != '/') continue;
    *p = 0;
    if (mkdir(copy, 0700) && errno != EEXIST) rc = errno;
    *p = '/';
  }
  if (!rc && mkdir(copy, 0700) && errno != EEXIST) rc = errno;
  mw_free(copy);
  return rc;
}

int mw_data_dir_make(const char *path, mw_err *err) {
  struct stat st;
  int why = make_dirs(path);
  if (!stat(path, &st) && !S_ISDIR(st.st_mode))
    return mw_err_set(err, MW_EIO, "the data folder %s is a file: move it away, or choose another folder with --data", path);
  if (why == EROFS)
    return mw_err_set(err, MW_EIO, "cannot make the data folder %s: the file system is mounted read-only; choose another with --data", path);
  if (why) return mw_err_set(err, MW_EIO, "cannot make the data folder %s: %s; make it, or choose another with --data", path, strerror(why));
  if (!access(path, R_OK | W_OK | X_OK)) return 0;
  if (errno == EROFS)
    return mw_err_set(err, MW_EIO, "the data folder %s is on a file system that is mounted read-only: mount it for writing", path);
  return mw_err_set(err, MW_EIO, "the data folder %s cannot be written by user %ld: chown it to that user, or choose another with --data", path,
                    (long)geteuid());
}

// Root may restore or migrate for the user whose folder it is, who has to be able to open what is made then.
static void give_to_owner(const char *dir, int fd) {
  struct stat st;
  if (geteuid() == 0 && !stat(dir, &st) && st.st_uid != 0 && fchown(fd, st.st_uid, st.st_gid)) return; // it is then said when it is opened
}

// ---- the lock ----

static int lock_patiently(int fd) {
  for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK || i == LOCK_TRIES) return errno;
    usleep(LOCK_WAIT_US);
  }
  return 0;
}

static long read_pid(int fd) {
  char text[32];
  ssize_t n = pread(fd, text, sizeof text - 1, 0);
  return n > 0 ? (text[n] = 0, strtol(text, NULL, 10)) : 0;
}

static int write_pid(int fd) {
  char text[32];
  int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
  if (ftruncate(fd, 0)) return errno;
  ssize_t n = pwrite(fd, text, (size_t)len, 0);
  return n == len ? 0 : n < 0 ? errno : ENOSPC;
}

static int refuse_lock(const char *dir, const char *path, int why, long pid, mw_err *err) {
  if (why != EWOULDBLOCK) return mw_err_set(err, MW_EIO, "cannot lock %s: %s", path, strerror(why));
  return mw_err_set(err, MW_ELOCKED, "the data directory %s is in use by process %ld: stop it, or choose another with --data", dir, pid);
}

int mw_data_dir_lock(const char *dir, int *out, mw_err *err) {
  char path[4096];
  path_in(dir, "moonwatch.lock", path, sizeof path);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return mw_err_set(err, MW_EIO, "cannot open %s: %s", path, strerror(errno));
  give_to_owner(dir, fd);
  int why = lock_patiently(fd), code = 0;
  if (why) code = refuse_lock(dir, path, why, read_pid(fd), err);
  // Only a name for others to see: a full disk must not keep a server from its data.
  else if ((why = write_pid(fd)) && why != ENOSPC && why != EDQUOT) code = mw_err_set(err, MW_EIO, "cannot write %s: %s", path, strerror(why));
  if (code) close(fd);
  else *out = fd;
  return code;
}

long mw_data_dir_holder(const char *dir) {
  char path[4096];
  path_in(dir, "moonwatch.lock", path, sizeof path);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? 0 : -1;
  long pid = 0;
  // Shared and for a moment; whoever wants the lock meanwhile tries again.
  if (flock(fd, LOCK_SH | LOCK_NB)) pid = errno == EWOULDBLOCK ? read_pid(fd) : -1;
  close(fd);
  return pid;
}

// ---- the node ----

static int write_node_id(const char *dir, const char *path, mw_id *id, mw_err *err) {
  char text[MW_ID_TEXT + 1], part[4100];
  *id = mw_id_new();
  mw_id_format(id, text);
  strcat(text, "\n");
  snprintf(part, sizeof part, "%s.new", path);
  int fault = MW_FAULT(file_open);
  int fd = fault ? -1 : open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd >= 0) give_to_owner(dir, fd);
  if (!fault) fault = MW_FAULT(file_write);
  bool ok = fd >= 0 && !fault && write(fd, text, MW_ID_TEXT) == MW_ID_TEXT;
  if (ok) ok = !(fault = MW_FAULT(file_sync)) && fsync(fd) == 0;
  int why = fault ? -fault : errno;
  if (fd >= 0) close(fd);
  if (ok && rename(part, path)) ok = false, why = errno;
  return ok ? 0 : mw_err_set(err, MW_EIO, "cannot write %s: %s", path, strerror(why));
}

int mw_data_dir_node_id(const char *dir, bool make, mw_id *id, mw_err *err) {
  char path[4096], text[64] = "";
  path_in(dir, "node.id", path, sizeof path);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return make ? write_node_id(dir, path, id, err) : 0;
  ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
  int why = errno;
  if (fd >= 0) close(fd);
  if (n < 0) return mw_err_set(err, MW_EIO, "cannot read %s: %s", path, strerror(why));
  if (n >= MW_ID_TEXT - 1 && mw_id_parse(mw_str_of(text, MW_ID_TEXT - 1), id)) return 0;
  return mw_err_set(err, MW_EINVALID, "%s does not hold an id: delete it and a new one is made", path);
}

// ---- a restore ----

int mw_data_dir_check_restored(const char *dir, mw_err *err) {
  char path[4096];
  path_in(dir, MW_DATA_DIR_RESTORING, path, sizeof path);
  if (access(path, F_OK)) return 0;
  return mw_err_set(err, MW_EINVALID, "a restore into %s was cut short, so that its databases do not belong together: run `moonwatch restore` again",
                    dir);
}
