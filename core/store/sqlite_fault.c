// SPDX-License-Identifier: MIT
#include "store/sqlite_fault.h"

#ifdef MW_DEBUG

#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

#include "base/fault.h"

// Ours stands in front of the system's file in one block, whose size is szOsFile.
typedef struct file {
  sqlite3_file base;
  sqlite3_file *real;
} file;

#define REAL(f) (((file *)(f))->real)
#define CALL(f, method, ...) REAL(f)->pMethods->method(REAL(f), ##__VA_ARGS__)

static sqlite3_vfs *system_vfs;

// Later SQLite asks for the errno of what failed.
static __thread int last_errno;

static int failed(int fault, int rc) {
  last_errno = fault > -4096 ? -fault : EIO;
  return fault == -ENOSPC ? SQLITE_FULL : rc;
}

static int do_read(sqlite3_file *f, void *to, int len, sqlite3_int64 at) {
  int fault = MW_FAULT(sqlite_read);
  return fault ? failed(fault, SQLITE_IOERR_READ) : CALL(f, xRead, to, len, at);
}

static int do_write(sqlite3_file *f, const void *from, int len, sqlite3_int64 at) {
  int fault = MW_FAULT(sqlite_write);
  return fault ? failed(fault, SQLITE_IOERR_WRITE) : CALL(f, xWrite, from, len, at);
}

static int do_sync(sqlite3_file *f, int flags) {
  int fault = MW_FAULT(sqlite_sync);
  return fault ? failed(fault, SQLITE_IOERR_FSYNC) : CALL(f, xSync, flags);
}

static int do_close(sqlite3_file *f) { return CALL(f, xClose); }
static int do_truncate(sqlite3_file *f, sqlite3_int64 size) { return CALL(f, xTruncate, size); }
static int do_size(sqlite3_file *f, sqlite3_int64 *size) { return CALL(f, xFileSize, size); }
static int do_lock(sqlite3_file *f, int level) { return CALL(f, xLock, level); }
static int do_unlock(sqlite3_file *f, int level) { return CALL(f, xUnlock, level); }
static int do_check_lock(sqlite3_file *f, int *out) { return CALL(f, xCheckReservedLock, out); }
static int do_control(sqlite3_file *f, int op, void *arg) { return CALL(f, xFileControl, op, arg); }
static int do_sector(sqlite3_file *f) { return CALL(f, xSectorSize); }
static int do_traits(sqlite3_file *f) { return CALL(f, xDeviceCharacteristics); }
static int do_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out) {
  return CALL(f, xShmMap, page, size, extend, out);
}
static int do_shm_lock(sqlite3_file *f, int offset, int n, int flags) { return CALL(f, xShmLock, offset, n, flags); }
static void do_shm_barrier(sqlite3_file *f) { CALL(f, xShmBarrier); }
static int do_shm_unmap(sqlite3_file *f, int remove) { return CALL(f, xShmUnmap, remove); }
static int do_fetch(sqlite3_file *f, sqlite3_int64 at, int len, void **out) { return CALL(f, xFetch, at, len, out); }
static int do_unfetch(sqlite3_file *f, sqlite3_int64 at, void *page) { return CALL(f, xUnfetch, at, page); }

static const sqlite3_io_methods methods = {
    .iVersion = 3, .xClose = do_close, .xRead = do_read, .xWrite = do_write, .xTruncate = do_truncate, .xSync = do_sync,
    .xFileSize = do_size, .xLock = do_lock, .xUnlock = do_unlock, .xCheckReservedLock = do_check_lock,
    .xFileControl = do_control, .xSectorSize = do_sector, .xDeviceCharacteristics = do_traits, .xShmMap = do_shm_map,
    .xShmLock = do_shm_lock, .xShmBarrier = do_shm_barrier, .xShmUnmap = do_shm_unmap, .xFetch = do_fetch,
    .xUnfetch = do_unfetch,
};

static int do_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out_flags) {
  file *own = (file *)f;
  own->base.pMethods = NULL;
  own->real = (sqlite3_file *)(own + 1);
  int fault = MW_FAULT(sqlite_open);
  if (fault) return failed(fault, SQLITE_CANTOPEN);
  int rc = system_vfs->xOpen(system_vfs, name, own->real, flags, out_flags);
  if (own->real->pMethods) own->base.pMethods = &methods;
  return rc;
}

static int do_last_error(sqlite3_vfs *vfs, int len, char *text) {
  if (!last_errno) return system_vfs->xGetLastError ? system_vfs->xGetLastError(system_vfs, len, text) : 0;
  int number = last_errno;
  last_errno = 0;
  return number;
}

static sqlite3_vfs fault_vfs;

static void make(void) {
  system_vfs = sqlite3_vfs_find(NULL);
  if (!system_vfs) return;
  fault_vfs = *system_vfs; // what is not replaced is called with our pAppData, which is the system's
  fault_vfs.zName = "moonwatch-fault";
  fault_vfs.pNext = NULL;
  fault_vfs.szOsFile += (int)sizeof(file);
  fault_vfs.xOpen = do_open;
  fault_vfs.xGetLastError = do_last_error;
  if (sqlite3_vfs_register(&fault_vfs, 0)) system_vfs = NULL;
}

const char *mw_sqlite_fault_vfs(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make);
  return system_vfs ? fault_vfs.zName : NULL;
}

#else

typedef int mw_sqlite_fault_is_not_here;

#endif
