// SPDX-License-Identifier: MIT
#pragma once

// The last argument of mw.core.store's create and append, a table or nil, and the signals of executions.
//
//   create(…, { group = "customer:7", slots = 2, priority = 5, tags = '{"a":1}', parent = id, parent_key = "pay", id = own_id })
//   append(…, { state = '{"at":2}', waits = { "approved" }, take = { signal_id } })   -- true, and the row's control unless it is 0

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "store/journal.h"

/** Reads the table at `index` into `out`; false when there is none. Strings are the table's, or are left on the stack, which grows by a
 *  few; both must stay until the write was queued. `own_id` gets the `id`, when there is one. Raises for what is wrong. */
bool mw_store_read_more(lua_State *L, int index, mw_write_more *out, mw_id *own_id);

/** Microseconds of a Lua number; from 2^63 on INT64_MAX. */
int64_t mw_store_opt_us(lua_State *L, int index);

/** signal(id, name, data, signal_id, actor) -> true | nil, err: the execution gets a signal, at most once an id (nil: a new one). When it
 *  waits for that name it is queued in the same commit. `not_found`: there is no such execution; `conflict`: it has ended; `limit`: it has had 10,000. Yields.
 *  signals(id) -> list of {id, name, sent_us, data, is_large}: those that nobody has taken, oldest first. With `is_large` (1) the data, more
 *  than 256 characters, is left out. signals(id, signal_id) -> a list of that one, with all its data. Both yield. */
extern const luaL_Reg mw_store_signal_functions[];
