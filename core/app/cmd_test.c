// SPDX-License-Identifier: MIT
// `moonwatch test`: busted inside the program, on a plain LuaJIT state with all its libraries. Specs reach C through FFI, because
// the program exports its symbols, and our Lua modules by `require`. What happens with the arguments is lua/mw/testing/_run.lua.
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "app/plain_lua.h"
#include "app/rig_lua.h"
#include "app/test_watch.h"
#include "base/alloc.h"

/** Runs in a protected call: argument 1 is the mw_cli. Leaves the exit code. */
static int l_run(lua_State *L) {
  const mw_cli *cli = lua_touserdata(L, 1);
  mw_plain_lua_open(L);
  mw_open_rig(L);
  lua_newtable(L);
  for (int i = 0; i < cli->argc; i++) {
    lua_pushstring(L, strcmp(cli->argv[i], "--json") == 0 ? "--output=json" : cli->argv[i]);
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

/** Runs it again and again without that flag. */
static int run_watched(mw_cli *cli, int flag) {
  char **argv = mw_calloc((size_t)cli->argc + 3, sizeof *argv);
  int n = 0;
  argv[n++] = (char *)"moonwatch";
  argv[n++] = (char *)"test";
  for (int i = 0; i < cli->argc; i++)
    if (i != flag) argv[n++] = (char *)cli->argv[i];
  int code = mw_test_watch(argv);
  mw_free(argv);
  return code;
}

static int run_test(mw_cli *cli) {
  for (int i = 0; i < cli->argc; i++) {
    if (strcmp(cli->argv[i], "--watch") == 0) return run_watched(cli, i);
    // busted's own help calls itself an error, and knows nothing of ours
    if (strcmp(cli->argv[i], "--help") == 0) return mw_cli_main(3, (char *[]){"moonwatch", "help", "test", NULL});
  }
  lua_State *L = mw_plain_lua_new();
  if (!L) return mw_cli_fail(cli, MW_EXIT_FAILED, "not enough memory for a Lua state");
  int code = MW_EXIT_FAILED;
  if (run_protected(L, cli) == 0) code = (int)lua_tointeger(L, -1);
  else fprintf(stderr, "moonwatch test: %s\n", lua_tostring(L, -1));
  lua_close(L);
  return code;
}

const mw_command mw_command_test = {
    .name = "test",
    .args = "[--watch] [BUSTED FLAGS] [FILE OR FOLDER …]",
    .summary = "Run specs with busted inside the program",
    .details = "Without a file or folder everything below spec/ runs. spec/support/helper.lua is loaded first where it exists.\n"
               "A spec runs plugins by `require \"mw.testing\"`: docs/testing.md. --watch runs again when a file below plugins/, spec/,\n"
               "lua/ or migrations/ changes. MW_TEST_RECORD=1 lets recorded fetches ask the real network.\n"
               "Flags are busted's: --filter=PATTERN, --tags=TAGS, -o TAP, --list, …; --json is -o json. Needs Debian's package lua-busted.\n"
               "Exit codes: 0 all passed, 1 something failed, 2 busted or the arguments are not right.",
    .is_raw = true,
    .run = run_test,
};
