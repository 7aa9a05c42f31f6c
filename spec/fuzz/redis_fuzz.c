// SPDX-License-Identifier: MIT
// Replies of something that may be no Redis: read in pieces they are the same as read whole, and memory stays within the bound.
#include <hiredis/hiredis.h>

#include "base/buf.h"
#include "fuzz.h"
#include "store/redis_reply.h"
#include "store/redis_url.h"

#define MAX_BYTES 100000

static void show(const mw_redis_reply *reply, mw_buf *out) {
  mw_buf_printf(out, "(%d %lld ", reply->kind, (long long)reply->i);
  mw_buf_add_str(out, reply->str);
  for (size_t i = 0; i < reply->count; i++) show(&reply->items[i], out);
  mw_buf_add_byte(out, ')');
  mw_err err = {0};
  if (reply->kind == MW_REDIS_ERROR) MUST(mw_redis_error_read(reply->str, &err) != 0 && err.text[0]);
}

static void read_all(mw_str bytes, bool cut, mw_buf *story) {
  mw_arena arena;
  mw_arena_init(&arena);
  mw_redis_sink sink = {.arena = &arena, .max_bytes = MAX_BYTES};
  struct redisReader *reader = mw_redis_reader_new(&sink);
  cutter cuts = cutter_of(bytes);
  for (size_t at = 0; at < bytes.len;) {
    size_t len = cut ? next_cut(&cuts, bytes.len - at) : bytes.len - at;
    redisReaderFeed(reader, bytes.ptr + at, len);
    at += len;
    void *reply = NULL;
    int rc;
    while ((rc = redisReaderGetReply(reader, &reply)) == REDIS_OK && reply) {
      show(reply, story);
      mw_arena_reset(&arena);
    }
    if (rc != REDIS_OK) {
      mw_buf_add_cstr(story, "error");
      break;
    }
    MUST(arena.used_bytes <= MAX_BYTES + 65536);
  }
  redisReaderFree(reader);
  mw_arena_deinit(&arena);
}

FUZZ(bytes) {
  mw_buf whole = MW_BUF_INIT, pieces = MW_BUF_INIT;
  read_all(bytes, false, &whole);
  read_all(bytes, true, &pieces);
  MUST(mw_str_eq(mw_buf_str(&whole), mw_buf_str(&pieces)));
  mw_buf_deinit(&whole);
  mw_buf_deinit(&pieces);
}
