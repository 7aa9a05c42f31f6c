// SPDX-License-Identifier: MIT
#pragma once

// The embedded Lua library as a package loader: `require "mw.http.router"` finds lua/mw/http/router.lua, or router/init.lua, linked
// into the program, or in the folder that the environment variable MW_LUA_PATH names (development).

#include <lua.h>

/** Reduces package.loaders to preload and the library. Raises. */
void mw_vm_open_library(lua_State *L);
