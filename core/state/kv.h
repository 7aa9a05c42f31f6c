// SPDX-License-Identifier: MIT
#pragma once

// mw_kv: small values shared by all workers of a process, with a time to live. Bounded in bytes: when full, what has expired goes first,
// then what was written longest ago. Gone with the process. Thread-safe (sharded locks).
//
//   mw_kv *kv = mw_kv_new(64 << 20);
//   mw_kv_set(kv, MW_STR("a"), MW_STR("1"), 5000, MW_KV_ALWAYS, now_ms);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define MW_KV_MAX_KEY_BYTES 1024

typedef struct mw_kv mw_kv;

typedef enum mw_kv_when { MW_KV_ALWAYS, MW_KV_IF_ABSENT, MW_KV_IF_PRESENT } mw_kv_when;

/** Makes a store for about `max_bytes` of keys, values and bookkeeping. */
mw_kv *mw_kv_new(size_t max_bytes);
void mw_kv_free(mw_kv *kv);
/** Appends the value to `out`; false when it is absent or expired. */
bool mw_kv_get(mw_kv *kv, mw_str key, mw_buf *out, int64_t now_ms);
/** Stores a copy; `ttl_ms` 0: no expiry. Returns 0, MW_EEXISTS or MW_ENOTFOUND for `when`, MW_ELIMIT for a key over
 *  MW_KV_MAX_KEY_BYTES or a value over a sixteenth of the whole. */
int mw_kv_set(mw_kv *kv, mw_str key, mw_str value, int64_t ttl_ms, mw_kv_when when, int64_t now_ms);
bool mw_kv_remove(mw_kv *kv, mw_str key, int64_t now_ms);
/** Adds `by` to a value that is a decimal integer (absent: 0, which takes `ttl_ms`; a present one keeps its expiry). Returns 0 and the sum,
 *  MW_EINVALID when the value is no integer or the sum overflows, or MW_ELIMIT. */
int mw_kv_add(mw_kv *kv, mw_str key, int64_t by, int64_t ttl_ms, int64_t *sum, int64_t now_ms);

typedef struct mw_kv_stats {
  size_t count, bytes;
  uint64_t evicted;
} mw_kv_stats;
void mw_kv_stats_get(mw_kv *kv, mw_kv_stats *stats);
