// SPDX-License-Identifier: MIT
#include "bind/bind_crypto.h"

#include <lauxlib.h>

#include "base/digest.h"
#include "base/rand.h"
#include "base/seal.h"
#include "vm/scratch.h"

enum { MAX_RANDOM = 1 << 20 };

static mw_str check_str(lua_State *L, int index) {
  mw_str text;
  text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

// Pushes the content of a scratch buffer and frees it. Returns 1.
static int push_buf(lua_State *L, mw_buf *out) {
  lua_pushlstring(L, out->ptr ? out->ptr : "", out->len);
  mw_scratch_free(L, out);
  return 1;
}

static int push_digest(lua_State *L, const uint8_t *bytes, size_t len, bool raw) {
  static const char hex[] = "0123456789abcdef";
  char text[2 * MW_DIGEST_MAX];
  if (len == 0) lua_pushnil(L);
  else if (raw) lua_pushlstring(L, (const char *)bytes, len);
  else {
    for (size_t i = 0; i < len; i++) text[2 * i] = hex[bytes[i] >> 4], text[2 * i + 1] = hex[bytes[i] & 15];
    lua_pushlstring(L, text, 2 * len);
  }
  return 1;
}

static int l_digest(lua_State *L) {
  uint8_t bytes[MW_DIGEST_MAX];
  size_t len = mw_digest(luaL_checkstring(L, 1), check_str(L, 2), bytes);
  return push_digest(L, bytes, len, lua_toboolean(L, 3));
}

static int l_hmac(lua_State *L) {
  uint8_t bytes[MW_DIGEST_MAX];
  size_t len = mw_digest_hmac(luaL_checkstring(L, 1), check_str(L, 2), check_str(L, 3), bytes);
  return push_digest(L, bytes, len, lua_toboolean(L, 4));
}

static int l_random(lua_State *L) {
  lua_Number count = luaL_checknumber(L, 1);
  if (!(count >= 0 && count <= MAX_RANDOM)) return luaL_argerror(L, 1, "0 to 1,048,576 bytes");
  size_t len = (size_t)count;
  void *bytes = lua_newuserdata(L, len);
  mw_rand_bytes(bytes, len);
  lua_pushlstring(L, bytes, len);
  return 1;
}

static int l_equal(lua_State *L) {
  lua_pushboolean(L, mw_digest_equal(check_str(L, 1), check_str(L, 2)));
  return 1;
}

static int l_base64_encode(lua_State *L) {
  mw_str data = check_str(L, 1);
  bool url = lua_toboolean(L, 2);
  mw_buf *out = mw_scratch_buf(L);
  mw_base64_encode(out, data, url);
  return push_buf(L, out);
}

static int l_base64_decode(lua_State *L) {
  mw_str text = check_str(L, 1);
  mw_buf *out = mw_scratch_buf(L);
  if (mw_base64_decode(out, text)) return push_buf(L, out);
  mw_scratch_free(L, out);
  lua_pushnil(L);
  return 1;
}

static int l_hex_encode(lua_State *L) {
  mw_str data = check_str(L, 1);
  mw_buf *out = mw_scratch_buf(L);
  mw_hex_encode(out, data);
  return push_buf(L, out);
}

static int l_hex_decode(lua_State *L) {
  mw_str text = check_str(L, 1);
  mw_buf *out = mw_scratch_buf(L);
  if (mw_hex_decode(out, text)) return push_buf(L, out);
  mw_scratch_free(L, out);
  lua_pushnil(L);
  return 1;
}

static const void *check_key(lua_State *L) {
  mw_str key = check_str(L, 1);
  luaL_argcheck(L, key.len == MW_SEAL_KEY_LEN, 1, "a key of 32 bytes expected");
  return key.ptr;
}

// seal(key, text) -> bytes; open(key, bytes) -> text | nil
static int l_seal(lua_State *L) {
  const void *key = check_key(L);
  mw_str text = check_str(L, 2);
  mw_buf *out = mw_scratch_buf(L);
  if (mw_seal(out, key, text)) return push_buf(L, out);
  mw_scratch_free(L, out);
  return luaL_error(L, "seal: the text cannot be encrypted");
}

static int l_open(lua_State *L) {
  const void *key = check_key(L);
  mw_str sealed = check_str(L, 2);
  mw_buf *out = mw_scratch_buf(L);
  if (mw_seal_open(out, key, sealed)) return push_buf(L, out);
  mw_scratch_free(L, out);
  lua_pushnil(L);
  return 1;
}

static const luaL_Reg functions[] = {
    {"seal", l_seal},
    {"open", l_open},
    {"digest", l_digest},
    {"hmac", l_hmac},
    {"random", l_random},
    {"equal", l_equal},
    {"base64_encode", l_base64_encode},
    {"base64_decode", l_base64_decode},
    {"hex_encode", l_hex_encode},
    {"hex_decode", l_hex_decode},
    {NULL, NULL},
};

static int open_module(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_crypto(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open_module);
  lua_setfield(L, -2, "mw.core.crypto");
  lua_pop(L, 2);
  return 0;
}
