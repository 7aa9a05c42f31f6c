// SPDX-License-Identifier: MIT
#pragma once

// The type stubs of `mw` for the Lua language server, in a user's project.

#include "base/buf.h"
#include "base/err.h"

/** Where they are below a project's folder; .luarc.json names the folder. */
#define MW_TYPES_PATH ".moonwatch/types/mw.lua"

/** Appends the stub's text, made by lua/mw/_types.lua from the library that is linked in. */
int mw_types_make(mw_buf *out, mw_err *err);
/** Writes it to DIR/.moonwatch/types/mw.lua, over an older one; `path` gets where. */
int mw_types_write(const char *dir, mw_buf *path, mw_err *err);
