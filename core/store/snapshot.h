// SPDX-License-Identifier: MIT
#pragma once

// Copies of the SQLite files of a data folder, all of one moment, while a server may be writing to them. Blocking.
//
// The files are read in read transactions, which in WAL mode neither wait for a writer nor make one wait. To make it one moment, the
// transactions are opened one after the other, and all again if moonwatch.db was committed to in between: then its content stood
// still while that of the others was taken. So a copy is what the disk would hold had the server been killed then. While
// the copies are made the log files cannot start over, and grow by what is written meanwhile.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MW_SNAPSHOT_MAX 4

typedef struct mw_snapshot {
  const char *from_dir, *to_dir; /**< Borrowed. */
  const char *names[MW_SNAPSHOT_MAX]; /**< The first is moonwatch.db. */
  int count;
  const volatile bool *stop; /**< Looked at between pages; may be NULL. True: MW_ECANCELED. */
} mw_snapshot;

/** Writes to_dir/NAME for each name, checked by integrity_check and synced to disk. What it wrote before a failure stays. MW_EBUSY: no quiet
 *  moment within 10 s. */
int mw_snapshot_take(const mw_snapshot *snapshot, mw_err *err);
/** Runs integrity_check on a file nobody writes to, without touching anything beside it. MW_EIO with what SQLite found first. */
int mw_snapshot_check(const char *path, mw_err *err);
/** Reads the version of the schema in a file nobody writes to; 0: no migration was applied. */
int mw_snapshot_version(const char *path, int *version, mw_err *err);
/** Writes the URI by which SQLite opens a path; `immutable`: as a file that nobody changes. `size` is at least three times the path's. */
void mw_snapshot_uri(const char *path, bool immutable, char *uri, size_t size);
