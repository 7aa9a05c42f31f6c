// SPDX-License-Identifier: MIT
#pragma once

// The sandbox: what plugin code may see of Lua. A fresh environment a plugin with its own copies of the standard tables; text chunks
// only; the JIT off on every prototype; string matching with a step budget; coroutines that waits pass through; pcall that lets
// cancellation through. What it leaves out: lua/mw/_sandbox.lua.
//
// From Lua (lua/mw/_loader.lua): local sandbox = require "mw.core.sandbox"
//   local env = sandbox.new_env("checkout.lua")            -- strict: reading an unknown global raises, writing one stays in env
//   local chunk, err = sandbox.load(source, "@plugins/checkout.lua", env)
//   sandbox.interpret(fn)                                  -- jit.off for a function and all nested in it

#include <lua.h>

/** Opens `mw.core.sandbox`. Part of mw_vm_conf.modules. */
int mw_open_sandbox(lua_State *L);
