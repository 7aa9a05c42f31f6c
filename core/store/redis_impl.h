// SPDX-License-Identifier: MIT
#pragma once

// The inside of the Redis client, for redis*.c only.
//
//   request   commands of one call, encoded, from send to answer                     redis_request.c
//   conn      one connection: look-up, connect, AUTH and SELECT, replies in order    redis_conn.c
//   lane      requests that wait for a conn, and that conn: one is shared by all tasks, each session has one      redis.c
//   sub       a subscription; all share one conn                                     redis_sub.c

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "loop/dns.h"
#include "loop/loop.h"
#include "loop/stream.h"
#include "loop/timer.h"
#include "loop/tls.h"
#include "store/redis.h"
#include "store/redis_url.h"

#define MW_REDIS_NAME_BYTES 32

typedef struct mw_redis_conn mw_redis_conn;
typedef struct mw_redis_lane mw_redis_lane;
typedef struct mw_redis_subs mw_redis_subs;

struct mw_redis_request {
  mw_list node;      // in a lane's `waiting`, then in a conn's `sent`
  mw_redis *redis;
  mw_redis_conn *conn; // once it was sent
  mw_redis_cb cb;      // NULL: answered; the replies are still to come
  void *arg;
  mw_timer timer;
  int64_t timeout_ms, sent_ms;
  char name[MW_REDIS_NAME_BYTES]; // of the first command, for messages
  size_t count, got;
  mw_redis_reply *replies; // of a pipeline, gathered in `arena`
  mw_arena arena;
  size_t len, written; // written: of a large one
  bool is_partial;     // … of which there is more to write
  char bytes[];
};

typedef struct mw_redis_conn_events {
  /** It is connected and let in. */
  void (*on_up)(mw_redis_conn *conn, void *arg);
  /** It failed or was lost; everything sent on it has been answered. Not after mw_redis_conn_close. */
  void (*on_down)(mw_redis_conn *conn, int status, const mw_err *err, void *arg);
  /** The stream takes more. May be NULL. */
  void (*on_drain)(mw_redis_conn *conn, void *arg);
  /** Takes every reply once it is up, as after SUBSCRIBE; NULL: replies belong to requests. */
  void (*on_push)(mw_redis_conn *conn, const mw_redis_reply *reply, void *arg);
} mw_redis_conn_events;

struct mw_redis_conn {
  mw_redis *redis;
  const mw_redis_conn_events *events;
  void *arg;
  mw_dns *dns;
  mw_stream *stream;
  mw_address addresses[8];
  size_t address_count, next_address;
  mw_timer deadline; // of everything until it is up
  int64_t deadline_ms;
  struct redisReader *reader;
  mw_redis_sink sink;
  mw_arena scratch; // of one reply
  mw_list sent;
  bool up, closing;
  int64_t up_since_ms, read_ms;
  size_t unread_bytes; // fed since the last complete reply
  mw_err why; // it is being closed
};

struct mw_redis_lane {
  mw_redis *redis;
  mw_redis_conn *conn;
  mw_list waiting;
  mw_redis_request *partial; // a large one that is sent in slices; already in the conn's `sent`
  bool flush_due, gone;
  bool is_session, broken; // a session's connection is not replaced
  mw_list node;            // of a session, in redis->idle
  int64_t idle_since_ms;
};

struct mw_redis_session {
  mw_redis_lane lane;
};

struct mw_redis {
  mw_loop *loop;
  mw_redis_target *target;
  char *ca_file;
  mw_tls_context *tls; // made on first use
  int64_t timeout_ms;
  mw_redis_lane lane;  // the shared one
  size_t commands, bytes; // under way
  size_t sessions;
  mw_list idle; // sessions, oldest first
  mw_timer idle_timer;
  bool down; // the last attempt failed
  mw_err why;
  int attempt, short_lived;
  mw_timer retry;
  mw_redis_subs *subs; // made on first use
  size_t conns, flushes; // what keeps the memory
  bool closed;
  void (*gone)(void *arg);
  void *gone_arg;
};

/* redis_request.c */
/** Encodes a call; MW_EINVALID, MW_ELIMIT or MW_EBUSY with words. Counts it as under way. */
int mw_redis_request_new(mw_redis *redis, const mw_redis_call *call, mw_redis_request **out, mw_err *err);
/** The same for a call of our own that is known to be sound, without bounds: a client that is full must still be able to connect. */
mw_redis_request *mw_redis_request_make(mw_redis *redis, const mw_redis_call *call);
/** Answers, once; its memory stays. */
void mw_redis_request_answer(mw_redis_request *request, int status, const mw_redis_reply *replies, const mw_err *err);
/** Frees it; no longer under way. */
void mw_redis_request_free(mw_redis_request *request);
/** Answers all of a list and frees them; what was sent "may have been executed". */
void mw_redis_requests_fail(mw_list *list, int status, const mw_err *err, bool were_sent);

/* redis_conn.c */
/** Begins to connect. An error, or exactly one of on_up and on_down later. */
int mw_redis_conn_open(mw_redis *redis, const mw_redis_conn_events *events, void *arg, mw_redis_conn **out, mw_err *err);
/** Puts a request behind those that were sent; its bytes, or those of several at once, go out with mw_redis_conn_write. */
void mw_redis_conn_push(mw_redis_conn *conn, mw_redis_request *request);
/** Sends bytes; never calls back. */
void mw_redis_conn_write(mw_redis_conn *conn, mw_str bytes);
/** Both. */
void mw_redis_conn_send(mw_redis_conn *conn, mw_redis_request *request);
/** True when it should not be written to for a while. */
static inline bool mw_redis_conn_is_full(const mw_redis_conn *conn) { return mw_stream_is_full(conn->stream); }
/** Closes it without telling its owner; what was sent is answered MW_ECANCELED. */
void mw_redis_conn_close(mw_redis_conn *conn);
/** Gives it up as if it had been lost; on_down follows, later. */
void mw_redis_conn_abort(mw_redis_conn *conn, int status, const char *why);

/* redis.c */
int64_t mw_redis_backoff_ms(int attempt);
/** An attempt to connect failed: everything fails fast for a while. */
void mw_redis_note_down(mw_redis *redis, int status, const mw_err *err);
void mw_redis_note_up(mw_redis *redis);
/** Something that keeps the client's memory is gone. */
void mw_redis_maybe_free(mw_redis *redis);

/* redis_sub.c */
void mw_redis_subs_close(mw_redis *redis);
