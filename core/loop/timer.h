// SPDX-License-Identifier: MIT
#pragma once

// mw_timer: a deadline on a loop. A small value embedded in its owner; thousands cost one libuv timer (a hierarchical
// wheel inside mw_loop, one-millisecond ticks). Start and stop are O(1) and allocate nothing, so that every request can
// have one. Owner's thread only.
//
//   mw_timer_init(&conn->deadline, on_deadline, conn);
//   mw_timer_start(loop, &conn->deadline, 30000);
//   mw_timer_stop(&conn->deadline);               // also from inside a timer callback, also twice

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

typedef struct mw_loop mw_loop;
typedef struct mw_timer mw_timer;
typedef void (*mw_timer_cb)(mw_timer *timer, void *arg);

struct mw_timer {
  mw_list node;
  int64_t due_ms;
  mw_timer_cb cb;
  void *arg;
  mw_loop *loop; /**< Set while it is armed. */
};

/** Prepares a stopped timer. */
void mw_timer_init(mw_timer *timer, mw_timer_cb cb, void *arg);
/** Arms it to fire once, `after_ms` from now (0: next turn); restarts an armed one. An armed timer keeps the loop
 *  alive. */
void mw_timer_start(mw_loop *loop, mw_timer *timer, int64_t after_ms);
/** Disarms it; the memory may go afterwards. */
void mw_timer_stop(mw_timer *timer);
static inline bool mw_timer_is_armed(const mw_timer *timer) { return timer->loop != 0; }
