// SPDX-License-Identifier: MIT
#pragma once

// mw.core.crypto: digests, HMAC, random bytes, base64, hex, constant-time compare. lua/mw/crypto.lua is its public face.
//
//   crypto.digest("sha256", data, raw) -> hex or bytes, nil for an unknown name        crypto.hmac("sha256", key, data, raw)
//   crypto.random(count) -> bytes                                crypto.equal(a, b) -> boolean
//   crypto.base64_encode(data, url) / base64_decode(text) -> bytes | nil               crypto.hex_encode / hex_decode

#include <lua.h>

/** Registers `mw.core.crypto` in package.preload. */
int mw_open_crypto(lua_State *L);
