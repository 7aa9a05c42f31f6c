// SPDX-License-Identifier: MIT
#pragma once

// Commands from Lua values and Lua values from replies; and what the files of mw.core.redis share.

#include <lua.h>

#include "base/arena.h"
#include "store/redis.h"

/** Reads the list at `index` (positive) as a command; a field `n` is its length, so that a nil at its end is seen. Numbers are written into
 *  `arena`, strings stay the list's. MW_EINVALID names the argument that Redis cannot be sent. */
int mw_redis_read_command(lua_State *L, int index, mw_arena *arena, mw_redis_command *out, mw_err *err);
/** Pushes one value; nil as json.null when `in_list`. Needs no more than 40 stack slots, which it checks for. */
void mw_redis_push_value(lua_State *L, const mw_redis_reply *reply, bool in_list);
/** Pushes nil and the error object of an error reply; returns 2. */
int mw_redis_push_failure(lua_State *L, const mw_redis_reply *reply);
/** Raises `invalid`. */
int mw_redis_refuse(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The worker's client; raises when there is none, with the line that configures one. */
mw_redis *mw_redis_check_client(lua_State *L);

/** redis_feed.c: subscribe and end_feeds, and the metatable of feeds. */
int mw_redis_l_subscribe(lua_State *L);
int mw_redis_l_end_feeds(lua_State *L);
void mw_redis_open_feed(lua_State *L);
