// SPDX-License-Identifier: MIT
#pragma once

// Temporary C memory that survives a longjmp: it is a Lua userdata on the stack, so an error frees it.
//
//   mw_buf *out = mw_scratch_buf(L);      // pushes one value; freed by the collector, or at once by mw_scratch_free(L, out)

#include <lua.h>

#include "base/buf.h"

/** Pushes a userdata that owns a buffer and returns the buffer. */
mw_buf *mw_scratch_buf(lua_State *L);
/** Frees the buffer's memory now (the userdata stays on the stack, empty). */
void mw_scratch_free(lua_State *L, mw_buf *buf);
