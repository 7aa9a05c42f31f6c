// SPDX-License-Identifier: MIT
// Checks of the data folder: whose it is, its file system, its space, what a sync costs.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "app/doctor.h"
#include "base/clock.h"
#include "store/data_dir.h"

#define MIB (1024 * 1024)
#define SYNCS 7
#define SLOW_SYNC_US 20000

static bool is_there(const mw_doctor *d) {
  struct stat st;
  return !stat(d->conf->data, &st) && S_ISDIR(st.st_mode);
}

static void check_folder(mw_doctor *d) {
  static const char what[] = "data folder";
  const char *dir = d->conf->data;
  struct stat st;
  mw_err err;
  if (stat(dir, &st)) {
    if (errno == ENOENT) mw_doctor_ok(d, what, "%s is not there yet; the first start makes it", dir);
    else mw_doctor_fail(d, what, "%s: %s", dir, strerror(errno));
  } else if (!S_ISDIR(st.st_mode)) mw_doctor_fail(d, what, "%s is a file: move it away, or choose another folder with --data", dir);
  else if (access(dir, R_OK | W_OK | X_OK))
    mw_doctor_fail(d, what, "%s belongs to user %u and cannot be written by user %u (%s): chown it", dir, st.st_uid, geteuid(), strerror(errno));
  else if (mw_data_dir_check_restored(dir, &err)) mw_doctor_fail(d, what, "%s", err.text);
  else if (st.st_mode & 077) mw_doctor_warn(d, what, "%s can be read by others (mode %03o): chmod 700 %s", dir, st.st_mode & 0777, dir);
  else mw_doctor_ok(d, what, "%s, user %u, mode %03o", dir, st.st_uid, st.st_mode & 0777);
}

static void check_space(mw_doctor *d) {
  static const char what[] = "data space";
  struct statvfs fs;
  if (!is_there(d)) return;
  if (statvfs(d->conf->data, &fs)) return mw_doctor_fail(d, what, "cannot be read: %s", strerror(errno));
  long long free_mib = (long long)(fs.f_bavail * fs.f_frsize / MIB);
  double part = fs.f_blocks ? 100.0 * (double)fs.f_bavail / (double)fs.f_blocks : 100;
  if (fs.f_flag & ST_RDONLY) mw_doctor_fail(d, what, "the file system is mounted read-only: mount it for writing");
  else if (free_mib < 64) mw_doctor_fail(d, what, "%lld MiB are free: make room, the server refuses work when the disk is full", free_mib);
  else if (free_mib < 1024 || part < 5) mw_doctor_warn(d, what, "%lld MiB (%.0f %%) are free: make room soon", free_mib, part);
  else if (fs.f_files && fs.f_favail < 1000) mw_doctor_warn(d, what, "%llu inodes are free: remove files", (unsigned long long)fs.f_favail);
  else mw_doctor_ok(d, what, "%lld MiB (%.0f %%) are free", free_mib, part);
}

static void check_file_system(mw_doctor *d) {
  static const char what[] = "data file system";
  static const struct { unsigned long type; const char *name; mw_doctor_level level; } known[] = {
      {0xEF53, "ext4", MW_DOCTOR_OK}, {0x58465342, "XFS", MW_DOCTOR_OK}, {0x9123683E, "Btrfs", MW_DOCTOR_OK}, {0x2FC12FC1, "ZFS", MW_DOCTOR_OK},
      {0xF2F52010, "F2FS", MW_DOCTOR_OK}, {0x6969, "NFS", MW_DOCTOR_FAIL}, {0x517B, "SMB", MW_DOCTOR_FAIL}, {0xFF534D42, "CIFS", MW_DOCTOR_FAIL},
      {0xFE534D42, "SMB2", MW_DOCTOR_FAIL}, {0x01021997, "9P", MW_DOCTOR_FAIL}, {0x00C36400, "Ceph", MW_DOCTOR_FAIL},
      {0x01021994, "tmpfs", MW_DOCTOR_WARN}, {0x794C7630, "overlay", MW_DOCTOR_WARN}, {0x65735546, "FUSE", MW_DOCTOR_WARN}};
  struct statfs fs;
  bool sqlite = !mw_config_is_postgres(d->conf);
  if (!is_there(d) || statfs(d->conf->data, &fs)) return;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (known[i].type != (unsigned long)(fs.f_type & 0xFFFFFFFF)) continue;
    const char *name = known[i].name;
    if (known[i].level == MW_DOCTOR_OK || !sqlite) mw_doctor_ok(d, what, "%s", name);
    else if (known[i].level == MW_DOCTOR_FAIL)
      mw_doctor_warn(d, what, "%s: SQLite needs locks and shared memory that network file systems do not keep: use a local disk, or PostgreSQL", name);
    else if (strcmp(name, "tmpfs") == 0) mw_doctor_warn(d, what, "tmpfs: all of it is gone after a restart of the machine: use a disk");
    else if (strcmp(name, "overlay") == 0) mw_doctor_warn(d, what, "overlay: it is gone with the container: mount a volume there");
    else mw_doctor_warn(d, what, "%s: make sure that it keeps locks and syncs", name);
    return;
  }
  mw_doctor_ok(d, what, "type %lx", (unsigned long)fs.f_type);
}

static int by_value(const void *a, const void *b) { return (*(const int64_t *)a > *(const int64_t *)b) - (*(const int64_t *)a < *(const int64_t *)b); }

// In a file without a name, so that nothing is left whatever happens.
static void check_sync(mw_doctor *d) {
  static const char what[] = "data sync";
  int64_t took_us[SYNCS];
  char block[4096] = {0};
  if (!is_there(d)) return;
  int fd = open(d->conf->data, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EOPNOTSUPP) return mw_doctor_ok(d, what, "not measured: the file system has no files without names");
  if (fd < 0) return mw_doctor_fail(d, what, "cannot make a file: %s", strerror(errno));
  for (int i = 0; i < SYNCS; i++) {
    int64_t began_ns = mw_clock_mono_ns();
    if (pwrite(fd, block, sizeof block, (off_t)i * (off_t)sizeof block) != sizeof block || fsync(fd))
      return mw_doctor_fail(d, what, "writing and syncing a file failed: %s", strerror(errno));
    took_us[i] = (mw_clock_mono_ns() - began_ns) / 1000;
  }
  qsort(took_us, SYNCS, sizeof *took_us, by_value);
  double ms = (double)took_us[SYNCS / 2] / 1000;
  if (took_us[SYNCS / 2] > SLOW_SYNC_US)
    mw_doctor_warn(d, what, "a sync takes %.1f ms, so an answer to a trigger does as well: use a faster disk", ms);
  else mw_doctor_ok(d, what, "a sync takes %.2f ms", ms);
}

const mw_doctor_check mw_doctor_data_checks[] = {
    {.name = "data folder", .run = check_folder, .timeout_ms = 5000},
    {.name = "data space", .run = check_space, .timeout_ms = 5000},
    {.name = "data file system", .run = check_file_system, .timeout_ms = 5000},
    {.name = "data sync", .run = check_sync, .timeout_ms = 10000, .engine = 1},
    {.name = NULL},
};
