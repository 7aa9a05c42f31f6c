// SPDX-License-Identifier: MIT
#pragma once

// mw_redis_reply: a reply of Redis (RESP2) as a small tree in an arena, read by hiredis' reader with object functions of ours: they
// allocate nothing but arena memory, count it, and take an array's length as a promise only, so that "*1000000000" costs nothing.
// Arrays nest seven deep at most; deeper is a protocol error.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

typedef enum mw_redis_kind {
  MW_REDIS_NIL,
  MW_REDIS_STATUS, /**< `str`: "OK" */
  MW_REDIS_ERROR,  /**< `str`: "WRONGTYPE Operation against …" */
  MW_REDIS_INT,    /**< `i` */
  MW_REDIS_BULK,   /**< `str`: any bytes */
  MW_REDIS_ARRAY,  /**< `items`, `count` of them */
} mw_redis_kind;

typedef struct mw_redis_reply {
  mw_redis_kind kind;
  int64_t i;
  mw_str str;
  struct mw_redis_reply *items;
  size_t count, cap;
} mw_redis_reply;

/** Where the reader puts what it reads; its owner moves `arena` between replies. */
typedef struct mw_redis_sink {
  mw_arena *arena;
  size_t max_bytes; /**< The reader fails when the arena holds more. */
  bool is_over;     /**< … and this says that it was why. */
} mw_redis_sink;

struct redisReader;
/** Makes a reader that fills `sink`, which outlives it. Free with redisReaderFree. */
struct redisReader *mw_redis_reader_new(mw_redis_sink *sink);

/** The first word of an error reply, "WRONGTYPE"; "ERR" when it has none. */
mw_str mw_redis_error_word(mw_str text);
/** Our code for an error reply; `err` gets the words, with what to do where Redis' own do not say. */
int mw_redis_error_read(mw_str text, mw_err *err);
