// SPDX-License-Identifier: MIT
#pragma once

// mw_redis: a worker's way to one Redis server. Owner's thread only. Nothing is connected before the first command, so a Redis that is
// away never holds up a start.
//
// How: hiredis reads the replies (store/redis_reply.h), over our own streams. Its asynchronous context was left aside, because the
// packaged 0.14 has no TLS and no deadline for a command, and looks host names up in the loop's thread; over mw_stream `rediss://` is the
// TLS everything else uses, and names go through loop/dns.
//
// Commands of all tasks share one connection and are pipelined: what comes within a turn of the loop is one write, replies are matched in
// order. What needs a connection for itself (WATCH, blocking commands) opens a session; subscriptions have one more (store/redis_sub.h).
//
// Deadlines: every command has one. When it passes, the caller is answered MW_ETIMEOUT; the reply that comes later is read and
// thrown away in its place, so that it never becomes another's. A connection on which nothing at all comes
// for twice the deadline (the client's, when the command's is shorter) is given up.
// When a connection is lost, what was sent on it is answered MW_EUNAVAILABLE and "it may have been executed", and never sent again; what was
// not sent goes out on the next one. After an attempt to connect has failed everything is answered MW_EUNAVAILABLE at once, and attempts
// go on in the background (50 ms doubling to 5 s, half of it by chance) until one succeeds.
//
// Bounds: MW_REDIS_MAX_COMMANDS and MW_REDIS_MAX_BYTES under way a client (more is MW_EBUSY), MW_REDIS_MAX_REPLY bytes of reply and seven
// levels of arrays (more ends the connection: MW_ELIMIT for whom it was, MW_EUNAVAILABLE for who waited behind).
//
//   mw_redis *redis; mw_redis_new(loop, &(mw_redis_conf){.url = url}, &redis, &err);
//   mw_redis_send(redis, NULL, &(mw_redis_call){.commands = &command, .count = 1}, on_reply, me, &request, &err);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "store/redis_reply.h"

#define MW_REDIS_MAX_COMMANDS 10000
#define MW_REDIS_MAX_BYTES ((size_t)64 << 20)
#define MW_REDIS_MAX_REPLY ((size_t)64 << 20)
#define MW_REDIS_MAX_SESSIONS 32

typedef struct mw_loop mw_loop;
typedef struct mw_redis mw_redis;
typedef struct mw_redis_request mw_redis_request;
typedef struct mw_redis_session mw_redis_session;

typedef struct mw_redis_conf {
  const char *url;     /**< store/redis_url.h. */
  const char *ca_file; /**< For rediss://: trust these certificates instead of the system's. NULL or "": the system's. Copied. */
  int64_t timeout_ms;  /**< Of a command, and of connecting. 0: 5 s. */
} mw_redis_conf;

/** A command: its name and arguments, any bytes. */
typedef struct mw_redis_command {
  const mw_str *argv;
  size_t argc; /**< At least 1. */
} mw_redis_command;

typedef struct mw_redis_call {
  const mw_redis_command *commands; /**< Sent in one piece, so that no other task's command comes in between. Copied. */
  size_t count;                     /**< 1 … MW_REDIS_MAX_COMMANDS */
  int64_t timeout_ms;               /**< 0: the client's. For all of them together. */
} mw_redis_call;

/** `status` 0: `replies`, one for each command (error replies are replies), borrowed until this returns. Else NULL and why in `err`. */
typedef void (*mw_redis_cb)(int status, const mw_redis_reply *replies, size_t count, const mw_err *err, void *arg);

/** Makes a client; connects to nothing. MW_ECONFIG says what is wrong with the URL. */
int mw_redis_new(mw_loop *loop, const mw_redis_conf *conf, mw_redis **out, mw_err *err);
/** Answers what is under way with MW_ECANCELED, closes all connections; `cb(arg)` when it is gone, later. Sessions and subscriptions must
 *  have been closed. */
void mw_redis_close(mw_redis *redis, void (*cb)(void *arg), void *arg);

/** Sends, on `session` when that is not NULL. Returns an error (and never calls back), or 0 and calls back exactly once, later, unless it
 *  is cancelled. */
int mw_redis_send(mw_redis *redis, mw_redis_session *session, const mw_redis_call *call, mw_redis_cb cb, void *arg, mw_redis_request **out,
                  mw_err *err);
/** Nobody waits for it any more: no callback comes. Not sent yet, it never will be. */
void mw_redis_cancel(mw_redis_request *request);

/** A connection for one user. Returns at once; what is sent on it waits for the connection. MW_EBUSY: MW_REDIS_MAX_SESSIONS are in use. */
int mw_redis_session_open(mw_redis *redis, mw_redis_session **out, mw_err *err);
/** Ends it. `is_clean`: nothing is under way or left on the connection (WATCH, MULTI), so it may serve another; else it is closed, and
 *  what is under way is answered MW_ECANCELED. */
void mw_redis_session_close(mw_redis_session *session, bool is_clean);
