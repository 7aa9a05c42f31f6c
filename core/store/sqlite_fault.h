// SPDX-License-Identifier: MIT
#pragma once

// The fault points of SQLite's files: a VFS that hands everything on to the system's own, and fails opening, reading,
// writing and fsync where sqlite_open, sqlite_read, sqlite_write and sqlite_sync are armed (base/fault.h). So what follows
// (rollback, recovery of the log, what is answered) is SQLite's and ours, as on a bad disk. MW_DEBUG only.

#ifdef MW_DEBUG
/** Returns the name to open a database with; NULL (the system's VFS) when it cannot be made. Thread-safe. */
const char *mw_sqlite_fault_vfs(void);
#else
static inline const char *mw_sqlite_fault_vfs(void) { return 0; }
#endif
