// SPDX-License-Identifier: MIT
#pragma once

// Files linked into the program: the Lua library and the migrations. Immutable, any thread.
//
//   for (const mw_embed *e = mw_embedded_lua; e->name; e++) printf("%s %zu\n", e->name, mw_embed_size(e));

#include <stddef.h>

typedef struct mw_embed {
  const char *name;  /**< Path below the embedded folder, for example "mw/init.lua". NULL ends a list. */
  const char *begin; /**< First byte. A zero byte follows the last one. */
  const char *end;   /**< The byte after that zero. */
} mw_embed;

extern const mw_embed mw_embedded_lua[];
extern const mw_embed mw_embedded_migrations[];

/** Returns the file's length in bytes. */
static inline size_t mw_embed_size(const mw_embed *embed) { return (size_t)(embed->end - embed->begin - 1); }

/** Returns the entry called `name` in `list`, or NULL. */
const mw_embed *mw_embed_find(const mw_embed *list, const char *name);
