-- SPDX-License-Identifier: MIT

--- Random numbers that depend on nothing but a text, so that a body that runs again draws the same ones (the sfc32 generator,
-- seeded by four 32-bit hashes of the text). Not for secrets.
--
--   local g = seeded.new(run.id .. run.seed)
--   g:unit()          0 <= x < 1, 53 bits
--   g:uuid()          a version 4 UUID

local bit = require "bit"

local M = {}

local bxor, lshift, rshift, rol, tobit, band, bor, tohex =
  bit.bxor, bit.lshift, bit.rshift, bit.rol, bit.tobit, bit.band, bit.bor, bit.tohex

-- The low 32 bits of a product; doubles alone would lose them.
local function multiply(a, b)
  local low = band(b, 0xffff)
  local high = band(rshift(b, 16), 0xffff)
  a = a % 4294967296
  return tobit(tobit(a * low % 4294967296) + lshift(tobit(a * high % 4294967296), 16))
end

local function hash(text, h)
  for i = 1, #text do h = multiply(bxor(h, text:byte(i)), 16777619) end
  h = multiply(bxor(h, rshift(h, 16)), 0x45d9f3b)
  h = multiply(bxor(h, rshift(h, 16)), 0x45d9f3b)
  return bxor(h, rshift(h, 16))
end

local Generator = {}
Generator.__index = Generator

function Generator:bits()
  local a, b, c, counter = self.a, self.b, self.c, self.counter
  local sum = tobit(tobit(a + b) + counter)
  self.counter = tobit(counter + 1)
  self.a = bxor(b, rshift(b, 9))
  self.b = tobit(c + lshift(c, 3))
  self.c = tobit(rol(c, 21) + sum)
  return sum
end

function Generator:unit()
  local high, low = rshift(self:bits(), 5), rshift(self:bits(), 6)
  return (high * 67108864 + low) / 9007199254740992
end

function Generator:uuid()
  local a, b, c, d = self:bits(), self:bits(), self:bits(), self:bits()
  b = bor(band(b, tobit(0xffff0fff)), 0x4000)
  c = bor(band(c, 0x3fffffff), tobit(0x80000000))
  b, c = tohex(b), tohex(c)
  return tohex(a) .. "-" .. b:sub(1, 4) .. "-" .. b:sub(5) .. "-" .. c:sub(1, 4) .. "-" .. c:sub(5) .. tohex(d)
end

function M.new(text)
  local g = setmetatable({
    a = hash(text, tobit(2166136261)), b = hash(text, 0x1f83d9ab), c = hash(text, 0x5be0cd19), counter = 1,
  }, Generator)
  for _ = 1, 12 do g:bits() end
  return g
end

return M
