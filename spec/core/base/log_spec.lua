-- SPDX-License-Identifier: MIT
local cdef = require "support.cdef"
local ffi = cdef("base/log.h", "base/json.h")
local C = ffi.C
cdef.define [[
int pipe(int *fds);
int close(int fd);
int fcntl(int fd, int command, ...);
long read(int fd, void *to, size_t len);
]]

local function str(text) return ffi.new("mw_str", { text, #text }) end
local S, I, F, B, J = 0, 1, 2, 3, 4

-- Writes one line with fields {name, kind, value} and returns what came out.
local function line(level, message, fields, format)
  local fds = ffi.new("int[2]")
  assert(C.pipe(fds) == 0)
  local list = ffi.new("mw_log_field[?]", #fields + 1)
  local keep = {}
  for i, field in ipairs(fields) do
    local f = list[i - 1]
    f.name, f.kind = field[1], field[2]
    keep[#keep + 1] = field
    if field[2] == S or field[2] == J then f.str = str(field[3])
    elseif field[2] == F then f.num = field[3]
    else f.i = field[3] end
  end
  C.mw_log_configure("MW_LOG_INFO", format or "MW_LOG_FORMAT_JSON")
  C.mw_log_to_fd(fds[1])
  C.mw_log_write(level, "spec", message, list)
  C.mw_log_to_fd(2)
  C.mw_log_configure("MW_LOG_INFO", "MW_LOG_FORMAT_AUTO")
  C.close(fds[1])
  local parts, chunk = {}, ffi.new("char[65536]")
  while true do
    local got = tonumber(C.read(fds[0], chunk, 65536))
    if got <= 0 then break end
    parts[#parts + 1] = ffi.string(chunk, got)
  end
  C.close(fds[0])
  return table.concat(parts)
end

describe("log", function()
  it("writes one JSON object a line, the fields after the message", function()
    local text = line("MW_LOG_WARN", 'say "hi"\n', { { "name", S, "a\tb" }, { "count", I, -3 }, { "ratio", F, 0.5 }, { "on", B, 1 }, { "data", J, '{"a":\n1}' } })
    local time, rest = text:match('^{"time":"(%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%d%d%d%dZ)",(.*)$')
    assert.truthy(time)
    assert.equal([["level":"warn","area":"spec","message":"say \"hi\"\n","name":"a\tb","count":-3,"ratio":0.5,"on":true,"data":{"a": 1}}]] .. "\n", rest)
  end)

  it("stays valid JSON whatever the bytes and numbers", function()
    local text = line("MW_LOG_INFO", "\xFF\0x", { { "nan", F, 0 / 0 }, { "bad", S, "\xC3\0\1" }, { "\"", S, "" }, { "none", J, "" } })
    assert.equal(0, C.mw_json_check(str(text), nil, nil))
  end)

  it("leaves out what is below the level", function()
    assert.equal("", line("MW_LOG_DEBUG", "x", {}))
    assert.truthy(line("MW_LOG_INFO", "x", {}):find('"level":"info"', 1, true))
    assert.is_true(C.mw_log_is_on("MW_LOG_ERROR"))
    assert.is_false(C.mw_log_is_on("MW_LOG_DEBUG"))
  end)

  it("bounds texts and lines", function()
    local text = line("MW_LOG_INFO", ("é"):rep(100000), {})
    assert.is_true(#text < 17000)
    assert.equal(0, C.mw_json_check(str(text), nil, nil))
    local fields = {}
    for i = 1, 6 do fields[i] = { "f" .. i, S, ("x"):rep(16000) } end
    text = line("MW_LOG_INFO", "big", fields)
    assert.is_true(#text <= 66000)
    assert.truthy(text:find('"truncated":true}\n', 1, true))
    assert.equal(0, C.mw_json_check(str(text), nil, nil))
  end)

  it("is for eyes when asked, and does not let a text steer the terminal", function()
    local text = line("MW_LOG_ERROR", "first\nsecond \27[31m\xC2\x9B", { { "path", S, "/a" }, { "text", S, "a b" }, { "n", I, 7 } }, "MW_LOG_FORMAT_PRETTY")
    assert.truthy(text:find("^%d%d:%d%d:%d%d%.%d%d%d error spec     first\n    second \\x1b%[31m\\x9b path=/a text=\"a b\" n=7\n$"), text)
  end)

  it("knows the names of its levels", function()
    local level = ffi.new("mw_log_level[1]")
    for i, name in ipairs { "debug", "info", "warn", "error", "fatal" } do
      assert.equal(name, ffi.string(C.mw_log_level_name(ffi.cast("mw_log_level", i - 1))))
      assert.is_true(C.mw_log_level_parse(str(name), level))
      assert.equal(i - 1, tonumber(level[0]))
    end
    assert.is_false(C.mw_log_level_parse(str("loud"), level))
  end)
end)
