// SPDX-License-Identifier: MIT
#pragma once

// mw_arena: memory for everything that lives as long as one request, task or parse. Freed at once; shared things
// are linked to it with a cleanup. Keeps its first block over a reset, so a reused arena does not allocate.
//
//   char *copy = mw_arena_strndup(&arena, text.ptr, text.len);
//   mw_arena_on_reset(&arena, close_file, file);
//   mw_arena_reset(&arena);

#include <stddef.h>

#include "base/str.h"

/* ffi-begin */
typedef struct mw_arena_block mw_arena_block;
typedef struct mw_arena_cleanup mw_arena_cleanup;

typedef struct mw_arena {
  mw_arena_block *blocks; /**< Newest first; the last one is kept by a reset. */
  mw_arena_cleanup *cleanups;
  size_t used_bytes; /**< Handed out since the last reset. */
} mw_arena;

typedef void (*mw_arena_cb)(void *arg);

void mw_arena_init(mw_arena *arena);
/** Runs the cleanups (newest first) and frees everything. */
void mw_arena_deinit(mw_arena *arena);
/** Runs the cleanups and empties the arena; one block of at most 16 KiB stays for the next use. */
void mw_arena_reset(mw_arena *arena);
/** Returns `size` uninitialised bytes aligned to 16. */
void *mw_arena_alloc(mw_arena *arena, size_t size);
void *mw_arena_calloc(mw_arena *arena, size_t size);
/** Returns a zero-terminated copy. */
char *mw_arena_strndup(mw_arena *arena, const char *text, size_t len);
/** Copies a slice into the arena (zero-terminated). */
mw_str mw_arena_str(mw_arena *arena, mw_str text);
/** Calls `cb(arg)` at the next reset or deinit. */
void mw_arena_on_reset(mw_arena *arena, mw_arena_cb cb, void *arg);
/* ffi-end */
