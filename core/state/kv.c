// SPDX-License-Identifier: MIT
#include "state/kv.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"
#include "base/map.h"

enum { SHARDS = 16, OVERHEAD = 128, EXPIRY_SCAN = 8 };

typedef struct entry {
  mw_list node; // oldest write first
  char *key;
  size_t key_len;
  char *value;
  size_t value_len;
  int64_t expires_ms; // 0: never
} entry;

typedef struct shard {
  pthread_mutex_t lock;
  mw_map map;
  mw_list written;
  size_t bytes, max_bytes;
  uint64_t evicted;
} shard;

struct mw_kv {
  shard shards[SHARDS];
};

mw_kv *mw_kv_new(size_t max_bytes) {
  mw_kv *kv = MW_NEW(mw_kv);
  for (int i = 0; i < SHARDS; i++) {
    shard *s = &kv->shards[i];
    pthread_mutex_init(&s->lock, NULL);
    mw_map_init(&s->map);
    mw_list_init(&s->written);
    s->max_bytes = max_bytes / SHARDS;
  }
  return kv;
}

static size_t size_of(size_t key_len, size_t value_len) { return key_len * 2 + value_len + OVERHEAD; }

static void drop(shard *s, entry *e) {
  mw_map_remove(&s->map, mw_str_of(e->key, e->key_len));
  mw_list_remove(&e->node);
  s->bytes -= size_of(e->key_len, e->value_len);
  mw_free(e->key);
  mw_free(e->value);
  mw_free(e);
}

void mw_kv_free(mw_kv *kv) {
  if (!kv) return;
  for (int i = 0; i < SHARDS; i++) {
    shard *s = &kv->shards[i];
    while (!mw_list_is_empty(&s->written)) drop(s, MW_CONTAINER(s->written.next, entry, node));
    mw_map_deinit(&s->map);
    pthread_mutex_destroy(&s->lock);
  }
  mw_free(kv);
}

static shard *lock_shard(mw_kv *kv, mw_str key) {
  shard *s = &kv->shards[mw_map_hash(key) >> 60];
  pthread_mutex_lock(&s->lock);
  return s;
}

static entry *find(shard *s, mw_str key, int64_t now_ms) {
  entry *e = mw_map_get(&s->map, key);
  if (e && e->expires_ms && e->expires_ms <= now_ms) {
    drop(s, e);
    return NULL;
  }
  return e;
}

bool mw_kv_get(mw_kv *kv, mw_str key, mw_buf *out, int64_t now_ms) {
  shard *s = lock_shard(kv, key);
  entry *e = find(s, key, now_ms);
  if (e) mw_buf_add(out, e->value, e->value_len);
  pthread_mutex_unlock(&s->lock);
  return e != NULL;
}

// Expired entries among the oldest few go first; then the oldest, until there is room.
static void make_room(shard *s, size_t need, int64_t now_ms) {
  int scanned = 0;
  MW_LIST_EACH(&s->written, node) {
    if (scanned++ == EXPIRY_SCAN) break;
    entry *e = MW_CONTAINER(node, entry, node);
    if (e->expires_ms && e->expires_ms <= now_ms) drop(s, e);
  }
  while (s->bytes + need > s->max_bytes && !mw_list_is_empty(&s->written)) {
    drop(s, MW_CONTAINER(s->written.next, entry, node));
    s->evicted++;
  }
}

static void put(shard *s, mw_str key, mw_str value, int64_t expires_ms, int64_t now_ms) {
  make_room(s, size_of(key.len, value.len), now_ms);
  entry *e = MW_NEW(entry);
  e->key = mw_strndup(key.ptr, key.len);
  e->key_len = key.len;
  e->value = mw_strndup(value.ptr, value.len);
  e->value_len = value.len;
  e->expires_ms = expires_ms;
  mw_map_set(&s->map, key, e);
  mw_list_push(&s->written, &e->node);
  s->bytes += size_of(key.len, value.len);
}

int mw_kv_set(mw_kv *kv, mw_str key, mw_str value, int64_t ttl_ms, mw_kv_when when, int64_t now_ms) {
  if (key.len > MW_KV_MAX_KEY_BYTES || size_of(key.len, value.len) > kv->shards[0].max_bytes) return MW_ELIMIT;
  int rc = 0;
  shard *s = lock_shard(kv, key);
  entry *e = find(s, key, now_ms);
  if (e && when == MW_KV_IF_ABSENT) rc = MW_EEXISTS;
  else if (!e && when == MW_KV_IF_PRESENT) rc = MW_ENOTFOUND;
  else {
    if (e) drop(s, e);
    put(s, key, value, ttl_ms ? now_ms + ttl_ms : 0, now_ms);
  }
  pthread_mutex_unlock(&s->lock);
  return rc;
}

bool mw_kv_remove(mw_kv *kv, mw_str key, int64_t now_ms) {
  shard *s = lock_shard(kv, key);
  entry *e = find(s, key, now_ms);
  if (e) drop(s, e);
  pthread_mutex_unlock(&s->lock);
  return e != NULL;
}

static bool parse_integer(const char *text, int64_t *out) {
  char *end;
  *out = strtoll(text, &end, 10);
  return *text && !*end;
}

int mw_kv_add(mw_kv *kv, mw_str key, int64_t by, int64_t ttl_ms, int64_t *sum, int64_t now_ms) {
  if (key.len > MW_KV_MAX_KEY_BYTES) return MW_ELIMIT;
  int rc = 0;
  shard *s = lock_shard(kv, key);
  entry *e = find(s, key, now_ms);
  int64_t value = 0, expires_ms = e ? e->expires_ms : ttl_ms ? now_ms + ttl_ms : 0;
  if ((e && !parse_integer(e->value, &value)) || __builtin_add_overflow(value, by, sum)) rc = MW_EINVALID;
  else {
    mw_buf text = MW_BUF_INIT;
    mw_buf_add_i64(&text, *sum);
    if (e) drop(s, e);
    put(s, key, mw_buf_str(&text), expires_ms, now_ms);
    mw_buf_deinit(&text);
  }
  pthread_mutex_unlock(&s->lock);
  return rc;
}

void mw_kv_stats_get(mw_kv *kv, mw_kv_stats *stats) {
  *stats = (mw_kv_stats){0, 0, 0};
  for (int i = 0; i < SHARDS; i++) {
    shard *s = &kv->shards[i];
    pthread_mutex_lock(&s->lock);
    stats->count += s->map.count;
    stats->bytes += s->bytes;
    stats->evicted += s->evicted;
    pthread_mutex_unlock(&s->lock);
  }
}
