// SPDX-License-Identifier: MIT
#pragma once

// string.find, match, gmatch, gsub and rep for code that is not trusted: as in stock Lua 5.1, but the work of one call is bounded
// (vm/pattern.h), the watchdog can end it, and what it builds counts against the memory budget.

#include <lua.h>

/** Adds the five functions to the table on top of the stack. */
void mw_safe_string_add(lua_State *L);
