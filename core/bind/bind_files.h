// SPDX-License-Identifier: MIT
#pragma once

// mw.core.files: opening and reading files beneath a folder, on the work pool for files; what res:file (lua/mw/http/files.lua) stands on.
//
//   new() -> file                                closed by close(file) or by the collector
//   open(file, folder, path, gzip) -> true, is_gzip, has_gzip | nil, err, is_folder       waits
//        gzip: takes path .. ".gz" when there is one that is not older; has_gzip tells that there is
//   info(file) -> size, etag, modified (seconds), Last-Modified
//   read(file, offset, bytes) -> n | nil, err    waits; reads up to 64 KiB into the file's own buffer, n < bytes at its end
//   close(file)
//   conditional(etag, modified, is_read, if_match, if_none_match, if_modified_since, if_unmodified_since) -> 200, 304 or 412
//   range_holds(etag, modified, if_range) -> boolean
//   ranges(header, size) -> {first, last, first, last …}, nil to ignore it, false when nothing of it is there
//
// A task that is cancelled while it waits leaves the pool's thread to finish alone; what that opened is closed then.

#include <lua.h>

#include "base/str.h"

/** What was read last from the file at `index`; raises when it is none. Valid until the next read. */
mw_str mw_files_piece(lua_State *L, int index);
/** Frees the buffer of the file at `index` until the next read: it is going to wait. */
void mw_files_drop_piece(lua_State *L, int index);
/** Registers `mw.core.files`. Part of mw_vm_conf.modules. */
int mw_open_files(lua_State *L);
