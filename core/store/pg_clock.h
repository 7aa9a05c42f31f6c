// SPDX-License-Identifier: MIT
#pragma once

// The database's clock as this node knows it: taken with every renewal of the lease and kept by the monotonic clock, so that a wall clock
// that is wrong here, or jumps, moves no time that is stored. Times of this node are translated when both are apart by more than a second;
// below that they pass as they are. What mw_clock_shift adds counts for both. Thread-safe. Private to this layer.

#include <stdatomic.h>
#include <stdint.h>

typedef struct mw_pg_clock {
  _Atomic int64_t base_us; /**< The database's clock minus our monotonic one; 0: not known. */
} mw_pg_clock;

/** The database said that it was `database_us`, between `sent_ns` of the monotonic clock and now. */
void mw_pg_clock_take(mw_pg_clock *clock, int64_t database_us, int64_t sent_ns);
/** Translates a time of this node into the database's, and back. */
int64_t mw_pg_clock_to_database(const mw_pg_clock *clock, int64_t us);
int64_t mw_pg_clock_from_database(const mw_pg_clock *clock, int64_t us);
