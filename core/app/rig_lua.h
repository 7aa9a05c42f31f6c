// SPDX-License-Identifier: MIT
#pragma once

// mw.core.rig: rigs (app/rig.h) for lua/mw/testing, in the state that runs specs.

#include <lua.h>

/** Registers `mw.core.rig` in package.preload. */
int mw_open_rig(lua_State *L);
