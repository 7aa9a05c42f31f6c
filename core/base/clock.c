// SPDX-License-Identifier: MIT
#include "base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/world.h"

static _Atomic int64_t shift_us;

#ifdef MW_DEBUG
static const _Atomic int64_t *shared_us; // NULL: none

static void map_shared(void) {
  const char *path = getenv("MW_CLOCK_FILE");
  int fd = path && *path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *map = mmap(NULL, sizeof *shared_us, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (map != MAP_FAILED) shared_us = map;
}

static int64_t outside_shift_us(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, map_shared);
  return shared_us ? atomic_load_explicit(shared_us, memory_order_relaxed) : 0;
}
#else
static int64_t outside_shift_us(void) { return 0; }
#endif

int64_t mw_clock_wall_us(void) {
  const mw_world *world = mw_world_current();
  if (world) return world->wall_us;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + atomic_load_explicit(&shift_us, memory_order_relaxed) + outside_shift_us();
}

int64_t mw_clock_mono_ns(void) {
  const mw_world *world = mw_world_current();
  return world ? world->mono_ns : mw_clock_real_ns();
}

int64_t mw_clock_real_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void mw_clock_shift(int64_t delta_us) { atomic_fetch_add(&shift_us, delta_us); }

int64_t mw_clock_shifted_us(void) { return atomic_load_explicit(&shift_us, memory_order_relaxed); }

int mw_clock_format(int64_t wall_us, char text[MW_CLOCK_TEXT]) {
  int64_t micros = wall_us % 1000000;
  time_t seconds = (time_t)(wall_us / 1000000);
  if (micros < 0) micros += 1000000, seconds--;
  struct tm tm;
  gmtime_r(&seconds, &tm);
  return snprintf(text, MW_CLOCK_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", (tm.tm_year + 1900) % 10000,
                  tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)micros);
}
