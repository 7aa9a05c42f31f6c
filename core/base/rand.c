// SPDX-License-Identifier: MIT
#include "base/rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void mw_rand_bytes(void *out, size_t len) {
  char *at = out;
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
uint64_t mw_rand_u64(void) {
  static _Thread_local uint64_t state;
  if (state == 0) mw_rand_bytes(&state, sizeof state);
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

double mw_rand_unit(void) { return (double)(mw_rand_u64() >> 11) * 0x1.0p-53; }
