// SPDX-License-Identifier: MIT
#pragma once

// mw.core.multipart: http/multipart.h for lua/mw/http/multipart.lua.
//
//   new(content_type) -> parser | nil, err
//   next(parser, piece, at) -> "part", at, name, type | nil, filename | nil, raw filename      what follows begins at the new `at`
//                              "data", at, text     "end", at     "done", at     "more"     | nil, err
//   finish(parser) -> true | nil, err

#include <lua.h>

/** Registers `mw.core.multipart`. Part of mw_vm_conf.modules. */
int mw_open_multipart(lua_State *L);
