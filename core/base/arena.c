// SPDX-License-Identifier: MIT
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

enum { BLOCK = 4096 - 64, KEEP = 16384, ALIGN = 16 };

struct mw_arena_block {
  mw_arena_block *next;
  size_t size, used;
  _Alignas(16) char bytes[];
};

struct mw_arena_cleanup {
  mw_arena_cleanup *next;
  mw_arena_cb cb;
  void *arg;
};

void mw_arena_init(mw_arena *arena) { *arena = (mw_arena){NULL, NULL, 0}; }

static void run_cleanups(mw_arena *arena) {
  while (arena->cleanups) {
    mw_arena_cleanup *cleanup = arena->cleanups;
    arena->cleanups = cleanup->next;
    cleanup->cb(cleanup->arg);
  }
}

void mw_arena_deinit(mw_arena *arena) {
  run_cleanups(arena);
  for (mw_arena_block *b = arena->blocks, *next; b; b = next) {
    next = b->next;
    mw_free(b);
  }
  mw_arena_init(arena);
}

void mw_arena_reset(mw_arena *arena) {
  run_cleanups(arena);
  mw_arena_block *keep = NULL;
  for (mw_arena_block *b = arena->blocks, *next; b; b = next) {
    next = b->next;
    if (!next && b->size <= KEEP) keep = b;
    else mw_free(b);
  }
  if (keep) keep->used = 0;
  arena->blocks = keep;
  arena->used_bytes = 0;
}

void *mw_arena_alloc(mw_arena *arena, size_t size) {
  size_t need = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
  mw_arena_block *b = arena->blocks;
  if (!b || b->size - b->used < need) {
    size_t room = need > BLOCK ? need : BLOCK;
    mw_arena_block *fresh = mw_alloc(sizeof *fresh + room);
    *fresh = (mw_arena_block){b, room, 0};
    arena->blocks = b = fresh;
  }
  void *ptr = b->bytes + b->used;
  b->used += need;
  arena->used_bytes += need;
  return ptr;
}

void *mw_arena_calloc(mw_arena *arena, size_t size) { return memset(mw_arena_alloc(arena, size), 0, size); }

char *mw_arena_strndup(mw_arena *arena, const char *text, size_t len) {
  char *copy = mw_arena_alloc(arena, len + 1);
  if (len) memcpy(copy, text, len);
  copy[len] = 0;
  return copy;
}

mw_str mw_arena_str(mw_arena *arena, mw_str text) {
  return mw_str_of(mw_arena_strndup(arena, text.ptr, text.len), text.len);
}

void mw_arena_on_reset(mw_arena *arena, mw_arena_cb cb, void *arg) {
  mw_arena_cleanup *cleanup = mw_arena_alloc(arena, sizeof *cleanup);
  *cleanup = (mw_arena_cleanup){arena->cleanups, cb, arg};
  arena->cleanups = cleanup;
}
