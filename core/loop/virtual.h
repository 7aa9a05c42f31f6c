// SPDX-License-Identifier: MIT
#pragma once

// A loop in virtual time, for specs of plugins: its timers follow the world of the thread (base/world.h) and fire only when they are
// asked to. Owner's thread only.
//
//   mw_loop_go_virtual(loop);
//   while (!mw_loop_is_quiet(loop)) mw_loop_turn(loop, false);       // all that can happen at this moment
//   world.mono_ns = mw_loop_next_due_ms(loop) * 1000000; …           // then the moment when the next thing is due
//   mw_loop_fire_due(loop);

#include <stdbool.h>
#include <stdint.h>

typedef struct mw_loop mw_loop;

/** Before the first timer, in the world it will run in. There is no way back. */
void mw_loop_go_virtual(mw_loop *loop);
/** When the first timer is due, monotonic milliseconds; INT64_MAX without one. */
int64_t mw_loop_next_due_ms(const mw_loop *loop);
/** Fires what is due by the world's clock. */
void mw_loop_fire_due(mw_loop *loop);
/** True when no call is posted or deferred, no timer fires in the next turn and no work pool has something for it. What comes
 *  from outside (a descriptor) is not known. */
bool mw_loop_is_quiet(mw_loop *loop);
/** One turn that waits at most `real_ms`, by the machine's clock, for something from outside. */
void mw_loop_turn_for(mw_loop *loop, int64_t real_ms);
