// SPDX-License-Identifier: MIT
#include "http/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

bool mw_beneath_allows(mw_str path) {
  mw_str rest = path, part;
  if (!path.len || path.len > MW_BENEATH_MAX_PATH || path.ptr[path.len - 1] == '/') return false;
  for (size_t i = 0; i < path.len; i++) {
    unsigned char c = (unsigned char)path.ptr[i];
    if (c < 0x20 || c == 0x7f) return false;
  }
  for (bool first = true; rest.len && mw_str_split(&rest, '/', &part); first = false) {
    if (!part.len || (part.ptr[0] == '.' && !(first && mw_str_eq(part, MW_STR(".well-known"))))) return false;
  }
  return true;
}

static int open_resolved(int folder, const char *path, int flags) {
  struct open_how how = {.flags = (uint64_t)flags, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  for (int tries = 0;; tries++) {
    int fd = (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN || tries == 8) return fd; // EAGAIN: something was renamed meanwhile
  }
}

static bool name_of(int fd, char name[PATH_MAX]) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, name, PATH_MAX - 1);
  if (n <= 0) return false;
  name[n] = 0;
  return true;
}

static bool lies_beneath(int fd, int folder) {
  char file[PATH_MAX], root[PATH_MAX];
  if (!name_of(fd, file) || !name_of(folder, root)) return false;
  size_t len = strlen(root);
  return strcmp(root, "/") == 0 || (strncmp(file, root, len) == 0 && (file[len] == '/' || !file[len]));
}

// Links may lead anywhere inside, so what was opened is looked at, not how it was found. Nothing happens to it: it is open as a path only.
static int open_checked(int folder, const char *path, int flags) {
  int place = openat(folder, path, O_PATH | O_CLOEXEC);
  if (place < 0) return -1;
  int fd = -1;
  errno = EXDEV;
  if (lies_beneath(place, folder)) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", place);
    fd = flags & O_PATH ? dup(place) : open(link, flags);
  }
  int error = errno;
  close(place);
  errno = error;
  return fd;
}

static int open_beneath(int folder, const char *path, int flags, bool old_kernel) {
  static atomic_bool has_none; // ENOSYS, or EPERM by a container's filter
  if (!old_kernel && !atomic_load(&has_none)) {
    int fd = open_resolved(folder, path, flags);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd;
    if (errno == ENOSYS) atomic_store(&has_none, true);
  }
  return open_checked(folder, path, flags);
}

static int fail(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM ? MW_EUNAVAILABLE : error == EIO ? MW_EIO : MW_ENOTFOUND;
}

static int look(int fd, mw_beneath_file *file) {
  struct stat st;
  if (fstat(fd, &st)) return fail(errno);
  file->is_folder = S_ISDIR(st.st_mode);
  if (!S_ISREG(st.st_mode)) return MW_ENOTFOUND;
  file->size = (uint64_t)st.st_size;
  file->inode = (uint64_t)st.st_ino;
  file->modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
  return 0;
}

// Looked at as a path first, because opening a device can do things.
static int open_in(int folder, const char *path, bool old_kernel, mw_beneath_file *file) {
  int place = open_beneath(folder, path, O_PATH | O_CLOEXEC, old_kernel);
  if (place < 0) return fail(errno);
  int rc = look(place, file);
  close(place);
  if (rc) return rc;
  file->fd = open_beneath(folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, old_kernel);
  if (file->fd < 0) return fail(errno);
  rc = look(file->fd, file);
  if (!rc) return 0;
  close(file->fd);
  file->fd = -1;
  return rc;
}

int mw_beneath_open(const char *folder, mw_str path, int flags, mw_beneath_file *file) {
  char name[MW_BENEATH_MAX_PATH + 1];
  *file = (mw_beneath_file){.fd = -1};
  if (!mw_beneath_allows(path)) return MW_ENOTFOUND;
  memcpy(name, path.ptr, path.len);
  name[path.len] = 0;
  int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? MW_ECONFIG : fail(errno);
  int rc = open_in(root, name, flags & MW_BENEATH_OLD_KERNEL, file);
  close(root);
  return rc;
}
