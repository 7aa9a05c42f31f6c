// SPDX-License-Identifier: MIT
#include "app/plain_lua.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/embed.h"
#include "bind/bind.h"

// With a sanitizer Lua's memory comes from malloc, which it watches.
static void *allocate(void *arg, void *ptr, size_t old_size, size_t size) {
  if (size) return realloc(ptr, size);
  free(ptr);
  return NULL;
}

lua_State *mw_plain_lua_new(void) {
#ifdef MW_SANITIZE
  return lua_newstate(allocate, NULL);
#else
  (void)allocate;
  return luaL_newstate();
#endif
}

/** package.loaders: a module of the Lua library that is linked in. Comes last, so that lua/ of a source tree wins. */
static int l_find_embedded(lua_State *L) {
  char path[256];
  const char *name = luaL_checkstring(L, 1);
  static const char *const forms[] = {"%s.lua", "%s/init.lua"};
  for (int form = 0; form < 2; form++) {
    int len = snprintf(path, sizeof path, forms[form], name);
    if (len < 0 || len >= (int)sizeof path) break;
    for (char *p = path; p < path + strlen(name); p++)
      if (*p == '.') *p = '/';
    const mw_embed *file = mw_embed_find(mw_embedded_lua, path);
    if (!file) continue;
    lua_pushfstring(L, "@lua/%s", path);
    if (luaL_loadbuffer(L, file->begin, mw_embed_size(file), lua_tostring(L, -1))) return lua_error(L);
    return 1;
  }
  lua_pushfstring(L, "\n\tno module '%s' in the program", name);
  return 1;
}

static void add_loader(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");  // package, loaders
  lua_pushcfunction(L, l_find_embedded);
  lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
  lua_pop(L, 2);
}

void mw_plain_lua_open(lua_State *L) {
  luaL_openlibs(L);
  add_loader(L);
  for (const lua_CFunction *open = mw_bind_modules; *open; open++) {
    lua_pushcfunction(L, *open);
    lua_call(L, 0, 0);
  }
}
