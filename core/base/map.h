// SPDX-License-Identifier: MIT
#pragma once

// mw_map: strings to pointers, open addressing. Copies its keys; owns no values. Not thread-safe.
//
//   mw_map m; mw_map_init(&m);
//   mw_map_set(&m, MW_STR("a"), object);
//   for (size_t i = 0; mw_map_next(&m, &i, &key, &value);) …
//   mw_map_deinit(&m);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* ffi-begin */
typedef struct mw_map_slot {
  char *key; /**< NULL: free. */
  size_t len;
  uint64_t hash;
  void *value;
} mw_map_slot;

typedef struct mw_map {
  mw_map_slot *slots;
  size_t cap; /**< A power of two, or 0. */
  size_t count;
} mw_map;

void mw_map_init(mw_map *map);
void mw_map_deinit(mw_map *map);
/** Returns the value of `key`, or NULL. */
void *mw_map_get(const mw_map *map, mw_str key);
/** Stores `value` (not NULL) under a copy of `key`; returns the value it replaced, or NULL. */
void *mw_map_set(mw_map *map, mw_str key, void *value);
/** Takes `key` out; returns its value, or NULL. */
void *mw_map_remove(mw_map *map, mw_str key);
/** Steps through all entries in no order. Start with `*index = 0`. The map must not change meanwhile. */
bool mw_map_next(const mw_map *map, size_t *index, mw_str *key, void **value);
/** Hashes bytes with a key drawn once a process (keys may come from clients). */
uint64_t mw_map_hash(mw_str key);
/* ffi-end */
