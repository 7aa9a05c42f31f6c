// SPDX-License-Identifier: MIT
#pragma once

// Two clocks. The wall clock says when (stored, shown); the monotonic clock says how long (deadlines, durations). The wall clock is the machine's, or
// another's that it follows (mw_clock_follow): nodes that share a database have its clock, so that a time which one stores means the same to all.
// Thread-safe. Specs shift the first with mw_clock_shift; a thread with a world of its own (base/world.h) reads that one's. In builds with MW_DEBUG
// the file that MW_CLOCK_FILE names shifts it from outside: 8 bytes in the machine's order, microseconds, written to while the program runs.

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* ffi-begin */
int64_t mw_clock_wall_us(void);
int64_t mw_clock_mono_ns(void);
void mw_clock_shift(int64_t delta_us);
int64_t mw_clock_follow(int64_t other_us, int64_t since_ns);
/* ffi-end */

/** Returns microseconds since 1970-01-01T00:00:00Z. */
int64_t mw_clock_wall_us(void);
/** Returns nanoseconds since some fixed point; never goes back. */
int64_t mw_clock_mono_ns(void);
/** The same by the machine's clock, whatever world the thread is in: for what must end though virtual time stands still. */
int64_t mw_clock_real_ns(void);
/** Returns milliseconds of the monotonic clock. */
static inline int64_t mw_clock_mono_ms(void) { return mw_clock_mono_ns() / 1000000; }
/** Moves the wall clock as this process sees it. For specs. */
void mw_clock_shift(int64_t delta_us);
/** How far mw_clock_shift has moved it. */
int64_t mw_clock_shifted_us(void);

/** From now on the wall clock is another one's, as long as the two are apart by a second or more; kept by the monotonic clock, so that a machine's clock
 * that jumps moves nothing. The other showed `other_us` at some time between `since_ns` of the monotonic clock and now; say it again every now and then.
 * Returns how far that moved the wall clock; 0 when it is less than a second. */
int64_t mw_clock_follow(int64_t other_us, int64_t since_ns);
/** Whether it was said: times and ids from before are the machine's. */
bool mw_clock_is_followed(void);

/** Room for an RFC 3339 time with its closing zero. */
#define MW_CLOCK_TEXT 32
/** Writes "2026-11-21T06:55:20.123456Z"; returns the length. */
int mw_clock_format(int64_t wall_us, char text[MW_CLOCK_TEXT]);
/* ffi-begin */
/** Reads an RFC 3339 time ("2026-03-29T03:00:00.5+02:00"; years 1 to 9999, no leap second, digits beyond microseconds are dropped). Returns false for
 *  anything else. */
bool mw_clock_parse(mw_str text, int64_t *wall_us);
/* ffi-end */
