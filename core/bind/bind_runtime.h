// SPDX-License-Identifier: MIT
#pragma once

// mw.core.runtime: clocks, ids, log lines, configuration, plugin files, the key-value store and what the program tells of itself.
// Used by lua/mw only; lua/mw/_runtime.lua is its pleasant face.

#include <lua.h>

#include "vm/vm.h"

typedef struct mw_plugin_files mw_plugin_files;

/** Registers `mw.core.runtime` in package.preload. */
int mw_open_runtime(lua_State *L);
/** Gives a vm the plugin files it may read (and `require`) while it loads; borrowed until the vm is freed or set to NULL. */
void mw_bind_runtime_set_files(mw_vm *vm, const mw_plugin_files *files);
