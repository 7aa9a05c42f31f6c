-- SPDX-License-Identifier: MIT
-- What spec/c/bind_alloc_test.c does while memory runs out: calls of every function that C gives to Lua. A case runs in a task, with a
-- tag of its own (a string seen before needs no memory), and must succeed when nothing fails; a string is sent as a request to the routes
-- at the end. Whoever adds a function to core/bind adds a call of it here; the test names what is missing.

local core = setmetatable({}, { __index = function(_, name) return require("mw.core." .. name) end })
local C = {}
for _, name in ipairs { "task", "runtime", "store", "json", "crypto", "cron", "fetch", "files", "multipart", "redis", "sandbox.native" } do
  C[name] = core[name]
end

local function claimed_of(id) -- others may be due, too
  for _ = 1, 100 do
    for _, row in ipairs(assert(C.store.claim(50))) do if row.id == id then return row end end
  end
  error "it is not due"
end

local function must(value, err, ...)
  if not value then error(err or "it gave nothing", 2) end
  return value, err, ...
end

local QUEUED, RUNNING, WAITING, COMPLETED = 1, 2, 4, 8

local cases = {
  -- ---- task ----
  function() C.task.sleep(0) end,
  function(tag)
    local child = C.task.spawn(function(...) C.task.sleep(0) return ... end, "child " .. tag, nil, tag, {})
    while not child:done() do C.task.sleep(0.001) end
    C.task.spawn(function() C.task.sleep(0.02) end, "long " .. tag, 5):cancel("cancelled", "not needed " .. tag)
  end,
  function(tag)
    local token = C.task.token()
    assert(not C.task.park("nothing" .. tag, 0.001))
    C.task.wake(token, 1)
    local mine = C.task.token()
    C.task.spawn(function() C.task.wake(mine, tag, {}) end, "waker")
    C.task.park("the waker", 0.02)
  end,
  function(tag)
    C.task.local_set { tag }
    assert(C.task.local_get()[1] == tag)
    C.task.on_fail(function() end)
    C.task.set_timeout(5)
    return C.task.left(), C.task.check("spec" .. tag), C.task.what(), C.task.is_current(), C.task.loading(), C.task.is_cancelled(), C.task.count()
  end,
  function(tag)
    local ok, err = pcall(C.task.check, {})
    assert(not ok and err)
    local _, raised = pcall(function() error(tag) end)
    assert(raised)
  end,

  -- ---- cron ----
  function(tag)
    local schedule = must(C.cron.new("30 2 * * MON-FRI", "Europe/Berlin"))
    assert(schedule:format(must(schedule:next(#tag))))
    assert(not C.cron.new("61 * * * " .. tag))
    assert(not C.cron.new("* * * * *", "Nowhere/" .. tag))
  end,

  -- ---- sandbox ----
  function(tag)
    local native = C["sandbox.native"]
    must(native.load("return '" .. tag .. "'", "@" .. tag, {}))()
    for _, module in ipairs { native, require "mw.core.sandbox" } do
      module.interpret(function() return tag end)
      assert(not pcall(module.apart, print, print)) -- this is a task
    end
    native.rethrow()
    native.is_doomed()
    native.log("a line " .. tag, tag)
    native.check_stack()
    native.lock_strings(string)
    local s = native.string
    assert(s.find("a" .. tag, "a(%w+)") and s.match("a" .. tag, "%w+") and s.gsub("x" .. tag, "%w", "%0%0") and s.rep(tag, 3, ","))
    for word in s.gmatch("a b " .. tag, "%w+") do assert(word) end
    s.gsub(tag, "%w", { t = "T" })
    s.gsub(tag, "%w", function(c) return c .. tag end)
  end,

  function(tag) -- the coroutines of plugins, whose waits go through pass_wait; lua/mw/_sandbox.lua has it from before it could be noted
    SEEN["mw.core.sandbox.native.pass_wait"] = true
    local sandbox = require "mw.core.sandbox"
    local env = sandbox.new_env("spec.lua")
    env.sleep, env.tag = C.task.sleep, tag
    must(sandbox.load([[
      local co = coroutine.wrap(function() sleep(0) coroutine.yield(tag) end)
      assert(co() == tag)
      pcall(sleep, 0)
    ]], "@plugins/spec.lua", env))()
  end,

  -- ---- runtime ----
  function(tag)
    local r = C.runtime
    assert(r.now_us() and r.mono() and r.uuid() and r.random() and r.format_time(1e15) and r.parse_time "2026-03-29T03:00:00Z" and r.duration "5s" and r.size "1KiB" and r.distance(tag, "tag"))
    r.duration("soon" .. tag)
    r.size("much" .. tag)
    r.log("info", "spec", "words " .. tag, tag, '{"a":1}')
    assert(r.worker() and r.generation())
    r.set_loading(false)
    assert(r.config("option" .. tag))
    r.env("APP_" .. tag)
    r.token_matches(tag)
    r.access_version(true)
    r.say("said " .. tag)
    r.plugins()
    r.status()
    r.is_draining()
    r.wake_engines(1)
    r.tell_control("0192a5b4-3c2d-7e1f-8a9b-0c1d2e3f4a5b")
    r.files()
    pcall(r.read, tag)
  end,
  function() C.runtime.reload() end,
  function(tag)
    local r = C.runtime
    r.kv_set("k" .. tag, "v" .. tag, 5)
    assert(r.kv_get("k" .. tag) == "v" .. tag)
    r.kv_add("n" .. tag, 2)
    r.kv_add("k" .. tag, 2)
    r.kv_remove("k" .. tag)
  end,

  -- ---- json, crypto ----
  function(tag)
    local json = C.json
    local value = must(json.decode('{"a":[1,"es\\u00e9' .. tag .. '",{}],"b":{"c":[[2]]}}'))
    local text = must(json.encode(value, { sort = true }))
    json.check(text)
    json.encode({ x = { 0 / 0 } })
    json.decode('{"a":["' .. tag .. '",}')
    must(json.encode { json.raw(text), json.box(tag), json.array(), tag })
    assert(json.is_array(json.array {}))
  end,
  function(tag)
    local c = C.crypto
    local sealed = c.seal(("k"):rep(32), "text " .. tag)
    assert(c.open(("k"):rep(32), sealed) == "text " .. tag and c.open(("x"):rep(32), sealed) == nil)
    assert(c.base64_decode(c.base64_encode(tag)) == tag and c.hex_decode(c.hex_encode(tag)) == tag)
    c.base64_decode("*" .. tag)
    return c.digest("sha256", tag), c.hmac("sha1", tag, tag), c.random(20), c.equal(tag, tag)
  end,

  -- ---- store ----
  function(tag)
    must(C.store.query("app", "CREATE TABLE IF NOT EXISTS t (a text, b int)"))
    must(C.store.query("app", "INSERT INTO t VALUES ($1, $2)", { tag, 5 }))
    local rows = must(C.store.query("app", "SELECT a, b, 1.5 AS c, NULL AS d FROM t WHERE a = $1 UNION ALL SELECT '" .. tag .. "', 9007199254740993, 'x', 'y'", { tag }))
    assert(#rows >= 2)
    C.store.query("app", "SELECT nonsense" .. tag)
    assert(C.store.app_schema() == nil)
  end,
  function(tag)
    local tx = must(C.store.begin("app", 5))
    must(tx:query("SELECT $1 AS a", { tag }))
    must(tx:finish(true))
    local other = must(C.store.begin("app", 5))
    other:query("SELECT wrong" .. tag)
    other:finish(false)
    must(C.store.begin("app", 5)) -- forgotten: the collector ends it
    collectgarbage()
  end,
  function(tag)
    must(C.store.put_code { { hash = ("%-64s"):format(tag):gsub(" ", "0"), text = "code " .. tag } })
    C.store.get_code((("%-64s"):format(tag):gsub(" ", "0")))
    C.store.get_code(("f"):rep(64))
  end,
  function(tag)
    local id = must(C.store.create("w" .. tag, "{}", "bundle", "seed", RUNNING))
    must(C.store.append(id, 1, 1, "row " .. tag))
    must(C.store.get(id))
    must(C.store.journal(id))
    must(C.store.append(id, 1, 2, "last", COMPLETED, 0, '"out"'))
    C.store.append(id, 7, 3, "stale " .. tag)
    must(C.store.create("w", "{}", "bundle", "seed", QUEUED, 9e15, "own " .. tag, "key " .. tag, "hash"))
    C.store.create("w", "{}", "bundle", "seed", QUEUED, 9e15, "own " .. tag, "key " .. tag, "hash")
  end,
  function(tag)
    local id = must(C.store.create("w" .. tag, "{}", "bundle", "seed", RUNNING))
    local ticket = C.store.append_late(id, 1, 1, "late " .. tag)
    local number = C.store.take_late(ticket) and 1 or 2
    must(C.store.append(id, 1, number, "last", COMPLETED, 0, '"out"'))
  end,
  function(tag)
    local parent = must(C.store.create("parent" .. tag, "{}", "bundle", "seed", RUNNING))
    local id = "0190aaaa" .. parent:sub(9)
    local child = { parent = parent, parent_key = "k", id = id, priority = 3, tags = '{"a":1}' }
    local made = must(C.store.create("child" .. tag, "{}", "bundle", "seed", RUNNING, nil, nil, nil, nil, nil, nil, child))
    assert(made == id)
    local _, again = must(C.store.create("child" .. tag, "{}", "bundle", "seed", RUNNING, nil, nil, nil, nil, nil, nil, child))
    assert(again == false)
    must(C.store.append(parent, 1, 1, "waits", WAITING, math.huge, nil, nil, nil, { waits = { "a", "$child:k" }, state = "1" }))
    must(C.store.append(id, 1, 1, "done", COMPLETED, 0, '"out"'))
    must(C.store.signal(parent, "a", '"data"', "mine", "spec"))
    must(C.store.signal(parent, "a", '"data"', "mine", "spec")) -- the same again
    must(C.store.signal(parent, "b"))
    local signals = must(C.store.signals(parent))
    assert(#signals == 3, #signals)
    assert(must(C.store.signals(parent, "mine"))[1].data == '"data"')
    local claimed = claimed_of(parent)
    assert(claimed.state == "1")
    must(C.store.append(parent, claimed.fence, 2, "took", COMPLETED, 0, nil, nil, nil, { take = { signals[1].id, "mine" } }))
    local sent, err = C.store.signal(parent, "a")
    assert(not sent and (err.code == "conflict" or err.code ~= "not_found"), err.code)
    C.store.signal("0190aaaa-0000-7000-8000-ffffffffffff", "a")
    local grouped = must(C.store.create("g" .. tag, "{}", "bundle", "seed", QUEUED, 1, nil, nil, nil, nil, nil, { group = "g" .. tag, slots = 2 }))
    claimed = claimed_of(grouped)
    assert(claimed.group == "g" .. tag)
    must(C.store.append(claimed.id, claimed.fence, 1, "done", COMPLETED, 0))
  end,
  function(tag)
    must(C.store.create("due" .. tag, "{}", "bundle", "seed", QUEUED, 1))
    for _, one in ipairs(must(C.store.claim(5))) do must(C.store.append(one.id, one.fence, 1, "done", COMPLETED, 0, "1")) end
  end,
  function(tag)
    must(C.store.add_change("default", "spec", "subject " .. tag, "spec", '{"a":1}'))
    C.store.is_open("further")
    must(C.store.open_database("further"))
    C.store.open_database("none" .. tag)
    must(C.store.query("further", "SELECT '" .. tag .. "'"))
    C.store.notify()
    C.store.notify("0192a5b4-3c2d-7e1f-8a9b-0c1d2e3f4a5b")
    return C.store.engine(), C.store.is_up(), C.store.epoch(), C.store.lease_left()
  end,

  -- ---- fetch ----
  function(tag)
    local answer = must(C.fetch.fetch("GET", UPSTREAM .. tag, { "X-Tag", tag }, nil, 5))
    assert(answer)
  end,
  function(tag)
    local res = require("mw.fetch").fetch(UPSTREAM .. tag, { json = { tag = tag }, headers = { ["X-A"] = tag } })
    assert(res.status == 200 and res:json().ok and res.headers["x-from"])
  end,
  function(tag)
    local ok = pcall(require("mw.fetch").fetch, "http://127.0.0.1:1/" .. tag)
    assert(not ok)
  end,

  -- ---- files ----
  function()
    local files = C.files
    local file = files.new()
    must(files.open(file, "spec/c", "harness.h", false))
    must(files.info(file))
    must(files.read(file, 0, 1000))
    files.close(file)
    local none = files.new()
    assert(not files.open(none, "spec/c", "nowhere", true))
    files.ranges("bytes=0-1,5-9", 100)
    files.ranges("bytes=900-", 100)
    files.conditional('"a"', 0, true, nil, '"b"')
    files.range_holds('"a"', 0, '"a"')
  end,

  -- ---- multipart ----
  function(tag)
    local parser = must(C.multipart.new("multipart/form-data; boundary=b" .. tag))
    local text = "--b" .. tag .. "\r\nContent-Disposition: form-data; name=\"" .. tag .. "\"\r\n\r\nvalue\r\n--b" .. tag .. "--\r\n"
    local event, at = nil, 1
    repeat event, at = C.multipart.next(parser, text, at) until event == "done" or event == "more"
    assert(event == "done")
    must(C.multipart.finish(parser))
    assert(not C.multipart.next(must(C.multipart.new("multipart/form-data; boundary=b")), "--b\r\nno header " .. tag .. "\r\n\r\n", 1))
  end,

  -- ---- redis ----
  function(tag)
    local redis = C.redis
    if not redis.is_configured() then return end
    must(redis.call(nil, { "SET", tag, "v" }))
    must(redis.call(nil, { "GET", tag }))
    redis.call(nil, { "NONSENSE", tag })
    must(redis.pipeline(nil, { { "SET", tag, 1 }, { "INCR", tag }, { "HGETALL", "none" .. tag } }))
  end,
  function(tag)
    local redis = C.redis
    if not redis.is_configured() then return end
    local session = must(redis.open())
    must(redis.call(session, { "MULTI" }))
    must(redis.call(session, { "SET", tag, "x" }))
    must(redis.call(session, { "EXEC" }))
    session:close(true)
    must(redis.open()) -- forgotten
    collectgarbage()
  end,
  function(tag)
    local redis = C.redis
    if not redis.is_configured() then return end
    local feed = must(redis.subscribe({ "ch" .. tag }, false, 10))
    must(feed:ready(2))
    must(redis.call(nil, { "PUBLISH", "ch" .. tag, "hello " .. tag }))
    must(feed:next(2))
    feed:close()
    redis.subscribe({ "p" .. tag .. "*" }, true, 10)
    redis.end_feeds()
  end,

  -- ---- http ----
  "POST /all/n%20m?q=1&q=2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: value\r\nCookie: c=d\r\nAccept-Encoding: gzip\r\n"
    .. "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"a\":[1,\"x\"]}",
  "POST /form HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\na=1&b=2&a=3",
  "POST /parts HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 120\r\n\r\n"
    .. "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\n" .. ("x"):rep(19) .. "\r\n--b--\r\n",
  "POST /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
  "GET /empty HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
  "GET /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
  "GET /html HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
  "GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\nRange: bytes=0-5,8-9\r\n\r\n",
  "GET /raise HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
  "GET /query HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}

local function route(method, pattern, handler, opts)
  return { methods = { method }, pattern = pattern, handler = handler, opts = opts, what = method .. " " .. pattern }
end

require("mw.http.routes").build(0, {
  route("POST", "/all/:name", function(req, res)
    local http = require "mw.core.http"
    local seen = { req.method, req.path, req.params.name, req.query.q, req.query_all.q[1], req.headers["X-Long"], req.cookies.c, req.ip,
      req.peer, req.scheme, req.host, req.trace_id, req.body, req:json(), req.target, http.query_text(req[1]), http.tag(req[1]), http.is_tls(req[1]), #(req.via or "") }
    C.task.sleep(0)
    assert(http.takes_gzip(res) and not http.is_compressed(res))
    res:status(201):header("x-a", "b"):cookie("k", "v", { max_age = "1h" }):json(seen)
  end),
  route("POST", "/form", function(req, res)
    res:json { req:form().a, req:form_all().a[2] }
  end),
  route("POST", "/parts", function(req, res) res:json { req:form().f ~= nil } end),
  route("POST", "/stream", function(req, res)
    for piece in req:chunks() do res:write("<" .. piece .. ">") end
    res:finish()
  end, { stream = true }),
  route("GET", "/empty", function(_, res) res:status(204):send() end),
  route("GET", "/text", function(_, res) res:text "plain" end),
  route("GET", "/html", function(_, res) res:html "<p>" end),
  route("GET", "/file", function(_, res) res:file "harness.h" end),
  route("GET", "/raise", function() error { code = "denied", message = "no" } end),
  route("GET", "/query", function(_, res) res:json(must(C.store.query("app", "SELECT 1 AS one"))) end),
})

return cases
