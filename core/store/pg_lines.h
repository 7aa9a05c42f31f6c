// SPDX-License-Identifier: MIT
#pragma once

// The command lines that back a PostgreSQL database up and restore it, with PostgreSQL's own tools. They name the database as the
// configuration does, but no password.

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

typedef struct mw_pg_lines {
  const char *database_url;
  const char *app_url; /**< The application database when it is another one, else "" or NULL. */
  const char *schema;
  const char *file;
} mw_pg_lines;

/** Appends shell lines for sh: pg_dump of the database (of one moment, Moonwatch's tables and the application's), and of the application's when
 *  that is another one. MW_ECONFIG when a URL does not parse. */
int mw_pg_lines_backup(const mw_pg_lines *lines, mw_buf *out, mw_err *err);
/** The same for pg_restore into a database where these tables are not yet. */
int mw_pg_lines_restore(const mw_pg_lines *lines, mw_buf *out, mw_err *err);
