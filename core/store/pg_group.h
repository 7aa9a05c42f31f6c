// SPDX-License-Identifier: MIT
#pragma once

// Group commit: the writes that come while a group is being committed make the next one. Creates and appends
// have a lane each, with one group of each under way, so the order of an execution's writes is kept. A group is
// one implicit transaction with a Sync of its own. A group that fails for the fault of a member is run again in
// halves, until the culprit stands alone and gets the error.
//
// When the connection is lost, appends wait and are sent again (a row that is there already with the same fence
// counts as written); creates are answered MW_EUNAVAILABLE, and those that may have been committed and would
// run here are put up for claiming once the database is back, so that no execution is owned by a node that does
// not know of it. The same happens to what a claim took whose answer was lost.

#include "store/journal.h"

typedef struct mw_pg_writer mw_pg_writer;
typedef struct mw_pg_groups mw_pg_groups;

mw_pg_groups *mw_pg_groups_new(mw_pg_writer *writer);
/** Answers what is left with `err`. After the connection was closed. */
void mw_pg_groups_free(mw_pg_groups *groups, const mw_err *err);
int mw_pg_groups_write(mw_pg_groups *groups, const mw_write *write, mw_write_cb cb, void *arg);
/** A claim was sent and had no answer: whatever carries its token is put up for claiming again, for a minute. */
void mw_pg_groups_note_claim(mw_pg_groups *groups, int64_t token);
bool mw_pg_groups_are_idle(const mw_pg_groups *groups);
void mw_pg_groups_on_up(mw_pg_groups *groups);
void mw_pg_groups_on_down(mw_pg_groups *groups, const mw_err *err);
