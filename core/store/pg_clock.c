// SPDX-License-Identifier: MIT
#include "store/pg_clock.h"

#include <stdlib.h>

#include "base/clock.h"

#define APART_US 1000000

void mw_pg_clock_take(mw_pg_clock *clock, int64_t database_us, int64_t sent_ns) {
  int64_t between_us = (sent_ns + mw_clock_mono_ns()) / 2000;
  atomic_store_explicit(&clock->base_us, database_us - between_us, memory_order_relaxed);
}

static int64_t ahead_us(const mw_pg_clock *clock) {
  int64_t base_us = atomic_load_explicit(&clock->base_us, memory_order_relaxed);
  if (!base_us) return 0;
  int64_t ahead = base_us + mw_clock_mono_ns() / 1000 - (mw_clock_wall_us() - mw_clock_shifted_us());
  return llabs(ahead) < APART_US ? 0 : ahead;
}

int64_t mw_pg_clock_to_database(const mw_pg_clock *clock, int64_t us) { return us == INT64_MAX ? us : us + ahead_us(clock); }
int64_t mw_pg_clock_from_database(const mw_pg_clock *clock, int64_t us) { return us == INT64_MAX ? us : us - ahead_us(clock); }
