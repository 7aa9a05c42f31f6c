-- SPDX-License-Identifier: MIT
local cdef = require "support.cdef"
local posix = require "support.posix"
local ffi = cdef("base/err.h", "base/fault.h")
local C = ffi.C

cdef.define [[
int mw_fault_pass(int point);
]]

-- What MW_FAULT does for an armed point.
local index = {}
local ok = pcall(function()
  local i = 0
  while C.mw_fault_name(i) ~= nil do
    index[ffi.string(C.mw_fault_name(i))] = i
    i = i + 1
  end
end)
if not ok then
  it("fault points are checked in builds that have them", function() pending("a release build has none") end)
  return
end

local function arm(text, seed)
  local err = ffi.new("mw_err")
  local rc = C.mw_fault_arm(text, seed or 1, err)
  return rc, ffi.string(err.text)
end

local function pass(name, times)
  local codes = {}
  for i = 1, times or 1 do codes[i] = C.mw_fault_pass(index[name]) end
  return codes
end

describe("fault points", function()
  after_each(function() C.mw_fault_disarm() end)

  it("let everything pass until they are armed", function()
    assert.same({ 0 }, pass "pg_send")
    assert.equal(0, C.mw_fault_fired("pg_send"))
  end)

  it("fail with their own code, or with the one that is asked for", function()
    assert.equal(0, (arm "sqlite_sync=error;pg_send;dns_lookup=error:ETIMEDOUT;file_write=error:timeout"))
    assert.same({ -5 }, pass "sqlite_sync")
    assert.same({ -20008 }, pass "pg_send")
    assert.same({ -110 }, pass "dns_lookup")
    assert.same({ -20001 }, pass "file_write")
    assert.same({ 0 }, pass "pg_connect")
  end)

  it("begin after so many, and end after so many", function()
    arm "pg_send=error:EIO,after=2,times=3"
    assert.same({ 0, 0, -5, -5, -5, 0, 0 }, pass("pg_send", 7))
    assert.equal(3, tonumber(C.mw_fault_fired("pg_send")))
    arm "pg_send=times=1"
    assert.equal(0, tonumber(C.mw_fault_fired("pg_send")))
  end)

  it("fail with a probability, the same way for the same seed, each point on its own", function()
    local function draws(seed, mixed)
      arm("pg_send=p0.3;pg_receive=p0.3", seed)
      local list = {}
      for i = 1, 200 do
        list[i] = pass("pg_send")[1] ~= 0
        if mixed then pass "pg_receive" end
      end
      return list, tonumber(C.mw_fault_fired("pg_send"))
    end
    local first, fired = draws(7)
    assert.is_true(fired > 30 and fired < 90)
    assert.same(first, (draws(7, true)))
    assert.not_same(first, (draws(8)))
  end)

  it("wait without failing, or before failing", function()
    local started = posix.now()
    arm "file_sync=delay:20ms"
    assert.same({ 0 }, pass "file_sync")
    assert.is_true(posix.now() - started >= 0.02)
    arm "file_sync=delay:1ms,error:EIO"
    assert.same({ -5 }, pass "file_sync")
  end)

  it("end the process as kill -9 does", function()
    arm "file_open=crash,after=1"
    assert.same({ 0 }, pass "file_open")
    local pid = posix.fork(function() pass "file_open" end)
    local code, signal = posix.wait_exit(pid, 10)
    assert.is_false(code)
    assert.equal(9, signal)
  end)

  it("are disarmed by off, and all at once", function()
    arm "pg_send;pg_connect;pg_receive"
    arm "pg_send=off"
    assert.same({ 0 }, pass "pg_send")
    assert.same({ -20008 }, pass "pg_connect")
    C.mw_fault_disarm()
    assert.same({ 0 }, pass "pg_receive")
  end)

  it("are armed all or not at all, and nonsense is named", function()
    for text, words in pairs {
      ["pg_send;pg_sned=error"] = 'no fault point "pg_sned"',
      ["pg_send=error:EWHAT"] = 'fault point pg_send: "error:EWHAT" is none of',
      ["pg_send=p1.5"] = '"p1.5"',
      ["pg_send=after=-1"] = '"after=-1"',
      ["pg_send=delay:soon"] = '"delay:soon"',
      ["pg_send=sometimes"] = '"sometimes"',
    } do
      local rc, why = arm(text)
      assert.equal(-20000, rc, text)
      assert.matches(words, why, 1, true)
      assert.same({ 0 }, pass "pg_send")
    end
  end)

  it("are listed in order, each once, and each stands somewhere in the code", function()
    local names = {}
    for name, i in pairs(index) do names[i + 1] = name end
    local sorted = { unpack(names) }
    table.sort(sorted)
    assert.same(sorted, names)
    local pipe = io.popen("grep -rhoE 'MW_FAULT\\([a-z_]+\\)' core --include='*.c'")
    local used = {}
    for name in pipe:read("*a"):gmatch("%((.-)%)") do used[name] = true end
    pipe:close()
    for _, name in ipairs(names) do
      assert.is_true(used[name], "no MW_FAULT(" .. name .. ")")
      assert.equal(0, os.execute("grep -rlqE '\\b" .. name .. "\\b' spec/c spec/integration"), "no spec arms " .. name)
    end
  end)
end)

describe("a build without fault points", function()
  local function lines(command)
    local pipe = io.popen(command .. " 2>/dev/null")
    local text = pipe:read("*a")
    pipe:close()
    return text
  end

  it("compiles every file that has one to nothing of them", function()
    local flags = lines "pkg-config --cflags luajit libuv openssl sqlite3 libpq":gsub("\n", " ")
    for file in lines "grep -rlE 'fault\\.h' core --include='*.c'":gmatch("[^\n]+") do
      local left = lines(("cc -E -P -D_GNU_SOURCE -DMW_VERSION='\"0\"' -Icore %s -I/usr/share/include/llhttp %s"):format(flags, file))
      assert.is_true(#left > 0, file .. " does not compile")
      assert.is_nil(left:match("mw_fault_pass") or left:match("mw_fault_is_armed") or left:match("getenv%([^)]*FAULT"), file)
    end
  end)

  it("has neither their names nor their code in the program", function()
    if not posix.read_file "build/release/moonwatch" then return pending("needs the release build: cmake --preset release && ninja -C build/release") end
    assert.equal("", lines "nm build/release/moonwatch | grep -E 'mw_fault_|mw_sqlite_fault_'")
    assert.equal("", lines "strings build/release/moonwatch | grep -E 'MW_FAULT|moonwatch-fault'")
  end)
end)
