-- SPDX-License-Identifier: MIT
-- Keys and sessions of a real server, on both engines.

local ffi = require "ffi"
local engines = require "support.engines"
local posix = require "support.posix"
local server = require "support.server"

local TOKEN = "a token of the operator"
local plugin = [[
local mw = require "mw"
mw.workflow("w", { { name = "one", run = function() return 1 end } })
mw.get("/plain", function(req, res)
  local names = {}
  for name in pairs(req.cookies) do names[#names + 1] = name end
  res:json { cookies = mw.array(names) }
end)
]]

local function bearer(key, more)
  local headers = { authorization = key and "Bearer " .. key or nil }
  for name, value in pairs(more or {}) do headers[name] = value end
  return headers
end

engines.describe("keys on ", function(engine)
  local s
  setup(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, args = { "--token", TOKEN, "--workers", "2" }, database = engine.fresh() }
  end)
  teardown(function() s:stop() end)

  local function create(body, key)
    return s:post("/api/v1/keys", { json = body, headers = bearer(key or TOKEN) })
  end
  local function new_key(name, ...)
    local answer = create { name = name, scopes = { ... } }
    assert.equal(201, answer.status, answer.body)
    return answer.json().key, answer.json()
  end
  local function status(method, path, key, json)
    return s:request(method, path, { headers = bearer(key), json = json }).status
  end
  -- Connections reach any of the workers.
  local function every_worker(expected, ...)
    for _ = 1, 12 do assert.equal(expected, (status(...))) end
  end

  it("do what their scopes say and no more, on every worker", function()
    local key = new_key("reader", "executions:read")
    every_worker(200, "GET", "/api/v1/executions", key)
    every_worker(403, "GET", "/api/v1/plugins", key)
    local answer = s:request("POST", "/api/v1/reload", { headers = bearer(key), json = {} })
    assert.equal(403, answer.status)
    assert.matches('the key "reader" lacks the scope plugins:reload', answer.json().detail, 1, true)
    assert.matches("--scope plugins:reload", answer.json().hint, 1, true)
    assert.equal(200, status("GET", "/api/v1/openapi.json", key))
  end)

  it("start executions through the sidecar, in whose shape they are refused", function()
    local key, other = new_key("trigger", "trigger"), new_key("no-trigger", "keys")
    assert.equal(200, s:post("/api/trigger", { json = { name = "w" }, headers = bearer(key) }).status)
    local answer = s:post("/api/trigger", { json = { name = "w" }, headers = bearer(other) })
    assert.equal(403, answer.status)
    assert.matches("lacks the scope trigger", answer.json().error, 1, true)
    answer = s:post("/api/trigger", { json = { name = "w" }, headers = bearer("mw_sk_nothing") })
    assert.same({ error = { code = "unauthorized", message = "Unauthorized" } }, answer.json())
  end)

  it("are shown once and stored as a hash", function()
    local key, made = new_key("shown", "trigger")
    assert.matches("^mw_sk_%w+$", key)
    assert.equal(55, #key)
    local text = s:get("/api/v1/keys", { headers = bearer(TOKEN) }).body
    assert.is_nil(text:find(key, 1, true))
    assert.truthy(text:find(made.prefix, 1, true))
    if not engine.url then
      for _, file in ipairs { "moonwatch.db", "moonwatch.db-wal" } do
        assert.is_nil((posix.read_file(s.data .. "/" .. file) or ""):find(key, 1, true))
      end
    end
  end)

  it("open nothing from the moment they are revoked", function()
    local key, made = new_key("short-lived", "executions:read")
    every_worker(200, "GET", "/api/v1/executions", key)
    assert.equal(200, status("DELETE", "/api/v1/keys/" .. made.id, TOKEN))
    every_worker(401, "GET", "/api/v1/executions", key)
    assert.equal(404, status("DELETE", "/api/v1/keys/" .. made.id, TOKEN))
    assert.equal(201, create({ name = "short-lived", scopes = { "trigger" } }).status)
  end)

  it("end by themselves at their time", function()
    local key = create({ name = "hasty", scopes = { "executions:read" }, expires_in = "1s" }).json().key
    assert.equal(200, status("GET", "/api/v1/executions", key))
    posix.wait_until(function() return status("GET", "/api/v1/executions", key) == 401 end, 5, "the end of the key")
  end)

  it("tell a typo from a key that is not known", function()
    local key = new_key("typo", "trigger")
    local swapped = key:sub(1, 20) .. (key:sub(21, 21) == "a" and "b" or "a") .. key:sub(22)
    local answer = s:get("/api/v1/plugins", { headers = bearer(swapped) })
    assert.equal(401, answer.status)
    assert.matches("mistyped", answer.json().detail, 1, true)
  end)

  it("cannot give what they lack", function()
    local key = new_key("clerk", "keys", "trigger")
    assert.equal(201, create({ name = "clerks-own", scopes = { "trigger" } }, key).status)
    local answer = create({ name = "too-much", scopes = { "*" } }, key)
    assert.equal(403, answer.status)
    assert.equal(403, status("POST", "/api/v1/login-links", key, {}))
  end)

  it("have one name each, and known scopes", function()
    new_key("once", "trigger")
    assert.equal(409, create({ name = "once", scopes = { "trigger" } }).status)
    local answer = create { name = "odd", scopes = { "execution:read" } }
    assert.equal(400, answer.status)
    assert.matches('did you mean "executions:read"', answer.json().detail, 1, true)
    assert.equal(400, create({ name = "odd", scopes = {} }).status)
    assert.equal(400, create({ name = "a b", scopes = { "trigger" } }).status)
    for _, wrong in ipairs { "soon", "0s", "4000d", "-1s", "99999999999999d", "" } do
      assert.equal(400, create({ name = "odd", scopes = { "trigger" }, expires_in = wrong }).status, wrong)
    end
  end)

  it("note their last use", function()
    local key = new_key("noted", "executions:read")
    assert.equal(200, status("GET", "/api/v1/executions", key))
    posix.wait_until(function()
      for _, item in ipairs(s:get("/api/v1/keys", { headers = bearer(TOKEN) }).json().items) do
        if item.name == "noted" then return item.last_used_at end
      end
    end, 5, "the last use")
  end)

  it("leave rows in audit and changes", function()
    if engine.url then return end -- read from the file below
    assert.is_true(tonumber(server.sqlite(s.data .. "/moonwatch.db", "SELECT count(*) FROM audit WHERE action = 'key.created' AND actor = 'token'")) > 3)
    assert.equal("1", server.sqlite(s.data .. "/moonwatch.db", "SELECT count(*) FROM audit WHERE actor = 'key:clerk'"))
    assert.equal(server.sqlite(s.data .. "/moonwatch.db", "SELECT count(*) FROM audit"),
      server.sqlite(s.data .. "/moonwatch.db", "SELECT count(*) FROM changes WHERE kind <> 'plugins.loaded'"))
  end)

  it("survive a restart", function()
    local key = new_key("lasting", "executions:read")
    s:stop { keep = true }
    s:restart()
    assert.equal(200, status("GET", "/api/v1/executions", key))
  end)
end)

engines.describe_postgres("keys of a fleet", function(engine)
  it("are known to another node, and their end, within seconds", function()
    local database = engine.fresh()
    local a = server.start { args = { "--token", TOKEN, "--workers", "1" }, database = database }
    local b = server.start { args = { "--token", TOKEN, "--workers", "1" }, database = database }
    local made = a:post("/api/v1/keys", { json = { name = "k", scopes = { "trigger" } }, headers = bearer(TOKEN) }).json()
    local function on_b() return b:get("/api/v1/openapi.json", { headers = bearer(made.key) }).status end
    posix.wait_until(function() return on_b() == 200 end, 5, "the key on the other node")
    a:request("DELETE", "/api/v1/keys/k", { headers = bearer(TOKEN) })
    posix.wait_until(function() return on_b() == 401 end, 8, "its end on the other node")
    a:stop()
    b:stop()
  end)
end)

engines.describe("sessions on ", function(engine)
  local s
  setup(function()
    s = server.start { plugins = { ["p.lua"] = plugin }, args = { "--workers", "2" }, database = engine.fresh() }
  end)
  teardown(function() s:stop() end)

  local function new_link()
    local code, text = server.command({ "login", "--data", s.data })
    assert.equal(0, code, text)
    return assert(text:match("(/ops/login%?code=%w+[%w_]*)"), text), text
  end
  local function log_in()
    local answer = s:get(new_link())
    assert.equal(303, answer.status, answer.body)
    assert.equal("/ops", answer.headers.location)
    local cookie = answer.headers["set-cookie"]
    return assert((type(cookie) == "table" and cookie[1] or cookie):match("(mw_session=[%w_]+)")), answer
  end
  local function csrf_of(cookie)
    return assert(s:get("/ops", { headers = { cookie = cookie } }).body:match('moonwatch%-csrf" content="(%x+)"'))
  end

  it("begin with a link from `moonwatch login`, which opens once", function()
    local link, text = new_link()
    assert.truthy(text:find("http://127.0.0.1:" .. s.port .. link, 1, true), text)
    assert.equal(401, s:get("/ops").status)
    assert.matches("moonwatch login", s:get("/ops").body, 1, true)
    assert.equal(204, s:request("HEAD", link).status)
    assert.equal(303, s:get(link).status)
    local again = s:get(link)
    assert.equal(403, again.status)
    assert.matches("used already", again.body, 1, true)
  end)

  it("hold on every worker, in a cookie that plugins do not get", function()
    local cookie, answer = log_in()
    local all = answer.headers["set-cookie"]
    all = type(all) == "table" and table.concat(all, "\n") or all
    assert.matches("HttpOnly", all, 1, true)
    assert.matches("SameSite=Lax", all, 1, true)
    assert.is_nil(all:find("Path=/;", 1, true))
    assert.is_nil(all:find("Secure", 1, true))
    for _ = 1, 8 do assert.equal(200, s:get("/ops", { headers = { cookie = cookie } }).status) end
  end)

  it("count on /api/v1 for requests that change something only with the csrf header", function()
    local cookie = log_in()
    local csrf = csrf_of(cookie)
    local function reload(headers)
      headers.cookie = cookie
      return s:post("/api/v1/reload", { json = {}, headers = headers })
    end
    local refused = reload {}
    assert.equal(403, refused.status)
    assert.matches("x-moonwatch-csrf", refused.json().detail, 1, true)
    assert.equal(403, reload({ ["x-moonwatch-csrf"] = csrf:reverse() }).status)
    assert.equal(200, reload({ ["x-moonwatch-csrf"] = csrf }).status)
  end)

  it("do not serve scripts of plugins' pages", function()
    local cookie = log_in()
    local headers = { cookie = cookie, ["sec-fetch-dest"] = "empty" }
    assert.equal(403, s:get("/ops", { headers = headers }).status)
    headers["sec-fetch-dest"] = "iframe"
    assert.equal(403, s:get("/ops", { headers = headers }).status)
    headers["sec-fetch-dest"] = "document"
    local page = s:get("/ops", { headers = headers })
    assert.equal(200, page.status)
    assert.equal("same-origin", page.headers["cross-origin-opener-policy"])
  end)

  it("end at /ops/logout, and all of them by `moonwatch logout`", function()
    local cookie, other = log_in(), log_in()
    local form = { headers = { cookie = cookie, ["content-type"] = "application/x-www-form-urlencoded" }, body = "x=1" }
    assert.equal(403, s:post("/ops/logout", form).status)
    form.body = "x-moonwatch-csrf=" .. csrf_of(cookie)
    assert.equal(200, s:post("/ops/logout", form).status)
    assert.equal(401, s:get("/ops", { headers = { cookie = cookie } }).status)
    assert.equal(200, s:get("/ops", { headers = { cookie = other } }).status)
    local link = new_link()
    assert.equal(0, (server.command { "logout", "--data", s.data }))
    assert.equal(401, s:get("/ops", { headers = { cookie = other } }).status)
    assert.equal(403, s:get(link).status)
  end)

  it("are not begun by guessing", function()
    local refused
    for _ = 1, 120 do
      local status = s:get("/ops/login?code=mw_ll_guess").status
      assert.truthy(status == 403 or status == 429, status)
      refused = refused or status == 429
    end
    assert.is_true(refused)
  end)
end)

describe("a server without a token", function()
  local s
  setup(function() s = server.start { plugins = { ["p.lua"] = plugin } } end)
  teardown(function() s:stop() end)

  it("checks a key that is given all the same", function()
    assert.equal(200, s:get("/api/v1/plugins").status)
    assert.equal(401, s:get("/api/v1/plugins", { headers = bearer "mw_sk_x" }).status)
    local key = s:post("/api/v1/keys", { json = { name = "k", scopes = { "trigger" } } }).json().key
    assert.equal(403, s:get("/api/v1/plugins", { headers = bearer(key) }).status)
  end)

  it("does not print a login link into a log", function()
    s:wait_log("nobody has logged in", 5)
    assert.is_nil(s:log():find("mw_ll_", 1, true))
  end)
end)

describe("a session behind a proxy that speaks TLS", function()
  it("has a cookie that is Secure and named so", function()
    local s = server.start { config = 'return { http = { trusted_proxies = { "127.0.0.1" } } }' }
    local function link()
      local _, text = server.command { "login", "--data", s.data }
      return text:match("(/ops/login%?code=[%w_]+)")
    end
    local headers = { ["x-forwarded-for"] = "127.0.0.1", ["x-forwarded-proto"] = "https", ["x-forwarded-host"] = "localhost" }
    local answer = s:get(link(), { headers = headers })
    assert.equal(303, answer.status, answer.body)
    local all = answer.headers["set-cookie"]
    all = type(all) == "table" and table.concat(all, "\n") or all
    local cookie = assert(all:match("(__Secure%-mw_session=[%w_]+)"), all)
    assert.matches("; Secure", all, 1, true)
    headers.cookie = cookie
    assert.equal(200, s:get("/ops", { headers = headers }).status)
    -- Over plain http that cookie is nobody's, and one that was planted without the prefix is nobody's over TLS.
    headers["x-forwarded-proto"] = "http"
    assert.equal(401, s:get("/ops", { headers = headers }).status)
    headers["x-forwarded-proto"] = "https"
    headers.cookie = cookie:gsub("__Secure%-", "")
    assert.equal(401, s:get("/ops", { headers = headers }).status)
    s:stop()
  end)
end)

describe("guessing login links", function()
  it("from one address keeps nobody else out", function()
    local s = server.start { config = 'return { token = "' .. ("t"):rep(32) .. '", http = { trusted_proxies = { "127.0.0.1" } } }', args = { "--workers", "1" } }
    local function try(ip, code) return s:get("/ops/login?code=" .. code, { headers = { ["x-forwarded-for"] = ip } }).status end
    local code = select(2, server.command { "login", "--data", s.data }):match("code=(%S+)")
    s:wait(function() -- within one second
      for _ = 1, 30 do
        if try("203.0.113.9", "mw_ll_guess") == 429 then return try("198.51.100.7", "mw_ll_guess") == 403 end
      end
    end, 10, "one to be refused and another not")
    for _ = 1, 30 do try("203.0.113.9", "mw_ll_guess") end
    assert.equal(303, try("198.51.100.7", code))
    s:stop()
  end)
end)

describe("keys while PostgreSQL is away", function()
  it("go on for those that were known, and let nobody else in", function()
    local postgres = require "support.postgres"
    if not postgres.can_start() then return pending "needs the PostgreSQL server programs" end
    local pg = postgres.start()
    local s = server.start { args = { "--token", TOKEN, "--workers", "1" }, database = pg.url }
    local key = s:post("/api/v1/keys", { json = { name = "k", scopes = { "plugins:read" } }, headers = bearer(TOKEN) }).json().key
    local function status(with) return s:get("/api/v1/plugins", { headers = bearer(with) }).status end
    assert.equal(200, status(key))
    pg:stop_now()
    s:wait(function() return s:get("/readyz").status == 503 end, 10, "the server to notice")
    assert.equal(200, status(key))
    assert.equal(200, status(TOKEN))
    assert.equal(401, status((require("mw.access.secret").new "sk")))
    pg:start_again()
    s:wait(function() return s:get("/readyz").status == 200 end, 20, "PostgreSQL to be back")
    assert.equal(200, status(key))
    s:stop()
    pg:stop()
  end)
end)

describe("moonwatch keys", function()
  local s
  setup(function() s = server.start { plugins = { ["p.lua"] = plugin }, args = { "--token", TOKEN } } end)
  teardown(function() s:stop() end)

  local function run(...)
    local args = { "keys", ... }
    args[#args + 1], args[#args + 2] = "--data", s.data
    return server.command(args)
  end

  it("makes, lists and revokes", function()
    local code, text = run("create", "ci", "--scope", "trigger,executions:read", "--scope", "plugins:read", "--expires", "90d")
    assert.equal(0, code, text)
    local key = assert(text:match("mw_sk_%w+"), text)
    assert.equal(200, s:get("/api/v1/executions", { headers = bearer(key) }).status)
    code, text = run "list"
    assert.equal(0, code, text)
    assert.matches("ci +mw_sk_%w+ +executions:read,plugins:read,trigger ", text)
    assert.is_nil(text:find(key, 1, true))
    code, text = run("revoke", "ci")
    assert.equal(0, code, text)
    assert.equal(401, s:get("/api/v1/executions", { headers = bearer(key) }).status)
    code, text = run("list", "--revoked", "--json")
    assert.equal(0, code, text)
    assert.matches('"revoked_at":"%d', text)
  end)

  it("says what is wrong", function()
    local code, text = run "creat"
    assert.equal(2, code)
    assert.matches("did you mean 'create'?", text, 1, true)
    code, text = run("create", "x")
    assert.equal(2, code)
    assert.matches("--scope", text, 1, true)
    code, text = run("create", "x", "--scope", "triger")
    assert.equal(1, code)
    assert.matches('did you mean "trigger"?', text, 1, true)
    code, text = run("revoke", "nobody")
    assert.equal(1, code)
    assert.matches("moonwatch keys list", text, 1, true)
  end)
end)

describe("the first start", function()
  it("shows a login link on a terminal, which works", function()
    local found = os.execute "command -v script >/dev/null 2>&1"
    if found ~= 0 and found ~= true then
      return pending("needs script(1)")
    end
    local dir = posix.temp_dir()
    posix.make_dirs(dir .. "/plugins")
    local exe = io.popen("readlink /proc/" .. ffi.C.getpid() .. "/exe"):read("*l")
    local command = ("exec %s serve --no-supervisor --listen 127.0.0.1:0 --data %s/data --plugins %s/plugins"):format(exe, dir, dir)
    local pid = posix.spawn("/usr/bin/script", { argv = { "script", "-qefc", command, dir .. "/typescript" }, env = posix.environment(), dir = dir,
      output = dir .. "/out" })
    local link = posix.wait_until(function()
      return (posix.read_file(dir .. "/typescript") or ""):match("http://127.0.0.1:(%d+/ops/login%?code=[%w_]+)")
    end, 15, "the link")
    local port, path = link:match("^(%d+)(.*)$")
    local answer = require("support.http").request("127.0.0.1", tonumber(port), "GET", path, {})
    assert.equal(303, answer.status)
    posix.kill(posix.children(pid)[1] or pid, posix.SIGTERM)
    posix.wait_exit(pid, 20)
    posix.remove_dir(dir)
  end)
end)
