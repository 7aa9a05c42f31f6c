// SPDX-License-Identifier: MIT
#include "store/redis_reply.h"

#include <hiredis/read.h>
#include <string.h>

#define FIRST_ITEMS 1024

/* ---- building ---- */

static mw_redis_reply *place(const redisReadTask *task, mw_redis_kind kind) {
  mw_redis_sink *sink = task->privdata;
  mw_redis_reply *parent = task->parent ? task->parent->obj : NULL, *made;
  if (sink->arena->used_bytes > sink->max_bytes) {
    sink->is_over = true;
    return NULL;
  }
  if (!parent) made = mw_arena_alloc(sink->arena, sizeof *made);
  else {
    if (parent->count == parent->cap) { // what is complete moves; an array being read is always the last one and has not moved yet
      mw_redis_reply *grown = mw_arena_alloc(sink->arena, 2 * parent->cap * sizeof *grown);
      memcpy(grown, parent->items, parent->count * sizeof *grown);
      parent->items = grown;
      parent->cap *= 2;
    }
    made = &parent->items[parent->count++];
  }
  *made = (mw_redis_reply){.kind = kind};
  return made;
}

static void *make_string(const redisReadTask *task, char *bytes, size_t len) {
  mw_redis_sink *sink = task->privdata;
  mw_redis_kind kind = task->type == REDIS_REPLY_STATUS  ? MW_REDIS_STATUS
                       : task->type == REDIS_REPLY_ERROR ? MW_REDIS_ERROR
                                                         : MW_REDIS_BULK;
  if (len > sink->max_bytes) {
    sink->is_over = true;
    return NULL;
  }
  mw_redis_reply *reply = place(task, kind);
  if (reply) reply->str = mw_arena_str(sink->arena, mw_str_of(bytes, len));
  return reply;
}

static void *make_array(const redisReadTask *task, int elements) {
  mw_redis_sink *sink = task->privdata;
  mw_redis_reply *reply = place(task, MW_REDIS_ARRAY);
  if (!reply || elements <= 0) return reply;
  reply->cap = elements < FIRST_ITEMS ? (size_t)elements : FIRST_ITEMS;
  reply->items = mw_arena_alloc(sink->arena, reply->cap * sizeof *reply->items);
  return reply;
}

static void *make_integer(const redisReadTask *task, long long value) {
  mw_redis_reply *reply = place(task, MW_REDIS_INT);
  if (reply) reply->i = value;
  return reply;
}

static void *make_nil(const redisReadTask *task) { return place(task, MW_REDIS_NIL); }

static void free_nothing(void *reply) {}

redisReader *mw_redis_reader_new(mw_redis_sink *sink) {
  static redisReplyObjectFunctions functions = {make_string, make_array, make_integer, make_nil, free_nothing};
  redisReader *reader = redisReaderCreateWithFunctions(&functions);
  reader->privdata = sink;
  return reader;
}

/* ---- errors ---- */

mw_str mw_redis_error_word(mw_str text) {
  size_t len = 0;
  while (len < text.len && ((text.ptr[len] >= 'A' && text.ptr[len] <= 'Z') || (len && text.ptr[len] == '_'))) len++;
  bool ends = len == text.len || text.ptr[len] == ' ';
  return len && ends ? mw_str_of(text.ptr, len) : MW_STR("ERR");
}

static const struct {
  const char *word;
  int code;
  const char *advice;
} words[] = {
    {"NOAUTH", MW_EDENIED, "put user and password into redis.url: redis://user:password@host"},
    {"WRONGPASS", MW_EDENIED, "look at user and password in redis.url"},
    {"NOPERM", MW_EDENIED, "the user's ACL does not allow it"},
    {"DENIED", MW_EDENIED, NULL},
    {"LOADING", MW_EUNAVAILABLE, NULL},
    {"MASTERDOWN", MW_EUNAVAILABLE, NULL},
    {"CLUSTERDOWN", MW_EUNAVAILABLE, NULL},
    {"NOREPLICAS", MW_EUNAVAILABLE, NULL},
    {"MISCONF", MW_EUNAVAILABLE, NULL},
    {"TRYAGAIN", MW_EUNAVAILABLE, NULL},
    {"READONLY", MW_EUNAVAILABLE, "it is a replica; point redis.url at the primary"},
    {"BUSY", MW_EBUSY, NULL},
    {"OOM", MW_ELIMIT, NULL},
    {"MOVED", MW_ECONFIG, "this is a node of a Redis Cluster, which Moonwatch does not speak: use a single Redis, a replicated one, or a proxy"},
    {"ASK", MW_ECONFIG, "this is a node of a Redis Cluster, which Moonwatch does not speak: use a single Redis, a replicated one, or a proxy"},
    {"CROSSSLOT", MW_ECONFIG, "this is a node of a Redis Cluster, which Moonwatch does not speak: use a single Redis, a replicated one, or a proxy"},
    {"NOSCRIPT", MW_ENOTFOUND, NULL},
    {"NOGROUP", MW_ENOTFOUND, NULL},
    {"BUSYGROUP", MW_EEXISTS, NULL},
    {"BUSYKEY", MW_EEXISTS, NULL},
    {"WRONGTYPE", MW_EINVALID, NULL},
};

int mw_redis_error_read(mw_str text, mw_err *err) {
  mw_str word = mw_redis_error_word(text);
  int len = text.len > 300 ? 300 : (int)text.len;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (!mw_str_eq(word, mw_str_from(words[i].word))) continue;
    if (!words[i].advice) return mw_err_set(err, words[i].code, "Redis: %.*s", len, text.ptr);
    return mw_err_set(err, words[i].code, "Redis: %.*s (%s)", len, text.ptr, words[i].advice);
  }
  return mw_err_set(err, MW_EREDIS, "Redis: %.*s", len, text.ptr);
}
