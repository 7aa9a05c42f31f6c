// SPDX-License-Identifier: MIT
#pragma once

// mw_ref: a Lua value kept by C, with the vm it belongs to, so that it cannot be used on another state.

#include <lauxlib.h>
#include <lua.h>

#include "vm/vm.h"

typedef struct mw_ref {
  mw_vm *vm;
  int ref;
} mw_ref;

#define MW_REF_NONE ((mw_ref){NULL, LUA_NOREF})

/** Pops the top value of `L` and keeps it. */
mw_ref mw_ref_take(lua_State *L);
/** Pushes it on `L`, a state or coroutine of the same vm. */
void mw_ref_push(const mw_ref *ref, lua_State *L);
/** Lets it go; harmless on MW_REF_NONE. */
void mw_ref_free(mw_ref *ref);
