// SPDX-License-Identifier: MIT
#pragma once

// mw_admin: a blocking connection to the engine database, for migrations and the command line. Private to this layer. One
// transaction at a time; the connection holds the migration lock while it is open (advisory on PostgreSQL; on SQLite the data lock
// does it). `{{schema}}` in SQL stands for the configured schema on PostgreSQL.

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct mw_store mw_store;
typedef struct mw_admin mw_admin;

/** One row; texts are borrowed until it returns and NULL where the column is. */
typedef void (*mw_admin_row_cb)(void *arg, int columns, const char *const *texts);

typedef struct mw_admin_ops {
  int (*open)(mw_store *store, mw_admin **out, mw_err *err);
  void (*close)(mw_admin *admin);
  /** Runs any number of statements; `cb` (may be NULL) gets the rows. */
  int (*exec)(mw_admin *admin, mw_str sql, mw_admin_row_cb cb, void *arg, mw_err *err);
  /** Prepares for a change of the schema (SQLite: copies the database beside itself). Before the transaction. */
  int (*before_change)(mw_admin *admin, mw_err *err);
} mw_admin_ops;

extern const mw_admin_ops mw_admin_sqlite;
extern const mw_admin_ops mw_admin_postgres;
