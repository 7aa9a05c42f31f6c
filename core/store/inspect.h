// SPDX-License-Identifier: MIT
#pragma once

// Facts about a database, for `moonwatch doctor`: looked at from outside, in use or not. Nothing is changed, not even a log file appears
// beside a database that nobody uses. Blocking.

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct mw_inspect_sqlite {
  bool exists;
  int schema;          /**< 0: none yet. */
  int64_t bytes, wal_bytes;
  int64_t newest_us;   /**< When a server last started on it; 0: never. */
  int64_t unfinished;  /**< Executions. */
} mw_inspect_sqlite;

/** Looks at moonwatch.db of a folder. MW_EIO: damaged or unreadable. */
int mw_inspect_sqlite_file(const char *data_dir, mw_inspect_sqlite *out, mw_err *err);
/** Runs integrity_check on one of its files, which reads all of it; 0 also when the file is not there. */
int mw_inspect_sqlite_deep(const char *data_dir, const char *name, mw_err *err);

typedef struct mw_inspect_postgres {
  int version_number;      /**< 150004 is 15.4. */
  char version[64];
  int schema;              /**< Version of Moonwatch's schema; 0: none yet. */
  char synchronous_commit[16], fsync[8];
  int max_connections, used_connections;
  bool read_only, in_recovery, is_pooled;
  int64_t ahead_us;        /**< How far its clock is before ours. */
  int64_t answer_us;       /**< Time of one question. */
  int64_t bytes;
} mw_inspect_postgres;

/** Connects (at most 10 s unless the URL says otherwise) and asks (each at most 5 s). MW_EUNAVAILABLE, MW_ECONFIG, MW_ESQL. */
int mw_inspect_postgres_url(const char *url, const char *schema, mw_inspect_postgres *out, mw_err *err);
