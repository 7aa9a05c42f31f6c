// SPDX-License-Identifier: MIT
#pragma once

// mw_world: a clock, randomness and ids of their own for a thread, so that what runs on it is the same every time. For specs of
// plugins: time stands still until somebody moves it, and the same seed draws the same numbers and the same ids. While a world is
// used, base/clock.h, base/rand.h and base/id.h answer from it on that thread; other threads see nothing of it.
//
//   mw_world world = {.wall_us = start_us, .mono_ns = 1000000000, .rand_state = seed};
//   mw_world *before = mw_world_use(&world);  …  mw_world_use(before);

#include <stdbool.h>
#include <stdint.h>

/* ffi-begin */
/** Where the ids of a process, or of a world, have come to. */
typedef struct mw_id_place {
  uint64_t last_ms, counter;
  bool is_followed; /**< They are by another clock (mw_clock_follow). */
} mw_id_place;

typedef struct mw_world {
  int64_t wall_us, mono_ns; /**< The two clocks; whoever owns the world moves them together. */
  uint64_t rand_state;      /**< Any number; 0 is one as well. */
  mw_id_place ids;
} mw_world;

/** Uses a world on the calling thread (NULL: the real one); returns the one before. Borrowed until replaced. */
mw_world *mw_world_use(mw_world *world);
/** The world of the calling thread, or NULL. */
mw_world *mw_world_current(void);
/** The next 64 bits of its generator. */
uint64_t mw_world_draw(mw_world *world);
/* ffi-end */
