// SPDX-License-Identifier: MIT
#pragma once

// mw.core.fetch: requests to other servers for lua/mw/fetch.lua.

#include <lua.h>

/** Registers `mw.core.fetch` in package.preload. */
int mw_open_fetch(lua_State *L);
