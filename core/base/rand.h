// SPDX-License-Identifier: MIT
#pragma once

// Randomness. mw_rand_bytes is for keys and tokens; mw_rand_u64 is for jitter and sampling. Thread-safe.

#include <stddef.h>
#include <stdint.h>

/* ffi-begin */
void mw_rand_bytes(void *out, size_t len);
uint64_t mw_rand_u64(void);
/* ffi-end */

/** Fills `out` from the kernel's generator; aborts when there is none. */
void mw_rand_bytes(void *out, size_t len);
/** Returns 64 bits of a fast generator (splitmix64) seeded a thread from the kernel. Not for secrets. */
uint64_t mw_rand_u64(void);
/** Returns a number in [0, 1). Not for secrets. */
double mw_rand_unit(void);
