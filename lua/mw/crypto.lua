-- SPDX-License-Identifier: MIT

--- Digests, HMAC, random bytes, base64, hex and a comparison that tells nothing by its time.
--
--   local signature = mw.crypto.hmac("sha256", mw.env.APP_SECRET, body)        -- hex
--   if not mw.crypto.equal(signature, req.headers["x-signature"] or "") then … end
--   local token = mw.crypto.base64_encode(mw.crypto.random(32), { url = true })
--
-- Digests are "sha256", "sha384", "sha512", "sha1" and "md5" (the last two only for old protocols). They return lower-case hex,
-- or the bytes with { raw = true }.

local core = require "mw.core.crypto"
local errors = require "mw.errors"
local validate = require "mw.validate"

local M = {}

local names = { sha256 = true, sha384 = true, sha512 = true, sha1 = true, md5 = true }
local digest_options = { raw = "boolean" }
local base64_options = { url = "boolean" }

local function check_name(what, name)
  validate.arg(what, 1, "digest", name, "string")
  if names[name] then return end
  local near = validate.nearest(name, names)
  errors.throw("invalid", string.format("%s: there is no digest %q; %s", what, name,
    near and string.format("did you mean %q?", near) or "there are md5, sha1, sha256, sha384 and sha512"))
end

local function is_raw(what, opts)
  if opts == nil then return false end
  return validate.options(what, opts, digest_options).raw == true
end

--- The digest of `data`: lower-case hex, or bytes with { raw = true }.
---@param name "sha256"|"sha384"|"sha512"|"sha1"|"md5"
---@param data string
---@param opts? { raw?: boolean }
---@return string
function M.digest(name, data, opts)
  check_name("mw.crypto.digest", name)
  validate.arg("mw.crypto.digest", 2, "data", data, "string")
  return core.digest(name, data, is_raw("mw.crypto.digest", opts))
end

--- `mw.crypto.digest("sha256", data, opts)`.
---@param data string
---@param opts? { raw?: boolean }
---@return string
function M.sha256(data, opts)
  validate.arg("mw.crypto.sha256", 1, "data", data, "string")
  return core.digest("sha256", data, is_raw("mw.crypto.sha256", opts))
end

--- The HMAC (RFC 2104) of `data` under `key`: lower-case hex, or bytes with { raw = true }.
---@param name "sha256"|"sha384"|"sha512"|"sha1"|"md5"
---@param key string
---@param data string
---@param opts? { raw?: boolean }
---@return string
function M.hmac(name, key, data, opts)
  check_name("mw.crypto.hmac", name)
  validate.arg("mw.crypto.hmac", 2, "key", key, "string")
  validate.arg("mw.crypto.hmac", 3, "data", data, "string")
  return core.hmac(name, key, data, is_raw("mw.crypto.hmac", opts))
end

--- `count` random bytes from the kernel (at most 1 MiB), fit for keys and tokens.
---@param count integer
---@return string
function M.random(count)
  validate.arg("mw.crypto.random", 1, "count", count, "integer")
  if count < 0 or count > 1048576 then
    errors.throw("invalid", string.format("mw.crypto.random: count must be 0 to 1048576, got %s", count))
  end
  return core.random(count)
end

--- Compares two strings in a time that does not depend on where they differ.
---@param a string
---@param b string
---@return boolean
function M.equal(a, b)
  validate.arg("mw.crypto.equal", 1, "a", a, "string")
  validate.arg("mw.crypto.equal", 2, "b", b, "string")
  return core.equal(a, b)
end

--- Base64 (RFC 4648) with padding; with { url = true } in the URL alphabet without it.
---@param data string
---@param opts? { url?: boolean }
---@return string
function M.base64_encode(data, opts)
  validate.arg("mw.crypto.base64_encode", 1, "data", data, "string")
  local url = opts ~= nil and validate.options("mw.crypto.base64_encode", opts, base64_options).url == true
  return core.base64_encode(data, url)
end

local function decoded(what, bytes)
  if bytes == nil then errors.throw("invalid", what) end
  return bytes
end

--- Decodes both alphabets, with or without padding; raises on anything else.
---@param text string
---@return string
function M.base64_decode(text)
  validate.arg("mw.crypto.base64_decode", 1, "text", text, "string")
  return decoded("mw.crypto.base64_decode: the text is not base64", core.base64_decode(text))
end

--- Lower-case hex of bytes.
---@param data string
---@return string
function M.hex_encode(data)
  validate.arg("mw.crypto.hex_encode", 1, "data", data, "string")
  return core.hex_encode(data)
end

--- Bytes of hex in either case; raises on anything else.
---@param text string
---@return string
function M.hex_decode(text)
  validate.arg("mw.crypto.hex_decode", 1, "text", text, "string")
  return decoded("mw.crypto.hex_decode: the text is not hex", core.hex_decode(text))
end

return M
