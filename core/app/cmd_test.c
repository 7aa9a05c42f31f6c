// SPDX-License-Identifier: MIT
// `moonwatch test`: busted inside the program, on a plain LuaJIT state with all its libraries. Specs reach C through FFI, because
// the program exports its symbols, and our Lua modules by `require`. What happens with the arguments is lua/mw/testing/_run.lua.
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "base/embed.h"
#include "bind/bind.h"

// With a sanitizer Lua's memory comes from malloc, which it watches.
static void *allocate(void *arg, void *ptr, size_t old_size, size_t size) {
  if (size) return realloc(ptr, size);
  free(ptr);
  return NULL;
}

static lua_State *new_state(void) {
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

/** Runs in a protected call: argument 1 is the mw_cli. Leaves the exit code. */
static int l_run(lua_State *L) {
  const mw_cli *cli = lua_touserdata(L, 1);
  luaL_openlibs(L);
  add_loader(L);
  for (const lua_CFunction *open = mw_bind_modules; *open; open++) {
    lua_pushcfunction(L, *open);
    lua_call(L, 0, 0);
  }
  lua_newtable(L);
  for (int i = 0; i < cli->argc; i++) {
    lua_pushstring(L, cli->argv[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_getglobal(L, "require");
  lua_pushliteral(L, "mw.testing._run");
  lua_call(L, 1, 1);  // arguments, run
  lua_insert(L, -2);
  lua_call(L, 1, 1);
  return 1;
}

static int run_protected(lua_State *L, mw_cli *cli) {
  lua_pushcfunction(L, l_run);
  lua_pushlightuserdata(L, cli);
  return lua_pcall(L, 1, 1, 0);
}

static int run_test(mw_cli *cli) {
  lua_State *L = new_state();
  if (!L) return mw_cli_fail(cli, MW_EXIT_FAILED, "not enough memory for a Lua state");
  int code = MW_EXIT_FAILED;
  if (run_protected(L, cli) == 0) code = (int)lua_tointeger(L, -1);
  else fprintf(stderr, "moonwatch test: %s\n", lua_tostring(L, -1));
  lua_close(L);
  return code;
}

const mw_command mw_command_test = {
    .name = "test",
    .args = "[BUSTED FLAGS] [FILE OR FOLDER …]",
    .summary = "Run specs with busted inside the program",
    .details = "Without a file or folder everything below spec/ runs. spec/support/helper.lua is loaded first where it exists.\n"
               "Flags are busted's: --filter=PATTERN, --tags=TAGS, -o TAP, --list, … Needs Debian's package lua-busted.\n"
               "Exit codes: 0 all passed, 1 something failed, 2 busted or the arguments are not right.",
    .is_raw = true,
    .run = run_test,
};
