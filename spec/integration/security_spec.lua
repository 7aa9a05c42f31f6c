-- SPDX-License-Identifier: MIT
-- What a plugin, or a web page in the visitor's browser, may try against the server and the plugins beside it.

local server = require "support.server"

local evil = [==[
local mw = require "mw"
local function route(name, fn)
  mw.get("/evil/" .. name, function(req, res)
    local value = fn(req, res)
    if value ~= "answered" then res:text(tostring(value)) end
  end)
end

-- Positions that stock table.insert takes for a walk over two thousand million places.
for name, position in pairs { nan = 0/0, text = "-2000000000", huge = 1e10, zero = 0 } do
  route("insert_" .. name, function() return select(2, pcall(table.insert, {}, position, 1)) end)
end
route("insert_kept", function()
  local t = { 1, 3 }
  table.insert(t, 2, 2)
  table.insert(t, "4", 4)
  table.insert(t, 5)
  return table.concat(t, ",")
end)

route("reach", function(req)
  local open = {}
  local function look(name, value) if type(getmetatable(value)) == "table" then open[#open + 1] = name end end
  look("req", req) look("box", req[1]) look("headers", req.headers) look("query", req.query) look("text", "") look("null", mw.null)
  look("array", mw.array {}) look("raw", mw.json.raw("1")) look("error", mw.error("x")) look("env", mw.env) look("handle", mw.spawn(function() end))
  look("rows", mw.query("SELECT 1 AS a")) look("coroutine", coroutine.create(print)) look("_G", _G)
  mw.transaction(function(tx)
    look("tx", tx)
    for name in pairs(tx) do open[#open + 1] = "tx." .. tostring(name) end
  end)
  return #open == 0 and "nothing" or table.concat(open, " ")
end)
route("forge_req", function(req)
  local said = {}
  for i, box in ipairs { mw.json.raw('"ht"'), mw.json.raw('"12345678901234"'), mw.spawn(function() end), false, {}, "text" } do
    req[1] = box
    said[i] = tostring((pcall(function() return req.cookies end)))
  end
  return table.concat(said, " ")
end)

route("all_killed", function()
  return mw.all { function() while true do end end, function() mw.sleep(20) end }
end)
route("all_many", function()
  local list = {}
  for i = 1, 20000 do list[i] = print end
  local _, err = mw.try(mw.all, list)
  return err.code
end)
route("spawn_bomb", function()
  local function bomb() mw.spawn(bomb) mw.spawn(bomb) end
  bomb()
  return "lit"
end)
route("long_words", function() error(mw.error("invalid", ("é"):rep(1e6))) end)
route("kv_refused", function() local _, err = mw.try(mw.kv.set, "k", { print }) return err.code end)
route("kv_beyond", function() local _, err = mw.try(mw.kv.incr, "n", 1e300) return err.code end)

-- Errors that lie about what they are.
local endless = { __index = function() while true do end end, __metatable = "mw.error" }
local forged = {
  endless = setmetatable({}, endless),
  fields = setmetatable({ status = 0/0, message = print, where = {}, retry_after = 1/0, code = {}, hint = print }, { __metatable = "mw.error" }),
  half = setmetatable({ status = 404.5, message = "x", code = 7 }, { __metatable = "mw.error" }),
  words = setmetatable({}, { __tostring = function() while true do end end }),
  waits = setmetatable({}, { __tostring = function() mw.sleep(1) return "x" end }),
}
for name, value in pairs(forged) do route("forged_" .. name, function() error(value) end) end
route("forged_cycle", function() local err = mw.error("x", "y") err.hint, err.cause = err, err error(err) end)

local function query(sql) local _, err = mw.try(mw.query, sql) return err and err.code or "taken" end
route("sql_reach", function()
  local taken = {}
  for _, sql in ipairs { "ATTACH DATABASE 'engine.db' AS x", "VACUUM INTO '/tmp/stolen.db'", "PRAGMA writable_schema = 1", "PRAGMA synchronous = OFF",
    "PRAGMA journal_mode = DELETE", "PRAGMA busy_timeout = 1000000", "SELECT * FROM pragma_database_list", "SELECT load_extension('x')", "BEGIN", "COMMIT",
    "SAVEPOINT x", "/* x */ BEGIN", "SELECT 1; SELECT 2", "SELECT 1\0; SELECT 2", "CREATE TEMP TABLE main_table (a)", "CREATE TABLE temp.main_table (a)",
    "CREATE TEMP VIEW v AS SELECT 1", "CREATE VIRTUAL TABLE temp.v USING fts5(x)" } do
    if query(sql) == "taken" then taken[#taken + 1] = sql end
  end
  return #taken == 0 and "nothing" or table.concat(taken, "; ")
end)
route("sql_rolled_back", function()
  mw.query("CREATE TABLE IF NOT EXISTS keys (k PRIMARY KEY)")
  mw.query("INSERT INTO keys VALUES (1)")
  local _, err = mw.try(mw.transaction, function(tx)
    tx:query("INSERT INTO keys VALUES (2)")
    mw.try(tx.query, tx, "INSERT OR ROLLBACK INTO keys VALUES (1)")
    tx:query("INSERT INTO keys VALUES (3)") -- must not be committed by itself
  end)
  return err.code .. " " .. mw.one("SELECT count(*) AS n FROM keys").n
end)
for name, run in pairs {
  index = function() error(setmetatable({}, { __index = function() while true do end end })) end,
  fields = function() error(setmetatable({ code = {}, message = {}, where = {}, status = {}, retry_after = 0/0 }, { __metatable = "mw.error" })) end,
  written = function() local err = mw.error("x", "y") err.message, err.code, err.where, err.status = {}, print, 1, "z" error(err) end,
  bytes = function() error(mw.error("x", "\255\254")) end,
  memory = function() local t = {} for i = 1, 1e9 do t[i] = {} end end,
  all_killed = function() return mw.all { function() while true do end end } end,
} do
  mw.workflow("evil_" .. name, { { name = "a", retries = 0, run = run } })
end
mw.workflow("evil_body", function() local t = {} for i = 1, 1e9 do t[i] = {} end end)

route("answers", function(req, res)
  local taken = {}
  local function try(what, ...) if pcall(...) then taken[#taken + 1] = what end end
  try("name", res.header, res, "x\r\ny", "1") try("value", res.header, res, "x", "a\nb") try("nul", res.header, res, "x", "a\0b")
  try("none", res.header, res, "", "a") try("length", res.header, res, "content-length", "5") try("te", res.header, res, "transfer-encoding", "chunked")
  try("redirect", res.redirect, res, "/a\r\nset-cookie: x=1") try("cookie name", res.cookie, res, "a;b", "c") try("cookie", res.cookie, res, "a", "c;d")
  try("cookie line", res.cookie, res, "a", "c\r\nx: y") try("cookie path", res.cookie, res, "a", "b", { path = "/;x=1" })
  try("cookie domain", res.cookie, res, "a", "b", { domain = "x\r\ny" }) try("status", res.status, res, 101) try("long", res.header, res, "x", ("y"):rep(1e6))
  return #taken == 0 and "none" or table.concat(taken, " ")
end)
for status, how in pairs { [204] = "text", [304] = "json" } do
  route("body_" .. status, function(_, res) res:status(status)[how](res, "never") return "answered" end)
end

mw.route("*", "/:a/:b", function(req, res) res:text("shadow") end)
mw.route("*", "/*all", function(req, res) res:text("shadow") end)
]==]

local thief = [==[
local mw = require "mw"
mw.get("/thief", function(_, res)
  rawset(mw.env, "APP_NAME", "stolen")
  for _, part in ipairs { "json", "kv", "crypto", "log" } do for name in pairs(mw[part]) do mw[part][name] = nil end end
  mw.get, mw.query, string.format, table.concat, _G.pairs = nil, nil, nil, nil, nil
  res:text(mw.env.APP_NAME)
end)
]==]

local victim = [==[
local mw = require "mw"
mw.get("/victim", function(_, res)
  res:json { name = mw.env.APP_NAME, text = ("%d"):format(7), list = table.concat({ 1, 2 }), hash = mw.crypto.sha256("x"):sub(1, 4), kv = mw.kv.get("absent") == nil }
end)
]==]

describe("a plugin that attacks", function()
  local s

  setup(function()
    s = server.start {
      plugins = { ["evil.lua"] = evil, ["thief.lua"] = thief, ["victim.lua"] = victim },
      args = { "--workers", "1" }, env = { APP_NAME = "shop" },
      config = [[return { lua = { soft_limit = "300ms", memory = "128MiB" } }]],
    }
  end)
  teardown(function() s:stop() end)

  local function try(name) return s:get("/evil/" .. name, { timeout = 60 }) end

  it("is refused positions that insert would walk to for seconds", function()
    for _, name in ipairs { "nan", "text", "huge", "zero" } do
      assert.equal("bad argument #2 to 'insert' (position out of bounds)", try("insert_" .. name).body)
    end
    assert.equal("1,2,3,4,5", try("insert_kept").body)
  end)

  it("changes nothing that another plugin sees", function()
    assert.equal("stolen", s:get("/thief").body)
    assert.same({ name = "shop", text = "7", list = "12", hash = "2d71", kv = true }, s:get("/victim").json())
  end)

  it("reaches no metatable of what it is given", function() assert.equal("nothing", try("reach").body) end)

  it("cannot pass other values for a request", function()
    assert.equal("false false false false false false", try("forge_req").body)
  end)

  it("gets an error when a function of mw.all is killed, instead of waiting for it", function()
    local answer = try("all_killed")
    assert.equal(500, answer.status)
    assert.matches("ran too long", answer.body)
  end)

  it("starts no more tasks than a worker can bear", function()
    assert.equal("limit", try("all_many").body)
    local other = server.start {
      plugins = { ["evil.lua"] = evil, ["victim.lua"] = victim }, args = { "--workers", "1" }, env = { APP_NAME = "shop" },
      config = [[return { drain_timeout = "1s" }]],
    }
    assert.equal(200, other:get("/evil/spawn_bomb").status)
    for _ = 1, 3 do assert.equal(200, other:get("/victim", { timeout = 60 }).status) end
    other:stop()
  end)

  it("is shown words of a bounded length", function()
    local answer = try("long_words")
    assert.equal(400, answer.status)
    assert.is_true(#answer.body < 10000)
    assert.matches(" …$", answer.json().detail)
  end)

  it("is told what mw.kv cannot keep", function()
    assert.equal("encode", try("kv_refused").body)
    assert.equal("invalid", try("kv_beyond").body)
  end)

  for _, name in ipairs { "endless", "fields", "half", "words", "waits", "cycle" } do
    it("is answered 500 for a forged error (" .. name .. ")", function()
      assert.equal(500, try("forged_" .. name).status)
      assert.equal(200, s:get("/victim").status)
    end)
  end

  it("cannot split an answer or set what frames it", function() assert.equal("none", try("answers").body) end)

  it("reaches nothing but its own database by SQL", function()
    assert.equal("nothing", try("sql_reach").body)
    assert.equal("constraint 1", try("sql_rolled_back").body)
  end)

  for _, name in ipairs { "index", "fields", "written", "bytes", "memory", "all_killed", "body" } do
    it("fails its own execution and no other: " .. name, function()
      local id = s:post("/api/v1/executions", { json = { workflow = "evil_" .. name } }).json().id
      local execution
      s:wait(function()
        execution = s:get("/api/v1/executions/" .. id).json()
        return execution.status == "failed"
      end, 10, "the execution to fail, it is " .. tostring(execution and execution.status))
      assert.equal("string", type(execution.error.message))
      assert.equal("string", type(execution.error.code))
      assert.equal(200, s:get("/victim").status)
    end)
  end

  it("sends no body where there is none", function()
    local conn = s:connect()
    for _, status in ipairs { 204, 304 } do
      conn:send(("GET /evil/body_%d HTTP/1.1\r\nhost: localhost\r\n\r\n"):format(status))
      local answer = conn:read_answer("GET")
      assert.equal(status, answer.status)
      assert.equal("", conn.rest)
    end
    assert.equal(200, conn:request("GET", "/victim").status)
    conn:close()
  end)
end)

describe("a pattern that matches every path", function()
  local s

  setup(function() s = server.start { plugins = { ["evil.lua"] = evil }, args = { "--workers", "1" } } end)
  teardown(function() s:stop() end)

  it("never sees the paths of the built-in surfaces", function()
    for _, path in ipairs { "/api/nothing", "/api", "/api/v1/nothing/at/all", "/ops/x", "/metrics", "/hooks/a", "/mcp", "/ofrep/v1", "/v1/traces" } do
      for _, method in ipairs { "GET", "POST", "DELETE", "OPTIONS" } do
        local answer = s:request(method, path)
        assert.is_true(answer.status == 404 or answer.status == 405, method .. " " .. path .. " was answered " .. answer.status)
      end
    end
    assert.equal("shadow", s:get("/other/path").body)
    assert.equal("shadow", s:get("/apix").body)
    assert.equal("shadow", s:get("/v1/other").body)
  end)

  it("leaves 405 with Allow to built-in paths", function()
    local answer = s:request("DELETE", "/livez")
    assert.equal(405, answer.status)
    assert.equal("GET, HEAD", answer.headers.allow)
  end)

  it("does not make another way into a surface", function()
    for _, path in ipairs { "/api/v1/../v1/plugins", "/api/v1/%2e%2e/v1/plugins", "/x/../api/v1/plugins", "/api/./v1/plugins" } do
      assert.equal(400, s:get(path).status, path)
    end
    for _, path in ipairs { "//api//v1/plugins", "/api/v1/plugins/", "/%61pi/v1/plugins" } do
      assert.equal(200, s:get(path).status, path)
      assert.equal(403, s:get(path, { headers = { host = "evil.example" } }).status, path)
    end
    assert.equal("shadow", s:get("/API/v1/plugins").body)
    assert.equal("shadow", s:get("/api%2Fv1%2Fplugins").body)
  end)
end)

describe("access without a token", function()
  local s

  setup(function() s = server.start { plugins = { ["w.lua"] = [[local mw = require "mw" mw.workflow("w", { { name = "a", run = function() end } })]] }, args = { "--workers", "1" } } end)
  teardown(function() s:stop() end)

  local function from(headers) return s:get("/api/v1/executions", { headers = headers }).status end

  it("takes every form of a loopback Host and no other", function()
    for _, host in ipairs { "localhost", "LOCALHOST", "localhost.", "localhost:8080", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:80", "app.localhost" } do
      assert.equal(200, from { host = host }, host)
    end
    for _, host in ipairs { "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io:80", "[::1].evil.example", "[::2]",
      "localhost:80:evil.example", "notlocalhost", "0.0.0.0", "127.evil.1.1" } do
      assert.equal(403, from { host = host }, host)
    end
  end)

  it("refuses foreign origins, null among them", function()
    for _, origin in ipairs { "null", "https://evil.example", "http://localhost.evil.example", "http://127.0.0.1@evil.example", "http://evil.example:80",
      "file://", "http://localhost/path", "chrome-extension://localhost" } do
      assert.equal(403, from { origin = origin }, origin)
    end
    assert.equal(200, from { origin = "http://localhost:3000" })
  end)

  it("refuses every content type that a form can send, however written", function()
    local function trigger(kind) return s:post("/api/v1/executions", { body = '{"workflow":"w","input":{}}', headers = { ["content-type"] = kind } }).status end
    for _, kind in ipairs { "text/plain", "TEXT/PLAIN", " text/plain;x=application/json", "text/plain, application/json", "application/json, text/plain",
      "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application", "json", ";" } do
      assert.equal(415, trigger(kind), kind)
    end
    assert.equal(415, s:post("/api/v1/executions", { body = '{"workflow":"w","input":{}}' }).status)
    assert.is_true(trigger("application/json; charset=UTF-8") < 300)
  end)
end)

describe("access with a token", function()
  local s

  setup(function() s = server.start { args = { "--workers", "1" }, env = { MOONWATCH_TOKEN = "correct horse battery staple" } } end)
  teardown(function() s:stop() end)

  it("wants exactly that token in exactly that scheme", function()
    local function with(value) return s:get("/api/v1/executions", { headers = { authorization = value } }).status end
    for _, value in ipairs { "", "Bearer", "Bearer ", "Bearer correct", "Bearer correct horse battery staple2", "bearer x", "Basic correct horse battery staple",
      "Token correct horse battery staple", "correct horse battery staple", "Bearer\tcorrect horse battery staple" } do
      assert.equal(401, with(value), value)
    end
    assert.equal(200, with("Bearer correct horse battery staple"))
  end)

  it("guards every method and every spelling of a path", function()
    for _, path in ipairs { "/api/v1/executions", "//api/v1/executions", "/api/v1/executions/", "/%61pi/v1/executions", "/api/v1/openapi.json", "/api/v1/plugins" } do
      for _, method in ipairs { "GET", "HEAD" } do assert.equal(401, s:request(method, path).status, method .. " " .. path) end
    end
    assert.equal(401, s:post("/api/trigger", { json = { workflow = "w" } }).status)
    assert.equal(401, s:post("/api/v1/reload", { json = {} }).status)
    assert.equal(401, s:get("/ops").status)
    assert.equal(200, s:get("/livez").status)
  end)
end)

describe("secrets", function()
  it("of a database URL that does not parse are not logged", function()
    for _, url in ipairs { "postgres://user:secretpw@[::1/x", "postgres://user:secretpw%zz@127.0.0.1/x" } do
      local code, text = server.command { "serve", "--no-supervisor", "--listen", "127.0.0.1:0", "--data", os.tmpname() .. ".d", "--database", url }
      assert.equal(2, code)
      assert.matches("the database URL does not parse", text)
      assert.not_matches("secretpw", text)
    end
  end)
end)
