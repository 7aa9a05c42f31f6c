// SPDX-License-Identifier: MIT
#pragma once

// mw_late: journal rows that are due to be written together with what comes next, and are written by themselves when that does not
// come soon. The body of an imperative workflow runs on after a step; its result waits here for the next step's attempt. While the
// body computes, the worker's own loop stands still, so another loop does the writing.
//
//   mw_late *late = mw_late_open(store, main_loop, 50);
//   uint64_t ticket = mw_late_add(late, &write);              // on a worker
//   if (mw_late_remove(late, ticket)) … it is ours to write, with more
//   else … it is being written: appending the same row again says when it is durable

#include <stdbool.h>
#include <stdint.h>

#include "store/journal.h"

typedef struct mw_loop mw_loop;
typedef struct mw_late mw_late;

/** On `loop`'s thread. Rows wait `after_ms`, and up to half of that more. */
mw_late *mw_late_open(mw_store *store, mw_loop *loop, int64_t after_ms);
/** Drops the rows that wait, finishes those that are being written; `cb(arg)` comes later. Nobody may add any more. */
void mw_late_close(mw_late *late, void (*cb)(void *arg), void *arg);
/** Keeps a copy of an APPEND. Returns its ticket, never 0. Thread-safe. */
uint64_t mw_late_add(mw_late *late, const mw_write *write);
/** Takes it back; false when it has gone to the store. Thread-safe. */
bool mw_late_remove(mw_late *late, uint64_t ticket);
