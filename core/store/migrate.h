// SPDX-License-Identifier: MIT
#pragma once

// Migrations of the engine database: NNNN_name.up.sql and .down.sql, linked into the program, each applied in one transaction under a
// lock (advisory on PostgreSQL, the data lock on SQLite), recorded in `schema_migrations` with a checksum. Blocking: runs before
// the server serves, or in the command line. On SQLite the database is copied beside itself before a change.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct mw_store mw_store;

typedef struct mw_migration {
  int version;
  const char *name;
  bool applied;
  int64_t applied_us;
} mw_migration;

/** Brings the schema up to date. MW_EVERSION when the database was made by a newer program, or an applied file differs. Returns 0 and the number
 *  applied in `*count`. MW_EUNAVAILABLE when PostgreSQL does not answer. */
int mw_migrate_up(mw_store *store, int *count, mw_err *err);
/** Whether mw_migrate_up could do it: MW_EVERSION as there, else 0 and how many are not applied. Changes nothing. */
int mw_migrate_check(mw_store *store, size_t *pending, mw_err *err);
/** Undoes the last `steps`. */
int mw_migrate_down(mw_store *store, int steps, int *count, mw_err *err);
/** Lists all; the caller frees `*list` with mw_free. */
int mw_migrate_status(mw_store *store, mw_migration **list, size_t *count, mw_err *err);
/** Returns the newest version that this program has for an engine ("sqlite", "postgres"). */
int mw_migrate_newest(const char *engine);
