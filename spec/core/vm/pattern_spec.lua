-- SPDX-License-Identifier: MIT

-- The matcher of plugin code against the stock one, on the manual's cases and on generated ones.

local native = require("mw.core.sandbox.native")
local ours, stock = native.string, string

local function pack(...) return { n = select("#", ...), ... } end

local function show(values)
  local parts = {}
  for i = 1, values.n do
    local v = values[i]
    parts[i] = type(v) == "string" and ("%q"):format(v) or tostring(v)
  end
  return table.concat(parts, ", ")
end

-- Positions and function names in messages differ; the reason must not.
local function reason(text)
  return (tostring(text):gsub("^.-:%d+: ", ""):gsub("'%?'", "'f'"))
end

local function outcome(fn, ...)
  local got = pack(pcall(fn, ...))
  if got[1] then return show(got) end
  return "error: " .. reason(got[2])
end

local function all_matches(fn, s, pattern)
  local found = {}
  for a, b, c in fn(s, pattern) do
    found[#found + 1] = show(pack(a, b, c))
    if #found > 100 then break end
  end
  return table.concat(found, " | ")
end

local function same(s, pattern, init)
  local what = ("%q with %q from %s"):format(s, pattern, tostring(init))
  assert.equal(outcome(stock.find, s, pattern, init), outcome(ours.find, s, pattern, init), "find " .. what)
  assert.equal(outcome(stock.match, s, pattern, init), outcome(ours.match, s, pattern, init), "match " .. what)
  assert.equal(outcome(stock.find, s, pattern, init, true), outcome(ours.find, s, pattern, init, true), "plain find " .. what)
  assert.equal(outcome(all_matches, stock.gmatch, s, pattern), outcome(all_matches, ours.gmatch, s, pattern), "gmatch " .. what)
  for _, replacement in ipairs({ "<%0>", "%1%%x", "", { a = "A", b = 7, ab = false } }) do
    assert.equal(outcome(stock.gsub, s, pattern, replacement), outcome(ours.gsub, s, pattern, replacement), "gsub " .. what)
    assert.equal(outcome(stock.gsub, s, pattern, replacement, 2), outcome(ours.gsub, s, pattern, replacement, 2), "gsub 2 " .. what)
  end
  local function fn(a, b) return tostring(a) .. "/" .. tostring(b) end
  assert.equal(outcome(stock.gsub, s, pattern, fn), outcome(ours.gsub, s, pattern, fn), "gsub with a function " .. what)
end

describe("patterns for plugin code", function()
  it("give what stock Lua gives for the cases of the manual", function()
    local cases = {
      { "hello world", "o w" }, { "hello", "l+" }, { "hello", "(h)(.)" }, { "key = value", "^(%w+)%s*=%s*(%w+)$" },
      { "f(a(b)c)d", "%b()" }, { "THE (quick) fox", "%f[%a]%a+" }, { "THE (quick) fox", "%f[%A]" }, { "abcabc", "(abc)%1" },
      { "x", "()" }, { "abc", "()b()" }, { "", "" }, { "", ".*" }, { "abc", "" }, { "abc", "^" }, { "abc", "$" }, { "a$b", "a$b" },
      { "a^b", "a^b" }, { "]]", "[]]" }, { "a-z", "[a%-z]" }, { "a-z", "[a-]" }, { "^", "[%^]" }, { "^a", "[^^]" }, { "aXb", "%u" },
      { "\0a\0", "%z" }, { "a\0b", "a.b" }, { "aaa", "a-" }, { "aaa", "a-$" }, { "aaab", "a*ab" }, { "aaab", "a?a?a?a?b" },
      { "a.b", "." , 2 }, { "äöü", "[\128-\255]+" }, { "x=1, y=2", "(%w)=(%w)" }, { "  trim  ", "^%s*(.-)%s*$" }, { "a,b,,c", "([^,]*)" },
      { "0x1F", "^0[xX](%x+)$" }, { "abc", "b", -1 }, { "abc", "c", -1 }, { "abc", "", 10 }, { "abc", "a", -10 }, { "abc", "b", 4 },
    }
    for _, case in ipairs(cases) do same(case[1], case[2], case[3]) end
  end)

  it("give the same errors for malformed patterns, when they are reached", function()
    for _, pattern in ipairs({ "%", "[a", "[^", "[]", "[%", "(", ")", "a)", "(a", "%1", "(%1)", "%b", "%ba", "%f", "%fa", "(()", "[a-%",
      "x[", "%0", ("()"):rep(33), "a%" }) do
      for _, s in ipairs({ "a", "", "ab", "x" }) do same(s, pattern) end
    end
  end)

  it("agree with the stock functions on generated patterns", function()
    local random = math.random
    math.randomseed(tonumber(os.getenv("MW_TEST_SEED")) or 20261121)
    local atoms = { "a", "b", "c", ".", "%a", "%A", "%d", "%s", "%w", "%W", "%p", "%l", "%u", "%x", "%c", "[ab]", "[^a]", "[a-c]", "[%w_]", "[^%s]",
      "(", ")", "()", "%1", "%2", "%b()", "%bab", "%f[%w]", "%f[^a]", "^", "$", "-", "*", "+", "?", "]", "[", "%", "%.", "\255", "\0" }
    local suffixes = { "", "", "", "*", "+", "-", "?" }
    local letters = { "a", "b", "c", "A", "1", " ", ".", "(", ")", "\n", "_", "\255", "\0" }
    for _ = 1, 8000 do
      local p, s = {}, {}
      for i = 1, random(0, 6) do p[i] = atoms[random(#atoms)] .. suffixes[random(#suffixes)] end
      for i = 1, random(0, 10) do s[i] = letters[random(#letters)] end
      same(table.concat(s), table.concat(p), random(4) == 1 and random(-12, 12) or nil)
    end
  end)

  it("end with an error when a match takes too many steps", function()
    local s = ("a"):rep(3000)
    for _, pattern in ipairs({ ".-.-.-.-.-b", ("a*"):rep(20) .. "b", ".*.*.*.*x" }) do
      local ok, err = pcall(ours.find, s, pattern)
      assert.is_false(ok)
      assert.truthy(tostring(err):find("pattern too complex", 1, true))
    end
  end)

  it("find a plain needle in linear time", function()
    local hay, needle = ("a"):rep(2000000), ("a"):rep(1000000) .. "b"
    local before = os.clock()
    assert.is_nil(ours.find(hay, needle, 1, true))
    assert.is_true(os.clock() - before < 1)
  end)

  it("go on after long patterns and many sets", function()
    same(("ab"):rep(60), ("[ab]"):rep(50))
    same(("ab"):rep(60), ("%a?"):rep(40) .. "(b)")
    assert.has_error(function() ours.find("x", ("a?"):rep(20000)) end)
  end)

  it("raise when a replacement is no text", function()
    assert.has_error(function() ours.gsub("a", "a", function() return {} end) end)
    assert.has_error(function() ours.gsub("a", "a", true) end)
    assert.has_error(function() ours.gsub("a", "a") end)
  end)
end)

describe("string.rep for plugin code", function()
  it("gives what stock Lua gives", function()
    for _, case in ipairs({ { "x", 3 }, { "ab", 2, "," }, { "", 5 }, { "x", 0 }, { "x", -1 }, { "x", 1, "," }, { "", 3, "-" }, { "x", 2.9 } }) do
      assert.equal(stock.rep(unpack(case)), ours.rep(unpack(case)))
    end
  end)

  it("ends at once for nothing repeated often and for what cannot fit", function()
    assert.equal("", ours.rep("", 1e15))
    local ok, err = pcall(ours.rep, "x", 1e15)
    assert.is_false(ok)
    assert.equal("memory", err.code)
  end)
end)
