// SPDX-License-Identifier: MIT
#pragma once

// A plain LuaJIT state with all its libraries, our C modules and our Lua library, for commands that run Lua without a server: `test`, `types`.
//
//   lua_State *L = mw_plain_lua_new();      // NULL without memory
//   … lua_pcall of a function that calls mw_plain_lua_open(L) first …
//   lua_close(L);

#include <lua.h>

/** Makes the bare state. The caller closes it. */
lua_State *mw_plain_lua_new(void);
/** Opens libraries and modules; a lua/ folder of a source tree wins over what is linked in. Raises: call it protected. */
void mw_plain_lua_open(lua_State *L);
