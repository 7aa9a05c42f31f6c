-- SPDX-License-Identifier: MIT

--- Secrets that the server hands out: `mw_sk_` (keys), `mw_ss_` (sessions), `mw_ll_` (login links), then 43 letters and digits of 256 random
--- bits, then 6 that are a checksum of all before, so that a typo is told apart from a key that is not known.
--
--   local text = secret.new("sk")        -- mw_sk_…, shown once
--   secret.hash(text)                    -- what is stored
--   secret.prefix(text)                  -- "mw_sk_4fQx81Rb", what lists show
--   secret.check("sk", text)             -- true, or false and "another kind" / "a typo"

local crypto = require "mw.core.crypto"

local M = {}

local ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
local LETTERS, RANDOM, CHECK, SHOWN = #ALPHABET, 43, 6, 14
local UNBIASED = 256 - 256 % LETTERS

local function letter(n) return ALPHABET:sub(n + 1, n + 1) end

local function random_letters(count)
  local out = {}
  while #out < count do
    for _, byte in ipairs { crypto.random(count):byte(1, -1) } do
      if byte < UNBIASED and #out < count then out[#out + 1] = letter(byte % LETTERS) end
    end
  end
  return table.concat(out)
end

local function checksum(text)
  local a, b, c, d = crypto.digest("sha256", text, true):byte(1, 4)
  local n, out = ((a * 256 + b) * 256 + c) * 256 + d, {}
  for i = 1, CHECK do
    out[i] = letter(n % LETTERS)
    n = math.floor(n / LETTERS)
  end
  return table.concat(out)
end

--- A fresh secret of a kind: "sk", "ss" or "ll".
function M.new(kind)
  local text = "mw_" .. kind .. "_" .. random_letters(RANDOM)
  return text .. checksum(text)
end

--- The kind a text claims to be, or nil.
function M.kind(text) return text:match("^mw_(%l%l)_") end

--- True when `text` is a whole secret of that kind; false for a typo.
function M.check(kind, text)
  local body, sum = text:match("^(mw_" .. kind .. "_%w+)$"), text:sub(-CHECK)
  if not body or #text ~= 6 + RANDOM + CHECK then return false end
  return crypto.equal(checksum(text:sub(1, -CHECK - 1)), sum)
end

function M.hash(text) return crypto.digest("sha256", text, false) end

function M.prefix(text) return text:sub(1, SHOWN) end

return M
