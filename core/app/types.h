// SPDX-License-Identifier: MIT
#pragma once

// The type stubs of `mw` for the Lua language server, in a user's project.

#include "base/buf.h"
#include "base/err.h"

/** Where they are below a project's folder; .luarc.json names it. */
#define MW_TYPES_FOLDER ".moonwatch/types"

/** Writes mw.lua and mw/testing.lua, made by lua/mw/_types.lua from the library that is linked in, over older ones. `folder` gets where. */
int mw_types_write(const char *dir, mw_buf *folder, mw_err *err);
