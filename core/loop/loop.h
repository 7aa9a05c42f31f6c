// SPDX-License-Identifier: MIT
#pragma once

// mw_loop: one libuv loop, owned by the thread that runs it. Everything that touches libuv lives in this layer.
// Nothing here is thread-safe except mw_loop_post and mw_loop_stop.
//
//   mw_loop *loop = mw_loop_new("worker-0");
//   … open things on it …
//   mw_loop_run(loop);            // until mw_loop_stop, or until nothing is left
//   mw_loop_free(loop);           // names the handles that stayed open, in the log

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mw_loop mw_loop;
struct uv_loop_s;

typedef void (*mw_loop_cb)(void *arg);

/** Makes a loop; `name` is copied (log lines, thread name). Aborts when the system has no descriptors left. */
mw_loop *mw_loop_new(const char *name);
/** Closes what is left (bounded by one second, leftovers are logged by kind) and frees the loop. A loop that a work
 *  job still has to answer (mw_work_submit) is logged and left, never freed under it. */
void mw_loop_free(mw_loop *loop);
/** Runs on the calling thread, which owns the loop from then on, until stopped or idle. */
void mw_loop_run(mw_loop *loop);
/** Runs one turn; waits for an event at most when `wait`. Returns true while handles are active. For specs. */
bool mw_loop_turn(mw_loop *loop, bool wait);
/** Makes mw_loop_run return after the current turn. Thread-safe. */
void mw_loop_stop(mw_loop *loop);
/** Calls `cb(arg)` on the loop's thread in its next turn, in posting order. Never calls back at once. Thread-safe. The
 *  queue is unbounded; its users bound what they post. */
void mw_loop_post(mw_loop *loop, mw_loop_cb cb, void *arg);
/** Calls `cb(arg)` once at the end of this turn, before the loop waits. Owner's thread only; does not allocate beyond a
 *  kept array. Cannot be taken back: `arg` must live until then. For batching (group commit, pipelines). */
void mw_loop_defer(mw_loop *loop, mw_loop_cb cb, void *arg);
/** Monotonic milliseconds as of the start of this turn. */
int64_t mw_loop_now_ms(const mw_loop *loop);
/** Keeps mw_loop_run from returning for lack of handles while something outside (a thread, a child) is going to post to it;
 *  pairs nest. Owner's thread only. */
void mw_loop_hold(mw_loop *loop);
void mw_loop_unhold(mw_loop *loop);
/** The libuv loop; for this layer and adapters of other libraries. */
struct uv_loop_s *mw_loop_uv(mw_loop *loop);
/** The loop's shared read buffer: valid until the next read on this loop. */
char *mw_loop_read_buffer(mw_loop *loop, size_t *size);
/** True on the thread that owns the loop. */
bool mw_loop_is_here(const mw_loop *loop);
/** Longest turn since the last call, in microseconds; resets it. */
int64_t mw_loop_take_lag_us(mw_loop *loop);

#ifdef MW_DEBUG
#include <assert.h>
#define MW_ASSERT_LOOP(loop) assert(mw_loop_is_here(loop))
#else
#define MW_ASSERT_LOOP(loop) ((void)0)
#endif
