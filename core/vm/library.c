// SPDX-License-Identifier: MIT
#include "vm/library.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/embed.h"

#define PATH_BYTES 512

static int load_embedded(lua_State *L, const char *path) {
  const mw_embed *file = mw_embed_find(mw_embedded_lua, path);
  if (!file) return 0;
  char chunk[PATH_BYTES + 8];
  snprintf(chunk, sizeof chunk, "@lua/%s", path);
  if (luaL_loadbuffer(L, file->begin, mw_embed_size(file), chunk)) lua_error(L);
  return 1;
}

static int load_file(lua_State *L, const char *folder, const char *path) {
  char full[2 * PATH_BYTES];
  snprintf(full, sizeof full, "%s/%s", folder, path);
  FILE *file = fopen(full, "rb");
  if (!file) return 0;
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  size_t len;
  do {
    len = fread(luaL_prepbuffer(&text), 1, LUAL_BUFFERSIZE, file);
    luaL_addsize(&text, len);
  } while (len > 0);
  fclose(file);
  luaL_pushresult(&text);
  char chunk[PATH_BYTES + 8];
  snprintf(chunk, sizeof chunk, "@lua/%s", path);
  if (luaL_loadbuffer(L, lua_tostring(L, -1), lua_objlen(L, -1), chunk)) lua_error(L);
  return 1;
}

static int load_path(lua_State *L, const char *path) {
  const char *folder = getenv("MW_LUA_PATH");
  if (folder && *folder && load_file(L, folder, path)) return 1;
  return load_embedded(L, path);
}

static int searcher(lua_State *L) {
  size_t len;
  const char *name = luaL_checklstring(L, 1, &len);
  char path[PATH_BYTES];
  if (len + sizeof "/init.lua" > sizeof path || strstr(name, "..") || memchr(name, 0, len)) return 0;
  for (size_t i = 0; i < len; i++) path[i] = name[i] == '.' ? '/' : name[i];
  strcpy(path + len, ".lua");
  if (load_path(L, path)) return 1;
  strcpy(path + len, "/init.lua");
  if (load_path(L, path)) return 1;
  lua_pushfstring(L, "\n\tno file '%s' in the library", name);
  return 1;
}

void mw_vm_open_library(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  lua_createtable(L, 2, 0);
  lua_rawgeti(L, -2, 1); // package.preload's
  lua_rawseti(L, -2, 1);
  lua_pushcfunction(L, searcher);
  lua_rawseti(L, -2, 2);
  lua_setfield(L, -3, "loaders");
  lua_pop(L, 2);
}
