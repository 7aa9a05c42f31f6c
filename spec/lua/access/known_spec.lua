-- SPDX-License-Identifier: MIT
-- What a worker knows of keys and sessions, over a store that counts its reads and a clock that the spec moves.

local fakes = require "support.fakes"

describe("the keys a worker knows", function()
  local server, known, secret, keys, sessions, counter, version, reads, broken

  local function row_of(text, more)
    local row = {
      id = "id-" .. text:sub(-4), app = "default", kind = "secret", name = "k", scopes = "trigger", prefix = secret.prefix(text), hash = secret.hash(text),
    }
    for name, value in pairs(more or {}) do row[name] = value end
    return row
  end

  before_each(function()
    server = fakes.server()
    keys, sessions, counter, version, reads, broken = {}, {}, 1, 0, 0, nil
    local start = server.task.now_us
    local runtime = require "mw._runtime"
    runtime.mono = function() return (server.task.now_us - start) / 1e6 end
    runtime.access_version = function() return version end
    server.store.query = function(_, sql)
      reads = reads + 1
      server.task.sleep(0.001)
      if broken then return nil, require("mw.errors").new("unavailable", "PostgreSQL is away") end
      if sql:find("change_counters", 1, true) then return { { n = counter } } end
      if sql:find("FROM {{schema}}.keys", 1, true) then return server.json.decode(server.json.encode(server.json.array(keys))) end
      if sql:find("FROM {{schema}}.sessions", 1, true) then return server.json.decode(server.json.encode(server.json.array(sessions))) end
      return { affected = 1 }
    end
    known, secret = require "mw.access.known", require "mw.access.secret"
  end)
  after_each(function() server.close() end)

  local function find(text, kind) return server.task.call(function() return { known.find(kind or "keys", text) } end) end
  local function wait(seconds) server.task.call(function() server.task.sleep(seconds) end) end

  it("cost no read a request", function()
    local text = secret.new "sk"
    keys[1] = row_of(text, { last_used_us = server.task.now_us })
    for _ = 1, 200 do assert.equal("k", find(text)[1].name) end
    assert.equal(3, reads)
  end)

  it("cost one small read a second at most, however many unknown ones are tried", function()
    find(secret.new "sk")
    local before = reads
    for _ = 1, 300 do
      assert.is_nil(find(secret.new "sk")[1])
      wait(0.01) -- three seconds together
    end
    assert.is_true(reads - before <= 4, reads - before .. " reads")
  end)

  it("change at once with what this process changed", function()
    local text = secret.new "sk"
    keys[1] = row_of(text)
    assert.is_table(find(text)[1])
    keys[1], counter, version = nil, 2, 1
    assert.is_nil(find(text)[1])
    keys[1], counter, version = row_of(text), 3, 2
    assert.is_table(find(text)[1])
  end)

  it("change within seconds with what another node changed", function()
    local text = secret.new "sk"
    keys[1] = row_of(text)
    assert.is_table(find(text)[1])
    keys[1], counter = nil, 2
    local gone
    for i = 1, 40 do
      wait(0.1)
      if not find(text)[1] then gone = i * 0.1 break end
    end
    assert.is_true(gone and gone <= 3, tostring(gone))
  end)

  it("are read anew before the first answer after a pause", function()
    local text = secret.new "sk"
    keys[1] = row_of(text)
    assert.is_table(find(text)[1])
    keys[1], counter = nil, 2
    wait(60)
    assert.is_nil(find(text)[1])
  end)

  it("go on for a minute without the database, and then nobody is let in by one", function()
    local text = secret.new "sk"
    keys[1] = row_of(text)
    assert.is_table(find(text)[1])
    broken = true
    wait(50)
    assert.is_table(find(text)[1])
    wait(11)
    local result = find(text)
    assert.is_nil(result[1])
    assert.equal("unavailable", result[2].code)
    broken = false
    assert.is_table(find(text)[1])
  end)

  it("end at their time without being read anew", function()
    local text = secret.new "sk"
    keys[1] = row_of(text, { expires_us = server.task.now_us + 5e6 })
    assert.is_table(find(text)[1])
    wait(6)
    assert.is_nil(find(text)[1])
  end)

  it("are told apart by the whole secret, not by what lists show of it", function()
    local text = secret.new "sk"
    keys[1] = row_of(text)
    local twin = text:sub(1, 14) .. secret.new("sk"):sub(15)
    assert.equal(secret.prefix(text), secret.prefix(twin))
    assert.is_nil(find(twin)[1])
  end)

  it("allow nothing by a scope that only a later version knows", function()
    local scopes, text = require "mw.access.scopes", secret.new "sk"
    keys[1] = row_of(text, { scopes = "moons:land trigger" })
    local row = find(text)[1]
    assert.is_true(scopes.allow(row.scopes, "trigger"))
    for name in pairs(scopes.known) do
      if name ~= "trigger" then assert.is_false(scopes.allow(row.scopes, name), name) end
    end
  end)

  it("note their use once a minute", function()
    local text, writes = secret.new "sk", 0
    keys[1] = row_of(text)
    local query = server.store.query
    server.store.query = function(db, sql, params)
      if sql:find("^UPDATE") then writes = writes + 1 end
      return query(db, sql, params)
    end
    package.loaded["mw.access.known"] = nil
    known = require "mw.access.known"
    for _ = 1, 100 do
      find(text)
      wait(1)
    end
    assert.is_true(writes == 2, writes .. " writes in 100 s")
  end)

  it("let a session pause for twelve hours, also when another worker was used meanwhile", function()
    local text, hour = secret.new "ss", 3600
    local function session(used) return row_of(text, { created_us = used, last_used_us = used, expires_us = used + 7 * 86400e6 }) end
    sessions[1] = session(server.task.now_us)
    assert.is_table(find(text, "sessions")[1])
    wait(11 * hour)
    sessions[1].last_used_us = server.task.now_us -- by the other worker; no change that is counted
    wait(6 * hour)
    assert.is_table(find(text, "sessions")[1])
    wait(13 * hour)
    assert.is_nil(find(text, "sessions")[1])
  end)
end)

describe("a secret", function()
  local secret = require "mw.access.secret"

  it("has 256 bits and a checksum, and is another each time", function()
    local seen, letters = {}, {}
    for _ = 1, 300 do
      local text = secret.new "sk"
      assert.is_nil(seen[text])
      seen[text] = true
      assert.matches("^mw_sk_%w+$", text)
      assert.equal(55, #text)
      assert.is_true(secret.check("sk", text))
      for letter in text:sub(7, 49):gmatch "." do letters[letter] = (letters[letter] or 0) + 1 end
    end
    local count = 0
    for _, times in pairs(letters) do
      count = count + 1
      assert.is_true(times > 120 and times < 320, "letters are not evenly drawn") -- 208 on average
    end
    assert.equal(62, count)
  end)

  it("is told from what was mistyped, cut or is of another kind", function()
    local text = secret.new "sk"
    for at = 7, 55 do
      local other = text:sub(at, at) == "x" and "y" or "x"
      assert.is_false(secret.check("sk", text:sub(1, at - 1) .. other .. text:sub(at + 1)))
    end
    for _, wrong in ipairs { "", "mw_sk_", text:sub(1, -2), text .. "a", " " .. text, text .. "\n", (secret.new "ss"), text:upper() } do
      assert.is_false(secret.check("sk", wrong))
    end
  end)
end)
