// SPDX-License-Identifier: MIT
#include "base/map.h"

#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"

// A seeded multiply-and-fold hash over 8-byte words: fast, and unpredictable enough from outside because the
// seed is random and 64 bits wide.
static uint64_t seed;

__attribute__((constructor)) static void draw_seed(void) {
  if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = 0x9E3779B97F4A7C15u;
}

static uint64_t fold(uint64_t a, uint64_t b) {
  __uint128_t product = (__uint128_t)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t mw_map_hash(mw_str key) {
  uint64_t hash = seed ^ fold(key.len ^ 0xA0761D6478BD642Fu, 0xE7037ED1A0B428DBu);
  const char *p = key.ptr;
  size_t left = key.len;
  for (; left >= 8; p += 8, left -= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    hash = fold(hash ^ word, 0x8EBC6AF09C88C6E3u ^ seed);
  }
  uint64_t tail = 0;
  if (left) memcpy(&tail, p, left);
  return fold(hash ^ tail, 0x589965CC75374CC3u ^ seed);
}

void mw_map_init(mw_map *map) { *map = (mw_map){NULL, 0, 0}; }

void mw_map_deinit(mw_map *map) {
  for (size_t i = 0; i < map->cap; i++) mw_free(map->slots[i].key);
  mw_free(map->slots);
  mw_map_init(map);
}

static size_t find(const mw_map *map, mw_str key, uint64_t hash) {
  size_t i = hash & (map->cap - 1);
  while (map->slots[i].key) {
    mw_map_slot *slot = &map->slots[i];
    if (slot->hash == hash && slot->len == key.len && memcmp(slot->key, key.ptr, key.len) == 0) break;
    i = (i + 1) & (map->cap - 1);
  }
  return i;
}

static void grow(mw_map *map) {
  mw_map old = *map;
  map->cap = old.cap ? old.cap * 2 : 16;
  map->slots = mw_calloc(map->cap, sizeof *map->slots);
  for (size_t i = 0; i < old.cap; i++) {
    mw_map_slot *slot = &old.slots[i];
    if (slot->key) map->slots[find(map, mw_str_of(slot->key, slot->len), slot->hash)] = *slot;
  }
  mw_free(old.slots);
}

void *mw_map_get(const mw_map *map, mw_str key) {
  if (map->count == 0) return NULL;
  return map->slots[find(map, key, mw_map_hash(key))].value;
}

void *mw_map_set(mw_map *map, mw_str key, void *value) {
  if ((map->count + 1) * 4 > map->cap * 3) grow(map);
  uint64_t hash = mw_map_hash(key);
  mw_map_slot *slot = &map->slots[find(map, key, hash)];
  void *old = slot->value;
  if (!slot->key) {
    *slot = (mw_map_slot){mw_strndup(key.ptr, key.len), key.len, hash, NULL};
    map->count++;
  }
  slot->value = value;
  return old;
}

void *mw_map_remove(mw_map *map, mw_str key) {
  if (map->count == 0) return NULL;
  size_t hole = find(map, key, mw_map_hash(key));
  if (!map->slots[hole].key) return NULL;
  void *value = map->slots[hole].value;
  mw_free(map->slots[hole].key);
  map->slots[hole] = (mw_map_slot){NULL, 0, 0, NULL};
  map->count--;
  // Move later members of the run back, so that no search stops at the hole too early.
  for (size_t i = (hole + 1) & (map->cap - 1); map->slots[i].key; i = (i + 1) & (map->cap - 1)) {
    size_t home = map->slots[i].hash & (map->cap - 1);
    if (((i - home) & (map->cap - 1)) < ((i - hole) & (map->cap - 1))) continue;
    map->slots[hole] = map->slots[i];
    map->slots[i] = (mw_map_slot){NULL, 0, 0, NULL};
    hole = i;
  }
  return value;
}

bool mw_map_next(const mw_map *map, size_t *index, mw_str *key, void **value) {
  for (; *index < map->cap; ++*index) {
    mw_map_slot *slot = &map->slots[*index];
    if (!slot->key) continue;
    *key = mw_str_of(slot->key, slot->len);
    *value = slot->value;
    ++*index;
    return true;
  }
  return false;
}
