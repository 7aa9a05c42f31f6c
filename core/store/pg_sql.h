// SPDX-License-Identifier: MIT
#pragma once

// A look at a PostgreSQL statement before it is sent: how many placeholders it has, that it is one statement,
// and that it does not change the connection it runs on, which other tasks share. Pure. It reads the lexical
// structure (strings, dollar quotes, comments, names) and no grammar; the server parses.
//
//   mw_pg_sql sql;
//   if ((rc = mw_pg_sql_check(text, false, &sql, &err))) return rc;     // MW_EDENIED: "BEGIN … use
//   mw.transaction"

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

typedef struct mw_pg_sql {
  int placeholders;    /**< The highest `$n`. */
  bool leaves_session; /**< It changes the session beyond its transaction (SET, DECLARE … WITH HOLD, PREPARE,
                          temporary tables …). */
} mw_pg_sql;

/** Checks one statement, alone or (`in_tx`) inside a transaction that Moonwatch controls. Returns 0; MW_EDENIED
 * with the fix; MW_EINVALID for a NUL byte, an empty text or more than one statement. */
int mw_pg_sql_check(mw_str text, bool in_tx, mw_pg_sql *sql, mw_err *err);
