// SPDX-License-Identifier: MIT
#include "app/project.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PATH = 4200 };

static int make_parents(const char *path, mw_err *err) {
  char part[MAX_PATH];
  if (strlen(path) >= sizeof part) return mw_err_set(err, MW_EINVALID, "%.40s…: the name is too long", path);
  snprintf(part, sizeof part, "%s", path);
  for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(part, 0777) && errno != EEXIST) return mw_err_set(err, MW_EIO, "%s: %s", part, strerror(errno));
    *slash = '/';
  }
  return 0;
}

static int write_all(int fd, mw_str text) {
  while (text.len) {
    ssize_t n = write(fd, text.ptr, text.len);
    if (n < 0) return -errno;
    text = mw_str_of(text.ptr + n, text.len - (size_t)n);
  }
  return 0;
}

int mw_project_write(const char *path, mw_str text, bool *written, mw_err *err) {
  int rc = make_parents(path, err);
  if (rc) return rc;
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  *written = fd >= 0;
  if (fd < 0) return errno == EEXIST ? 0 : mw_err_set(err, MW_EIO, "%s: %s", path, strerror(errno));
  rc = write_all(fd, text);
  if (close(fd) && !rc) rc = -errno;
  return rc ? mw_err_set(err, MW_EIO, "%s: %s", path, strerror(-rc)) : 0;
}

int mw_project_replace(const char *path, mw_str text, mw_err *err) {
  char fresh[MAX_PATH + 8];
  bool written;
  snprintf(fresh, sizeof fresh, "%s.new", path);
  unlink(fresh); // of a run that was interrupted
  int rc = mw_project_write(fresh, text, &written, err);
  if (rc) return rc;
  if (!written) return mw_err_set(err, MW_EIO, "%s: somebody else writes it", fresh);
  if (rename(fresh, path) == 0) return 0;
  rc = mw_err_set(err, MW_EIO, "%s: %s", path, strerror(errno));
  unlink(fresh);
  return rc;
}
