// SPDX-License-Identifier: MIT
#pragma once

// The C modules that lua/mw sees. Each mw_open_<x>(L) registers `mw.core.<x>` in package.preload (mw_vm_add_module) and returns 0.

#include <lua.h>

int mw_open_task(lua_State *L);

/** All of them, NULL-ended: mw_vm_conf.modules of every state. */
extern const lua_CFunction mw_bind_modules[];
