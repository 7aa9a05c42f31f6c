// SPDX-License-Identifier: MIT
#pragma once

// mw_redis_sub: a subscription to channels or patterns. All of a client share one connection of their own, opened at the first one and
// closed some seconds after the last; a channel that several want is subscribed to once. When the connection is lost it is made again
// with backoff, everything is subscribed to anew, and each subscription hears MW_REDIS_SUB_GAP: what was published meanwhile is lost.
//
// `cb` must not call functions of this file. Owner's thread only.
//
//   mw_redis_sub *sub; mw_redis_subscribe(redis, &channel, 1, false, on_event, me, &sub, &err);

#include "store/redis.h"

#define MW_REDIS_MAX_TOPICS 10000

typedef struct mw_redis_sub mw_redis_sub;

typedef enum mw_redis_sub_event {
  MW_REDIS_SUB_READY,   /**< Redis has confirmed all channels; what is published from now on comes. Once. */
  MW_REDIS_SUB_MESSAGE,
  MW_REDIS_SUB_GAP,     /**< The connection was lost and is there again. */
  MW_REDIS_SUB_FAILED,  /**< Nothing comes any more; `err` says why. */
} mw_redis_sub_event;

typedef struct mw_redis_message {
  mw_str channel, payload;
  mw_str pattern; /**< `.ptr` NULL: subscribed by its name. */
} mw_redis_message;

/** `message` and `err` are borrowed, and NULL but for the events that have one. */
typedef void (*mw_redis_sub_cb)(mw_redis_sub *sub, mw_redis_sub_event event, const mw_redis_message *message, const mw_err *err, void *arg);

/** Subscribes to `count` names (at least one, all different); READY or FAILED comes later, unless it is ready when this returns. */
int mw_redis_subscribe(mw_redis *redis, const mw_str *names, size_t count, bool are_patterns, mw_redis_sub_cb cb, void *arg,
                       mw_redis_sub **out, mw_err *err);
/** True when another had all of it already, so that no READY comes. */
bool mw_redis_sub_is_ready(const mw_redis_sub *sub);
/** Ends and frees it; no callback comes. */
void mw_redis_unsubscribe(mw_redis_sub *sub);
/** The deadline of the client's commands. */
int64_t mw_redis_timeout_ms(const mw_redis *redis);
