// SPDX-License-Identifier: MIT
#pragma once

// Fault points: places where the world can fail, made to fail on demand. A point stands where its error is handled, so
// that a spec takes the way a user's bad day would take. Only in builds with MW_DEBUG (dev, asan, tsan): elsewhere
// MW_FAULT is the constant 0 and nothing of this is compiled.
//
//   int rc = MW_FAULT(pg_send);      // 0: go on; else the code to fail with, below 0 as everywhere (base/err.h)
//   if (rc) return rc;
//
// Armed from C, from a spec by FFI, or for a whole program by its environment:
//
//   MW_FAULTS="sqlite_commit=error:EIO,after=10,times=1;pg_send=p0.01;sqlite_sync=delay:50ms" MW_FAULT_SEED=7
//
//   error         fails with the point's own code; this is what a point does when no other action is named
//   error:CODE    fails with that one: an errno's name (EIO) or one of ours (timeout; base/err.h)
//   delay:50ms    waits first, on the thread that came by; alone it does not fail
//   crash         ends the process there, as kill -9 does
//   p0.01         does so with this probability (default: every time)
//   after=N       lets the first N pass
//   times=N       does so N times, then never again (default: without end)
//   off           disarms the point
//
// Every point draws from a generator of its own, seeded by MW_FAULT_SEED and its name; a seed that was not given is
// chosen, and printed at the start; a point so armed also says when it acts for the first time. All functions are thread-safe. A point that is not armed costs one load.

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/** name (alphabetical), the code it fails with by itself, what happens */
#define MW_FAULT_TABLE(X)                                                                                      \
  X(dns_lookup, MW_EDNS, "a host name has no address")                                                         \
  X(file_open, -EACCES, "a file of ours cannot be opened or made")                                             \
  X(file_rename, -EIO, "a file of ours cannot be renamed")                                                     \
  X(file_sync, -EIO, "fsync of a file of ours fails")                                                          \
  X(file_watch, -ENOSPC, "a folder cannot be watched")                                                         \
  X(file_write, -ENOSPC, "writing to a file of ours fails")                                                    \
  X(http_client_connect, -ECONNREFUSED, "the client cannot connect to an address")                             \
  X(http_client_read, -ECONNRESET, "the connection breaks when the answer comes")                              \
  X(http_client_reuse, -ECONNRESET, "a kept connection turns out to be dead")                                  \
  X(http_client_timeout, MW_ETIMEOUT, "the time for the whole call is over at once")                           \
  X(http_client_write, -EPIPE, "the connection breaks while the request is sent")                              \
  X(listener_accept, -EMFILE, "a connection cannot be accepted")                                               \
  X(lua_alloc, MW_EMEMORY, "an allocation of a Lua state is refused")                                          \
  X(pg_claim, MW_EUNAVAILABLE, "executions are claimed, and the connection is lost before the answer is seen")   \
  X(pg_commit, MW_EUNAVAILABLE, "a group is committed, and the connection is lost before its answer is seen")  \
  X(pg_connect, MW_EUNAVAILABLE, "PostgreSQL cannot be reached")                                               \
  X(pg_receive, MW_EUNAVAILABLE, "the connection is lost when an answer comes")                                \
  X(pg_send, MW_EUNAVAILABLE, "the connection is lost before a statement is sent")                             \
  X(pg_tx, MW_EUNAVAILABLE, "the connection is lost between two statements of a transaction")                  \
  X(sqlite_checkpoint, -EIO, "the log cannot be copied back into the database")                                \
  X(sqlite_commit, -EIO, "a group cannot be committed")                                                        \
  X(sqlite_open, -EACCES, "a database file, or its log, cannot be opened")                                     \
  X(sqlite_read, -EIO, "a page cannot be read")                                                                \
  X(sqlite_sync, -EIO, "fsync of a database file or its log fails")                                            \
  X(sqlite_write, -ENOSPC, "writing to a database file or its log fails")                                      \
  X(stream_connect, -ECONNREFUSED, "a connection cannot be made")                                              \
  X(stream_read, -ECONNRESET, "a connection breaks when bytes come")                                           \
  X(stream_write, -EPIPE, "a connection breaks while bytes are sent")                                          \
  X(work_submit, MW_EBUSY, "the queue of a work pool is full")

#ifdef MW_DEBUG

typedef enum mw_fault_point {
#define MW_FAULT_ENUM(name, code, what) MW_FAULT_POINT_##name,
  MW_FAULT_TABLE(MW_FAULT_ENUM)
#undef MW_FAULT_ENUM
  MW_FAULT_POINTS
} mw_fault_point;

/** What MW_FAULT asks; private to it. */
extern atomic_bool mw_fault_is_armed[MW_FAULT_POINTS];
int mw_fault_pass(mw_fault_point point);

/** 0 to go on, or the code to fail with. May wait, may end the process. */
#define MW_FAULT(name)                                                                                         \
  (atomic_load_explicit(&mw_fault_is_armed[MW_FAULT_POINT_##name], memory_order_relaxed)                       \
       ? mw_fault_pass(MW_FAULT_POINT_##name)                                                                  \
       : 0)

/* ffi-begin */
/** Arms the points that `text` names, as MW_FAULTS would. All of it or, with MW_EINVALID and a sentence, nothing. A point
 *  armed before starts over. */
int mw_fault_arm(const char *text, uint64_t seed, mw_err *err);
/** Disarms every point. */
void mw_fault_disarm(void);
/** How often the point has acted since it was armed; -1: there is no such point. */
int64_t mw_fault_fired(const char *name);
/** Name of the point at `index`, in the order of the table; NULL behind the last. */
const char *mw_fault_name(int index);
/* ffi-end */

/** Arms what the environment says, and writes a line with the seed when that is anything. MW_EINVALID on nonsense. */
int mw_fault_arm_from_env(mw_err *err);

#else

#define MW_FAULT(name) 0
static inline int mw_fault_arm_from_env(mw_err *err) { return 0; }

#endif
