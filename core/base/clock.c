// SPDX-License-Identifier: MIT
#include "base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/world.h"

#define APART_US 1000000 /* below that the machine's clock is taken as it is */
#define JITTER_US 100000

static _Atomic int64_t shift_us;
static _Atomic int64_t followed_us; // the other clock minus our monotonic one; 0: none

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

static int64_t machine_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + outside_shift_us();
}

int64_t mw_clock_wall_us(void) {
  const mw_world *world = mw_world_current();
  if (world) return world->wall_us;
  int64_t wall_us = machine_us(), base_us = atomic_load_explicit(&followed_us, memory_order_relaxed);
  if (base_us) {
    int64_t other_us = base_us + mw_clock_real_ns() / 1000;
    if (llabs(other_us - wall_us) >= APART_US) wall_us = other_us;
  }
  return wall_us + atomic_load_explicit(&shift_us, memory_order_relaxed);
}

// What is known already, at first the machine's own clock, stays as long as it may be right: an answer that took long says little.
int64_t mw_clock_follow(int64_t other_us, int64_t since_ns) {
  int64_t before_us = mw_clock_wall_us(), now_ns = mw_clock_real_ns(), doubt_us = (now_ns - since_ns) / 2000 + JITTER_US;
  int64_t base_us = other_us - (since_ns + now_ns) / 2000, known_us = atomic_load(&followed_us);
  if (!known_us) known_us = machine_us() - now_ns / 1000;
  atomic_store(&followed_us, llabs(base_us - known_us) > doubt_us ? base_us : known_us);
  int64_t moved_us = mw_clock_wall_us() - before_us;
  return llabs(moved_us) < APART_US ? 0 : moved_us;
}

bool mw_clock_is_followed(void) { return atomic_load_explicit(&followed_us, memory_order_relaxed) != 0; }

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

// ---- reading ----

/** Takes `count` digits, and one of the characters that must stand behind them (NULL: nothing). */
static bool take(mw_str *rest, size_t count, const char *marks, int *out) {
  size_t all = count + (marks != NULL);
  if (rest->len < all) return false;
  *out = 0;
  for (size_t i = 0; i < count; i++) {
    char c = rest->ptr[i];
    if (c < '0' || c > '9') return false;
    *out = *out * 10 + (c - '0');
  }
  if (marks && (!rest->ptr[count] || !strchr(marks, rest->ptr[count]))) return false;
  *rest = mw_str_of(rest->ptr + all, rest->len - all);
  return true;
}

static int64_t take_fraction(mw_str *rest) {
  int64_t micros = 0, unit = 100000;
  size_t i = 1;
  if (rest->len < 2 || rest->ptr[0] != '.') return 0;
  for (; i < rest->len && rest->ptr[i] >= '0' && rest->ptr[i] <= '9'; i++, unit /= 10) micros += unit * (rest->ptr[i] - '0');
  if (i > 1) *rest = mw_str_of(rest->ptr + i, rest->len - i);
  return micros;
}

/** Seconds east of Greenwich; it must be all that is left. */
static bool take_offset(mw_str *rest, int64_t *east) {
  int hours, minutes;
  *east = 0;
  if (rest->len == 1 && (rest->ptr[0] | 0x20) == 'z') return true;
  if (rest->len != 6 || (rest->ptr[0] != '+' && rest->ptr[0] != '-')) return false;
  int sign = rest->ptr[0] == '-' ? -1 : 1;
  mw_str digits = mw_str_of(rest->ptr + 1, rest->len - 1);
  if (!take(&digits, 2, ":", &hours) || !take(&digits, 2, NULL, &minutes) || hours > 23 || minutes > 59) return false;
  *east = sign * (hours * 60 + minutes) * INT64_C(60);
  return true;
}

bool mw_clock_parse(mw_str text, int64_t *wall_us) {
  int year, month, day, hour, minute, second;
  int64_t east;
  if (!take(&text, 4, "-", &year) || !take(&text, 2, "-", &month) || !take(&text, 2, "Tt ", &day) || !take(&text, 2, ":", &hour) ||
      !take(&text, 2, ":", &minute) || !take(&text, 2, NULL, &second))
    return false;
  int64_t micros = take_fraction(&text);
  if (!take_offset(&text, &east) || year < 1 || hour > 23 || minute > 59 || second > 59) return false;
  struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute, .tm_sec = second};
  int64_t seconds = (int64_t)timegm(&tm);
  if (tm.tm_mon != month - 1 || tm.tm_mday != day) return false; // 30 February, which timegm takes for 2 March
  *wall_us = (seconds - east) * 1000000 + micros;
  return true;
}
