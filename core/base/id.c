// SPDX-License-Identifier: MIT
#include "base/id.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/rand.h"
#include "base/world.h"

// RFC 9562 section 6.2, method 1 and 2 combined: 48 bits of milliseconds, then a 74-bit field whose upper part counts
// within the millisecond, so that ids of one process are strictly ordered even when the clock steps back.
mw_id mw_id_new(void) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static mw_id_place process;
  mw_world *world = mw_world_current();
  mw_id_place *place = world ? &world->ids : &process;
  uint64_t now = (uint64_t)(mw_clock_wall_us() / 1000), random = mw_rand_u64(), ms, count;

  pthread_mutex_lock(&lock);
  bool is_followed = mw_clock_is_followed();
  if (!world && place->is_followed != is_followed) {
    place->is_followed = is_followed; // those before came from a clock that counts no more, which may have been ahead
    place->last_ms = 0;
  }
  if (now > place->last_ms) {
    place->last_ms = now;
    place->counter = random & 0x1FFFFF; // 26 bits of counter; start in the lower half or less
  } else if (++place->counter > 0x3FFFFFF) {
    place->last_ms++;
    place->counter = random & 0x1FFFFF;
  }
  ms = place->last_ms;
  count = place->counter;
  pthread_mutex_unlock(&lock);

  uint64_t tail = mw_rand_u64();
  mw_id id;
  for (int i = 0; i < 6; i++) id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
  id.bytes[6] = (uint8_t)(0x70 | (count >> 22));                 // version, counter bits 25..22
  id.bytes[7] = (uint8_t)(count >> 14);                          // 21..14
  id.bytes[8] = (uint8_t)(0x80 | ((count >> 8) & 0x3F));         // variant, 13..8
  id.bytes[9] = (uint8_t)count;                                  // 7..0
  for (int i = 0; i < 6; i++) id.bytes[10 + i] = (uint8_t)(tail >> (8 * i));
  return id;
}

void mw_id_format(const mw_id *id, char *text) {
  static const char hex[] = "0123456789abcdef";
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *text++ = '-';
    *text++ = hex[id->bytes[i] >> 4];
    *text++ = hex[id->bytes[i] & 15];
  }
  *text = 0;
}

static int nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool mw_id_parse(mw_str text, mw_id *id) {
  if (text.len != 36) return false;
  const char *p = text.ptr;
  for (int i = 0; i < 16; i++) {
    if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-') return false;
    int high = nibble(p[0]), low = nibble(p[1]);
    if (high < 0 || low < 0) return false;
    id->bytes[i] = (uint8_t)(high << 4 | low);
    p += 2;
  }
  return true;
}

int64_t mw_id_time_us(const mw_id *id) {
  int64_t ms = 0;
  for (int i = 0; i < 6; i++) ms = ms << 8 | id->bytes[i];
  return ms * 1000;
}
