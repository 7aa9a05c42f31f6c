// SPDX-License-Identifier: MIT
#pragma once

// The inside of mw_loop, for the files of this layer only.

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/list.h"
#include "loop/loop.h"
#include "loop/timer.h"

#define MW_LOOP_READ_BUFFER (64 * 1024)
#define MW_WHEEL_LEVELS 7 // 6 bits each: 42 bits of milliseconds, 139 years

typedef struct mw_loop_call {
  mw_loop_cb cb;
  void *arg;
} mw_loop_call;

typedef struct mw_loop_calls {
  mw_loop_call *items;
  size_t count, cap;
} mw_loop_calls;

typedef struct mw_wheel {
  uv_timer_t timer;
  uv_idle_t idle;   // runs while `ready` has timers
  int64_t now_ms;   // everything due up to here has fired or is in `expired`
  int64_t armed_ms; // when `timer` fires; never later than the first event of the wheel
  size_t count;
  mw_list ready;   // started with 0 ms
  mw_list expired; // being fired now
  mw_list slots[MW_WHEEL_LEVELS][64];
  uint64_t used[MW_WHEEL_LEVELS]; // a bit a slot that has timers
} mw_wheel;

struct mw_loop {
  uv_loop_t uv;
  char *name;
  _Atomic(pthread_t) owner;
  atomic_bool stopping;
  uv_async_t async;
  uv_prepare_t prepare;
  int holds;
  bool is_virtual; // see loop/virtual.h
  atomic_int jobs; // submitted to a work pool and not yet answered

  pthread_mutex_t lock; // guards `posted`
  mw_loop_calls posted;
  mw_loop_calls running; // the batch taken from `posted`
  mw_loop_calls deferred;
  mw_loop_calls deferring; // the batch taken from `deferred`

  mw_wheel wheel;
  uint64_t turn_started_ns, turn_idle_ns;
  int64_t lag_us;

  void *dns_cache; // made by dns.c on first use
  void (*free_dns_cache)(void *cache);

  char read_buffer[MW_LOOP_READ_BUFFER];
};

void mw_wheel_open(mw_loop *loop);
void mw_wheel_close(mw_loop *loop);
