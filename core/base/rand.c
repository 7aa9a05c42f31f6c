// SPDX-License-Identifier: MIT
#include "base/rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/world.h"

static void fill_from(mw_world *world, char *at, size_t len) {
  for (; len; len -= len < 8 ? len : 8, at += 8) {
    uint64_t word = mw_world_draw(world);
    memcpy(at, &word, len < 8 ? len : 8);
  }
}

void mw_rand_bytes(void *out, size_t len) {
  char *at = out;
  if (mw_world_current()) {
    fill_from(mw_world_current(), at, len);
    return;
  }
  while (len) {
    ssize_t got = getrandom(at, len, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      fprintf(stderr, "moonwatch: the kernel gives no random bytes\n");
      abort();
    }
    at += got;
    len -= (size_t)got;
  }
}

// splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
static uint64_t draw(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint64_t mw_world_draw(mw_world *world) { return draw(&world->rand_state); }

uint64_t mw_rand_u64(void) {
  static _Thread_local uint64_t state;
  if (mw_world_current()) return mw_world_draw(mw_world_current());
  if (state == 0) mw_rand_bytes(&state, sizeof state);
  return draw(&state);
}

double mw_rand_unit(void) { return (double)(mw_rand_u64() >> 11) * 0x1.0p-53; }
