// SPDX-License-Identifier: MIT
#pragma once

// mw.core.redis: Redis for lua/mw/redis. A failure is nil and an error object, which has `redis` (the first word of Redis' own reply,
// "WRONGTYPE") when Redis answered one.
//
//   call(session | nil, {name, arg, …}, timeout_s | nil) -> value                 waits
//   pipeline(session | nil, {{name, arg, …}, …}, timeout_s | nil) -> list        waits; an entry is a value, json.null or an error object
//   open() -> session          session:close(is_clean)     do not wait; a session ends with the task that opened it
//   subscribe({name, …}, are_patterns, max_queued) -> feed     does not wait; a feed ends with the task that subscribed
//   feed:ready(timeout_s | nil) -> true | nil, err          waits until Redis has confirmed
//   feed:next(timeout_s | nil) -> kind, channel, payload, pattern | nil, dropped     waits; kind: "message", "gap" or "end"; nil, err
//   feed:close()               is_configured() -> bool
//   end_feeds()                every feed of this state answers "end" from now on
//
// Arguments are strings (any bytes) and numbers. Values: strings, numbers (an integer beyond 2^53 as text), nil; in lists, marked as arrays
// for JSON, json.null stands for nil and an error object for an error.

#include <lua.h>

/** Registers `mw.core.redis`. Part of mw_vm_conf.modules. */
int mw_open_redis(lua_State *L);
