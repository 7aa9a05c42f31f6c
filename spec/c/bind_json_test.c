// SPDX-License-Identifier: MIT
// Encoding comes back soon after the watchdog's way of stopping a task: a hook set from a signal handler.

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <sys/time.h>

#include "base/buf.h"
#include "bind/bind_json.h"
#include "harness.h"

static lua_State *state;

static void on_hook(lua_State *L, lua_Debug *event) {}
static void on_signal(int number) { lua_sethook(state, on_hook, LUA_MASKCOUNT, 1); }

// Tables shared so often that writing them out takes far longer than the test may.
static void push_bomb(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; i < 60; i++) { // inner
    lua_createtable(L, 2, 0);
    lua_insert(L, -2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, 1);
    lua_rawseti(L, -2, 2);
  }
}

static void test_encoding_ends_when_a_hook_is_set(void) {
  state = luaL_newstate();
  luaL_openlibs(state);
  mw_open_json(state);
  push_bomb(state);

  signal(SIGALRM, on_signal);
  const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
  setitimer(ITIMER_REAL, &soon, NULL);
  mw_buf out = MW_BUF_INIT;
  mw_err err;
  const mw_json_encode_opts opts = {.max_bytes = (size_t)1 << 30};
  int64_t begin = mw_clock_mono_ms();
  CHECK_INT(mw_json_encode(state, -1, &opts, &out, &err), MW_EKILLED);
  CHECK(mw_clock_mono_ms() - begin < 2000);
  CHECK_INT(out.len, 0);

  lua_sethook(state, NULL, 0, 0);
  lua_newtable(state);
  CHECK_INT(mw_json_encode(state, -1, NULL, &out, NULL), 0);
  CHECK_STR(mw_buf_cstr(&out), "{}");
  mw_buf_deinit(&out);
  lua_close(state);
}

static void test_a_failed_encoding_leaves_the_buffer_as_it_was(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  mw_open_json(L);
  mw_buf out = MW_BUF_INIT;
  mw_buf_add_cstr(&out, "before");
  CHECK_INT(luaL_dostring(L, "return { a = 'x', b = { 0 / 0 } }"), 0);
  CHECK_INT(mw_json_encode(L, -1, NULL, &out, NULL), MW_EENCODE);
  CHECK_STR(mw_buf_cstr(&out), "before");
  CHECK_INT(lua_gettop(L), 1);
  CHECK_INT(mw_json_push(L, MW_STR("[1,{\"a\":}]"), NULL, NULL), MW_EJSON);
  CHECK_INT(lua_gettop(L), 1);
  mw_buf_deinit(&out);
  lua_close(L);
}

int main(int argc, char **argv) {
  const test tests[] = {
      TEST(test_encoding_ends_when_a_hook_is_set),
      TEST(test_a_failed_encoding_leaves_the_buffer_as_it_was),
  };
  return RUN_TESTS(argc, argv, tests);
}
