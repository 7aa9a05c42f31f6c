// SPDX-License-Identifier: MIT
#include "base/world.h"

#include <stddef.h>

static _Thread_local mw_world *current;

mw_world *mw_world_current(void) { return current; }

mw_world *mw_world_use(mw_world *world) {
  mw_world *before = current;
  current = world;
  return before;
}
