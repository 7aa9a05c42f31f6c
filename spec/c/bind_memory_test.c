// SPDX-License-Identifier: MIT
// Fails the n-th allocation of a Lua state, for every n, inside the JSON and crypto bindings. Lua leaves a C function by longjmp
// then: nothing may crash, nothing of C may leak (LeakSanitizer looks), and the state must work afterwards.

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>

#include "bind/bind_crypto.h"
#include "bind/bind_json.h"
#include "harness.h"

static long countdown = -1; // allocations until one fails; below 0: none does
static bool failed;

static void *allocate(void *arg, void *ptr, size_t old_size, size_t size) {
  (void)arg;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  if (size > old_size && countdown >= 0 && countdown-- == 0) {
    failed = true;
    return NULL;
  }
  return realloc(ptr, size);
}

static const char script[] =
    "local json, crypto = require 'mw.core.json', require 'mw.core.crypto'\n"
    "return function(tag)\n"
    "  local value = json.decode('{\"a\":[1,\"es\\\\u00e9caped' .. tag .. '\",{}],\"b\":{\"c\":[[2]],\"d\":\"' .. tag .. 'x\"}}')\n"
    "  local text = json.encode(value, { sort = true })\n"
    "  json.encode({ x = { 0 / 0 } })\n"
    "  json.decode('{\"a\":[\"\\\\n' .. tag .. '\",}')\n"
    "  local box = json.raw(text)\n"
    "  json.encode { box, json.array(), tag }\n"
    "  local wide = {}\n"
    "  for i = 1, 70 do wide[i] = tag .. i end\n"
    "  json.decode(json.encode(wide))\n"
    "  assert(crypto.base64_decode(crypto.base64_encode(text .. tag)) == text .. tag)\n"
    "  assert(crypto.hex_decode(crypto.hex_encode(text .. tag)) == text .. tag)\n"
    "  crypto.digest('sha256', tag) crypto.hmac('sha1', tag, text) crypto.random(20)\n"
    "  return text\n"
    "end";

static int open_all(lua_State *L) {
  luaL_openlibs(L);
  mw_open_json(L);
  mw_open_crypto(L);
  if (luaL_loadbuffer(L, script, sizeof script - 1, "=script")) return lua_error(L);
  lua_call(L, 0, 1);
  lua_setglobal(L, "work");
  return 0;
}

static int work(lua_State *L, const char *tag) {
  lua_getglobal(L, "work");
  lua_pushstring(L, tag);
  return lua_pcall(L, 1, 1, 0);
}

static void test_every_failed_allocation_is_survived(void) {
  long n = 0;
  do {
    char tag[32];
    snprintf(tag, sizeof tag, "tag%ld", n);
    failed = false;
    countdown = -1;
    lua_State *L = lua_newstate(allocate, NULL);
    CHECK(L && lua_cpcall(L, open_all, NULL) == 0);
    lua_getglobal(L, "work");
    lua_pushstring(L, tag);
    countdown = n;
    int rc = lua_pcall(L, 1, 1, 0);
    countdown = -1;
    CHECK(rc == 0 || failed); // the JIT gives a trace up quietly, so a failure need not be an error
    lua_settop(L, 0);
    CHECK(work(L, "again") == 0);
    CHECK_STR(lua_tostring(L, -1), "{\"a\":[1,\"es\xC3\xA9" "capedagain\",{}],\"b\":{\"c\":[[2]],\"d\":\"againx\"}}");
    lua_close(L);
    n++;
  } while (failed && n < 5000);
  CHECK(!failed && n > 50);
}

int main(int argc, char **argv) {
  const test tests[] = {TEST(test_every_failed_allocation_is_survived)};
  return RUN_TESTS(argc, argv, tests);
}
