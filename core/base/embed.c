// SPDX-License-Identifier: MIT
#include "base/embed.h"

#include <string.h>

const mw_embed *mw_embed_find(const mw_embed *list, const char *name) {
  for (const mw_embed *e = list; e->name; e++)
    if (strcmp(e->name, name) == 0) return e;
  return NULL;
}
