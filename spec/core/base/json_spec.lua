-- SPDX-License-Identifier: MIT
local cdef = require "support.cdef"
local ffi = cdef("base/json.h", "base/rand.h")
local C = ffi.C

local function str(text) return ffi.new("mw_str", { text, #text }) end

local function check(text, limits)
  local err = ffi.new("mw_err")
  local code = C.mw_json_check(str(text), limits, err)
  return code == 0, code ~= 0 and ffi.string(C.mw_err_code(code)) or nil, ffi.string(err.text)
end

-- Reads everything; returns tokens as a list of {name, value}.
local function tokens(text)
  local reader = ffi.new("mw_json_reader")
  C.mw_json_reader_init(reader, str(text), nil)
  local list = {}
  local names = { "null", "false", "true", "number", "string", "key", "[", "]", "{", "}" }
  repeat
    local token = tonumber(C.mw_json_read(reader))
    local entry = { names[token] }
    if token == 4 then entry[2] = reader.number
    elseif token == 5 or token == 6 then entry[2] = ffi.string(reader.text.ptr, reader.text.len) end
    if token > 0 then list[#list + 1] = entry end
  until token <= 0
  local err = ffi.string(reader.err.text)
  C.mw_json_reader_deinit(reader)
  return list, err
end

local function written(fn, ...)
  local buf = ffi.new("mw_buf")
  local code = fn(buf, ...)
  local text = ffi.string(buf.ptr, buf.len)
  C.mw_buf_deinit(buf)
  return text, code
end

local function write_number(number) return written(C.mw_json_add_number, number) end

local function read_number(text)
  local reader = ffi.new("mw_json_reader")
  C.mw_json_reader_init(reader, str(text), nil)
  assert.equal(4, tonumber(C.mw_json_read(reader)), text)
  local number, integer, is_integer, is_big = reader.number, reader.integer, reader.is_integer, reader.is_big
  C.mw_json_reader_deinit(reader)
  return number, { integer = integer, is_integer = is_integer, is_big = is_big }
end

local accepted = {
  "null", "true", "false", "0", "-0", "1", "-1", "123", "0.5", "1e5", "1E5", "1e+5", "1e-5", "1.5e300", "-0.0", "0e0", "0e+1",
  "1e-400", "123456789012345678901234567890", "0.1234567890123456789012345678901234567890",
  '""', '"a"', '"\\""', '"\\\\"', '"\\/"', '"\\b\\f\\n\\r\\t"', '"\\u0000"', '"\\u00e9"', '"\\uD834\\uDD1E"', '"\\uFFFF"', '"\\uDBFF\\uDFFF"',
  '"é"', '"\xF0\x9D\x84\x9E"', '"\x7F"', '"\xE2\x80\xA8"', '"\xEF\xBF\xBF"', '"\xF4\x8F\xBF\xBF"',
  "[]", "[ ]", "[1]", "[1,2]", "[[]]", "[[],[]]", "[null,1,\"1\",{}]", " [1] ", "\t\n\r [\t1\n,\r2 ]\n",
  "{}", "{ }", '{"a":1}', '{"a":1,"b":2}', '{"a":1,"a":2}', '{"":0}', '{"a":{"b":[{}]}}', '{ "a" : 1 , "b" : [ ] }', '{"\\u0061":1}',
}

local rejected = {
  "", " ", "nul", "nulll", "Null", "TRUE", "True", "tru", "fals", "NaN", "Infinity", "-Infinity", "undefined", "-", "+1", "01", "-01", "1.", ".5",
  "1.e5", "1e", "1e+", "1eE2", "0x1", "1_000", "1,000", "--1", "- 1", "1 2", "0.", "-.5", "1e1.5", "1.2.3", "１", "1e400", "-1e400", "Inf",
  '"', '"a', "'a'", '"\\', '"\\"', '"\\x41"', '"\\u"', '"\\u12"', '"\\u12G4"', '"\\U0041"', '"\\a"', '"\\ "', '"\t"', '"\n"', '"\0"', '"\31"',
  '"\\uD800"', '"\\uDC00"', '"\\uD800\\u0041"', '"\\uD800x"', '"\\uD800\\uD800"', '"\\uDC00\\uD800"', '"\\uD800\\n"', '"a" "b"', '"a"b',
  '"\xFF"', '"\x80"', '"\xC0\x80"', '"\xC1\xBF"', '"\xC3"', '"\xE0\x80\x80"', '"\xED\xA0\x80"', '"\xED\xBF\xBF"', '"\xF0\x80\x80\x80"',
  '"\xF4\x90\x80\x80"', '"\xF5\x80\x80\x80"', '"\xE2\x80"', '"\xE2(\xA1"', '"\xF0\x9D\x84"', '"\xF0\x9D\x84',
  "[", "]", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]", "[1;2]", "[1}", "[1]]", "[][]", "(1)", "[a]", "[1:2]", '["a":1]', "[*]",
  "{", "}", "{]", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{,}", '{"a"}', '{"a",1}', '{"a" 1}', '{a:1}', "{1:1}", "{'a':1}", '{"a"::1}',
  '{"a":1 "b":2}', '{"a":1,,"b":2}', '{"a":1}}', '{"a":1}{', '{"a":}', '{:1}', "{null:1}", "{[]:1}", '{"a":1;"b":2}', '{"a"=1}',
  "/* c */ 1", "1 // c", "1 # c", "[1]\0", "\0[1]", "\xEF\xBB\xBF{}", "\xEF\xBB\xBF", "\xFF\xFE[\0]\0", "\f1", "\v1", "\xC2\xA01", "1\xC2\xA0", "<a/>", "\\u0031",
}

describe("json reader", function()
  for _, text in ipairs(accepted) do
    it(("accepts %q"):format(text), function()
      local ok, _, message = check(text)
      assert.is_true(ok, message)
    end)
  end

  for _, text in ipairs(rejected) do
    it(("rejects %q"):format(text), function()
      local ok, code, message = check(text)
      assert.is_false(ok)
      assert.is_true(code == "json" or code == "utf8")
      assert.truthy(message:find("^line %d+, column %d+: "), message)
    end)
  end

  it("hands out one token at a time, decoded", function()
    assert.same({
      { "{" }, { "key", "a" }, { "[" }, { "number", 1 }, { "number", -2.5 }, { "string", "x\ny" }, { "]" },
      { "key", "é" }, { "null" }, { "key", "" }, { "{" }, { "}" }, { "key", "t" }, { "true" }, { "}" },
    }, (tokens('{"a":[1,-2.5,"x\\ny"],"\\u00e9":null,"":{},"t":true}')))
  end)

  it("decodes every escape and surrogate pairs", function()
    assert.same({ { "string", "\"\\/\b\f\n\r\t\0é\xF0\x9D\x84\x9E end" } },
      (tokens([["\"\\\/\b\f\n\r\t\u0000\u00E9\uD834\udd1e end"]])))
  end)

  it("finds the end of strings at every length and alignment", function()
    for pad = 0, 8 do
      for len = 0, 40 do
        local text = ("x"):rep(len)
        assert.same({ { "string", text } }, (tokens((" "):rep(pad) .. '"' .. text .. '"')))
        assert.same({ { "string", text .. "\n" .. text } }, (tokens('"' .. text .. "\\n" .. text .. '"')))
        assert.same({ { "string", text .. "é" .. text } }, (tokens('"' .. text .. "é" .. text .. '"')))
        assert.is_false((check('"' .. text .. "\1" .. text .. '"')))
      end
    end
  end)

  it("says line, column in characters, what was expected and what came", function()
    local _, _, message = check('{\n  "é": [1, 2,\n    oops]\n}')
    assert.equal("line 3, column 5: expected a value, got 'o'", message)
    _, _, message = check('["é" 1]')
    assert.equal("line 1, column 6: expected ',' or ']', got '1'", message)
    _, _, message = check('{"a"')
    assert.equal("line 1, column 5: expected ':' after the name of the member, got the end of the text", message)
    _, _, message = check("\xEF\xBB\xBF1")
    assert.equal("line 1, column 1: expected a value, got a byte order mark", message)
    _, _, message = check("1\1")
    assert.equal("line 1, column 2: expected nothing after the value, got byte 0x01", message)
  end)

  it("bounds the depth", function()
    local function nested(depth) return ("["):rep(depth) .. ("]"):rep(depth) end
    assert.is_true((check(nested(100))))
    local ok, code, message = check(nested(101))
    assert.is_false(ok)
    assert.equal("limit", code)
    assert.equal("line 1, column 101: arrays and objects nest deeper than 100 levels", message)
    assert.is_true((check(nested(3), ffi.new("mw_json_limits", { 0, 3 }))))
    assert.is_false((check(nested(4), ffi.new("mw_json_limits", { 0, 3 }))))
    assert.is_true((check(nested(1000), ffi.new("mw_json_limits", { 0, 5000 }))))
    assert.is_false((check(nested(1001), ffi.new("mw_json_limits", { 0, 5000 }))))
    assert.is_false((check(("["):rep(100000))))
  end)

  it("keeps arrays and objects apart at every depth", function()
    local open, close = {}, {}
    for i = 1, 100 do
      local is_object = i % 3 == 0
      open[i] = is_object and '{"k":' or "["
      close[101 - i] = is_object and "}" or "]"
    end
    local text = table.concat(open) .. "1" .. table.concat(close)
    assert.is_true((check(text)))
    for i = 1, 100 do
      local wrong = { unpack(close) }
      wrong[i] = wrong[i] == "}" and "]" or "}"
      assert.is_false((check(table.concat(open) .. "1" .. table.concat(wrong))))
    end
  end)

  it("bounds the size", function()
    local ok, code = check('"12345678"', ffi.new("mw_json_limits", { 9, 0 }))
    assert.is_false(ok)
    assert.equal("limit", code)
    assert.is_true((check('"1234567"', ffi.new("mw_json_limits", { 9, 0 }))))
  end)

  it("repeats the end and the failure", function()
    local reader = ffi.new("mw_json_reader")
    for text, last in pairs { ["1"] = 0, ["[1,"] = -1 } do
      C.mw_json_reader_init(reader, str(text), nil)
      while tonumber(C.mw_json_read(reader)) > 0 do end
      for _ = 1, 3 do assert.equal(last, tonumber(C.mw_json_read(reader))) end
      C.mw_json_reader_deinit(reader)
    end
  end)

  it("skips a value and gives its bytes", function()
    local text = '{"a": {"b":[1, "}]"], "c":{}} , "d":2}'
    local reader = ffi.new("mw_json_reader")
    C.mw_json_reader_init(reader, str(text), nil)
    C.mw_json_read(reader)
    C.mw_json_read(reader)
    assert.equal(0, C.mw_json_skip(reader))
    assert.equal('{"b":[1, "}]"], "c":{}}', ffi.string(reader.raw.ptr, reader.raw.len))
    assert.equal(6, tonumber(C.mw_json_read(reader)))
    assert.equal("d", ffi.string(reader.text.ptr, reader.text.len))
    assert.equal(0, C.mw_json_skip(reader))
    assert.equal("2", ffi.string(reader.raw.ptr, reader.raw.len))
    assert.equal(10, tonumber(C.mw_json_read(reader)))
    assert.equal(0, tonumber(C.mw_json_read(reader)))
    C.mw_json_reader_deinit(reader)
  end)

  it("survives any bytes", function()
    math.randomseed(7)
    local alphabet = { "{", "}", "[", "]", ":", ",", '"', "\\", "u", "D", "8", "0", "1", ".", "e", "-", "null", "true", " ", "\xE9", "\xF0", '"a"', "\n" }
    for _ = 1, 20000 do
      local parts = {}
      for i = 1, math.random(1, 20) do parts[i] = alphabet[math.random(#alphabet)] end
      check(table.concat(parts))
    end
  end)

  it("never reads past the end", function()
    local text = '{"a":[1.5e3,"x\\u00e9",true,null]}'
    for len = 0, #text - 1 do
      local part = ffi.new("char[?]", math.max(len, 1)) -- exactly as long, so that a sanitizer sees one byte more
      ffi.copy(part, text, len)
      assert.not_equal(0, C.mw_json_check(ffi.new("mw_str", { part, len }), nil, nil))
    end
  end)
end)

describe("json numbers", function()
  it("tell integers from fractions and big ones from small", function()
    local function kind(text)
      local _, got = read_number(text)
      return { got.is_integer, got.is_big }
    end
    assert.same({ true, false }, kind("0"))
    assert.same({ true, false }, kind("-5"))
    assert.same({ true, false }, kind("9007199254740992"))
    assert.same({ true, true }, kind("9007199254740993"))
    assert.same({ true, true }, kind("-9007199254740993"))
    assert.same({ true, true }, kind("9223372036854775807"))
    assert.same({ true, true }, kind("-9223372036854775808"))
    assert.same({ false, true }, kind("9223372036854775808"))
    assert.same({ false, true }, kind("-9223372036854775809"))
    assert.same({ false, true }, kind("100000000000000000000000"))
    assert.same({ false, false }, kind("1.0"))
    assert.same({ false, false }, kind("1e2"))
  end)

  it("keep 64-bit integers exactly", function()
    for _, text in ipairs { "9223372036854775807", "-9223372036854775808", "9007199254740993", "-1", "0" } do
      local _, got = read_number(text)
      assert.equal(text, (tostring(got.integer):gsub("LL$", "")))
    end
  end)

  it("read as the nearest double", function()
    for text, expected in pairs {
      ["0.1"] = 0.1, ["123.456"] = 123.456, ["1e22"] = 1e22, ["1e23"] = 1e23, ["1.7976931348623157e308"] = 1.7976931348623157e308,
      ["5e-324"] = 5e-324, ["2.2250738585072011e-308"] = 2.2250738585072011e-308, ["9007199254740993"] = 9007199254740992,
      ["9007199254740993.0"] = 9007199254740992, ["0.000000000000000000000000000000000000001"] = 1e-39,
      ["1000000000000000000000000000000"] = 1e30, ["123456789012345678901234567890e-10"] = 12345678901234567890.123456789,
      ["0.30000000000000004"] = 0.1 + 0.2, ["7450580596923828125e-27"] = 7450580596923828125e-27, ["0e999999999"] = 0, ["1e-999999999"] = 0,
      [("0."):rep(1) .. ("0"):rep(400) .. "1e401"] = 1, ["1" .. ("0"):rep(300) .. "e-300"] = 1,
    } do assert.equal(expected, (read_number(text)), text) end
    assert.equal(-math.huge, 1 / (read_number("-0")))
    assert.equal(-math.huge, 1 / (read_number("-0.0")))
  end)

  it("are written as the shortest text that reads back", function()
    for number, text in pairs {
      [0] = "0", [1] = "1", [-7] = "-7", [9007199254740992] = "9007199254740992", [-9007199254740992] = "-9007199254740992", [0.1] = "0.1",
      [19.99] = "19.99", [-2.5] = "-2.5", [0.1 + 0.2] = "0.30000000000000004", [1 / 3] = "0.3333333333333333", [1e21] = "1e+21", [1e-7] = "1e-07",
      [5e-324] = "5e-324", [1.7976931348623157e308] = "1.7976931348623157e+308", [123456.789] = "123456.789", [0.001] = "0.001",
      [999999999.5] = "999999999.5", [1.000001] = "1.000001",
    } do assert.equal(text, (write_number(number))) end
    assert.equal("-0", (write_number(-0.0)))
  end)

  it("survive a round trip bit for bit", function()
    local bits = ffi.new("union { double number; uint64_t bits; }")
    for _ = 1, 20000 do
      bits.bits = C.mw_rand_u64()
      -- NaNs must not even be loaded: LuaJIT reads their payload as the tag of another type.
      local is_finite = bit.band(tonumber(bit.rshift(bits.bits, 52)), 0x7ff) ~= 0x7ff
      local number = is_finite and bits.number or 0
      assert.equal(number, (read_number((write_number(number)))))
    end
    for _ = 1, 20000 do
      local number = math.random(-1e9, 1e9) / 10 ^ math.random(0, 8)
      assert.equal(number, (read_number((write_number(number)))))
    end
  end)

  it("refuse NaN and infinities, appending nothing", function()
    for _, number in ipairs { 0 / 0, math.huge, -math.huge } do
      local text, code = write_number(number)
      assert.equal("", text)
      assert.equal("invalid", ffi.string(C.mw_err_code(code)))
    end
  end)

  it("do not depend on the locale", function()
    cdef.define [[
      char *setlocale(int category, const char *locale);
      int setenv(const char *name, const char *value, int overwrite);
      double atof(const char *text);
    ]]
    local LC_ALL, dir = 6, os.tmpname()
    os.remove(dir)
    os.execute(("mkdir %s && localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1"):format(dir, dir))
    C.setenv("LOCPATH", dir, 1)
    local found = C.setlocale(LC_ALL, "de_DE.UTF-8") ~= nil
    local with_comma = C.atof("0,5") -- Lua's own functions never look at the locale
    local text, number = (write_number(1 / 3)), (read_number("0.12345678901234567890123"))
    C.setlocale(LC_ALL, "C")
    os.execute("rm -rf " .. dir)
    if not found then return pending("localedef cannot make a locale with a decimal comma here") end
    assert.equal(0.5, with_comma)
    assert.equal("0.3333333333333333", text)
    assert.equal(0.12345678901234567890123, number)
  end)
end)

describe("json strings", function()
  local function write(text) return (written(C.mw_json_add_string, str(text))) end

  it("escape quotes, backslashes and control characters only", function()
    assert.equal([["a\"b\\c\n\r\t\b\f\u0001\u001f/<>&é]] .. "\x7F\"", write("a\"b\\c\n\r\t\b\f\1\31/<>&é\x7F"))
    assert.equal('""', write(""))
    assert.equal([["\u0000"]], write("\0"))
  end)

  it("replace ill-formed UTF-8", function()
    assert.equal('"a\xEF\xBF\xBDb"', write("a\xFFb"))
    assert.equal('"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"', write("\xED\xA0\x80"))
    assert.equal('"12345678\xEF\xBF\xBD"', write("12345678\xE2"))
    assert.equal('"\xF0\x9D\x84\x9E"', write("\xF0\x9D\x84\x9E"))
  end)

  it("are refused when they must be well-formed and are not, appending nothing", function()
    local text, code = written(C.mw_json_add_string_strict, str("abc\xC3"))
    assert.equal("", text)
    assert.equal("utf8", ffi.string(C.mw_err_code(code)))
    text, code = written(C.mw_json_add_string_strict, str("äöü\n"))
    assert.equal([["äöü\n"]], text)
    assert.equal(0, code)
  end)

  it("survive a round trip", function()
    math.randomseed(11)
    for _ = 1, 3000 do
      local bytes = {}
      for i = 1, math.random(0, 30) do
        bytes[i] = math.random() < 0.2 and ({ "é", "\xF0\x9F\x98\x80", "€" })[math.random(3)] or string.char(math.random(0, 127))
      end
      local text = table.concat(bytes)
      assert.same({ { "string", text } }, (tokens(write(text))))
    end
  end)
end)
