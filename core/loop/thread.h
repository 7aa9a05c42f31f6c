// SPDX-License-Identifier: MIT
#pragma once

// mw_thread: a named thread with a bounded stack; locks and conditions come from <pthread.h>.

#include <pthread.h>
#include <stddef.h>

typedef struct mw_thread {
  pthread_t id;
} mw_thread;

/** Starts `fn(arg)` on a thread called `name` (15 characters are shown) with all signals but faults blocked. */
int mw_thread_start(mw_thread *thread, const char *name, void (*fn)(void *arg), void *arg);
void mw_thread_join(mw_thread *thread);
