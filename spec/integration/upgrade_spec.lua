-- SPDX-License-Identifier: MIT
-- SIGUSR2: the program is swapped for the one on disk while it serves, on both engines; whatever is wrong with the new one changes nothing.

local posix = require "support.posix"
local http = require "support.http"
local server = require "support.server"
local upstream = require "support.upstream"

local plugin = [[
  local mw = require "mw"
  mw.get("/up", function(_, res) res:text("up") end)
  mw.get("/slow", function(_, res) mw.sleep("700ms") res:text("slow") end)
  mw.get("/long", function(_, res) mw.sleep("6s") res:text("long") end)
  mw.get("/endless", function(_, res) while true do mw.sleep("1s") end end)
  mw.get("/pid", function(_, res) res:text("one") end)
]]

local work = [[
  local mw = require "mw"
  local function call(step)
    return function(ctx)
      mw.fetch(mw.env.APP_UPSTREAM .. "/" .. step, { method = "POST", json = { run = ctx.input.run } }):ok()
      return step
    end
  end
  mw.workflow("work", { { name = "a", run = call "a" }, { name = "b", run = call "b" }, { name = "c", run = call "c" } })
]]

local function copy(from, to) assert(os.execute(("cp '%s' '%s.new' && mv '%s.new' '%s'"):format(from, to, to, to)) == 0) end

local own = posix.link("/proc/self/exe")

describe("SIGUSR2", function()
  local s, dir, program
  before_each(function()
    dir = posix.temp_dir()
    program = dir .. "/moonwatch"
    copy(own, program)
  end)
  after_each(function()
    if s and s.pid then s:stop() end
    s = nil
    posix.remove_dir(dir)
  end)

  local function start(opts)
    opts = opts or {}
    opts.plugins = opts.plugins or { ["p.lua"] = plugin }
    opts.supervised = true
    opts.program = program
    opts.args = opts.args or { "--workers", "2" }
    s = server.start(opts)
    return s
  end

  local function count(pattern) return select(2, s:log():gsub(pattern, "")) end

  local function swap()
    local done = count("the swap is done")
    s:kill(posix.SIGUSR2)
    s:wait(function() return count("the swap is done") > done end, 20, "the swap")
  end

  -- What was refused changed nothing: the same server answers, and another swap succeeds.
  local function goes_on(child)
    assert.equal(child, s:server_pid())
    assert.equal("up", s:get("/up").body)
    assert.equal(0, count("the swap is done"))
  end

  it("replaces the program in the supervisor's process id with the file that is at its path now", function()
    start()
    local child = s:server_pid()
    copy(own, program) -- the same version, another file
    swap()
    assert.not_equal(child, s:server_pid())
    assert.equal(program, posix.link("/proc/" .. s.pid .. "/exe"))
    assert.equal(program, posix.link("/proc/" .. s:server_pid() .. "/exe"))
    assert.is_false(posix.is_alive(child))
    assert.equal("up", s:get("/up").body)
    assert.equal("ready", s:control("GET", "/readyz").json().status)
  end)

  it("keeps supervising: the new server is started again when it dies, and drains on SIGTERM", function()
    start()
    swap()
    local child = s:server_pid()
    s:kill_server(9)
    s:wait(function()
      local now = posix.children(s.pid)[1]
      return now and now ~= child
    end, 5, "another server")
    assert.equal("up", http.request("127.0.0.1", s.port, "GET", "/up", { timeout = 15 }).body)
    s:stop()
  end)

  it("lets a request under way finish, and says Connection: close on it", function()
    start()
    local conn = s:connect()
    conn:send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.1)
    s:kill(posix.SIGUSR2)
    local answer = conn:read_answer("GET")
    assert.equal("slow", answer.body)
    assert.equal("close", answer.headers.connection)
    s:wait_log("the swap is done", 10)
  end)

  -- Connections of their own, so that the sockets of both workers get some.
  local function answers_at_once(seconds)
    local until_s = posix.now() + seconds
    repeat
      assert.equal("up", s:get("/up", { timeout = 3 }).body)
      posix.pause(0.02)
    until posix.now() >= until_s
  end

  for _, engine in ipairs { "SQLite", "PostgreSQL" } do
    it("lets new connections in on all workers while a step runs on one, on " .. engine, function()
      local url = os.getenv("MW_TEST_DATABASE_URL")
      if engine == "PostgreSQL" and not url then return pending("needs PostgreSQL") end
      local up = upstream.start { delay = 6 }
      start {
        plugins = { ["p.lua"] = plugin, ["work.lua"] = work },
        database = engine == "PostgreSQL" and server.fresh_database(url) or nil,
        env = { APP_UPSTREAM = "http://127.0.0.1:" .. up.port },
      }
      assert.equal(200, s:post("/api/trigger", { json = { name = "work", input = { run = "one" } } }).status)
      s:wait(function() return #up:calls() == 1 end, 5, "the step to begin")
      s:kill(posix.SIGUSR2)
      s:wait_log("another server takes over", 10)
      answers_at_once(4)
      s:wait_log("the swap is done", 15)
      s:wait(function() return #up:calls() >= 2 end, 10, "the execution to go on")
      local calls = up:calls()
      assert.equal("/a", calls[1].path)
      assert.equal("/b", calls[2].path)
      up:stop()
    end)
  end

  it("lets new connections in while a long request runs, and answers that too", function()
    start()
    local conn = s:connect { timeout = 15 }
    conn:send("GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.1)
    s:kill(posix.SIGUSR2)
    s:wait_log("another server takes over", 10)
    answers_at_once(4)
    assert.equal("long", conn:read_answer("GET").body)
    s:wait_log("the swap is done", 10)
  end)

  it("lets new connections in until a request without an end is cut off", function()
    start { env = { MOONWATCH_DRAIN_TIMEOUT = "6s" } }
    local conn = s:connect { timeout = 15 }
    conn:send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
    posix.pause(0.1)
    s:kill(posix.SIGUSR2)
    s:wait_log("another server takes over", 10)
    answers_at_once(4)
    s:wait_log("the swap is done", 15)
    assert.equal("up", s:get("/up").body)
    conn:close()
  end)

  it("lets new connections in though clients are slow to say what they want", function()
    start()
    local before = s:connect { timeout = 15 }
    before:send("GET /up HTTP/1.1\r\n")
    posix.pause(0.1)
    s:kill(posix.SIGUSR2)
    s:wait_log("another server takes over", 10)
    answers_at_once(2)
    before:send("Host: localhost\r\n\r\n")
    local since = s:connect { timeout = 15 }
    since:send("GET /up HTTP/1.1\r\n")
    assert.equal("up", before:read_answer("GET").body)
    answers_at_once(3)
    s:wait_log("the swap is done", 10)
    since:close()
  end)

  it("reads the configuration anew: a listener comes, another goes, workers change", function()
    start { config = [[return { listen_app = "127.0.0.1:0", workers = 3 }]], args = {} }
    local old_app = s.app_port
    assert.is_number(old_app)
    posix.write_file(s.dir .. "/moonwatch.lua", [[return { listen_api = "127.0.0.1:0", workers = 1 }]])
    swap()
    local text = posix.read_file(s.data .. "/addresses")
    local api = tonumber(text:match("api 127.0.0.1:(%d+)"))
    assert.is_number(api)
    assert.is_nil(text:match("app "))
    assert.equal(tostring(s.port), text:match("main 127.0.0.1:(%d+)"))
    assert.equal(200, http.request("127.0.0.1", api, "GET", "/api/v1/plugins", {}).status)
    assert.is_nil(http.try_connect("127.0.0.1", old_app))
    for _ = 1, 20 do assert.equal("up", s:get("/up").body) end -- on all three sockets, though one worker is left
    posix.write_file(s.dir .. "/moonwatch.lua", [[return { workers = 4 }]])
    swap()
    for _ = 1, 20 do assert.equal("up", s:get("/up").body) end
  end)

  it("refuses a configuration that is not valid, and says why", function()
    start { config = "return {}" }
    local child = s:server_pid()
    posix.write_file(s.dir .. "/moonwatch.lua", [[return { lisen = "x" }]])
    s:kill(posix.SIGUSR2)
    s:wait_log("the one before goes on", 10)
    assert.matches("lisen", s:log(), 1, true)
    goes_on(child)
  end)

  it("refuses plugins that do not load", function()
    start { env = { MOONWATCH_WATCH = "false" } }
    local child = s:server_pid()
    s:write("bad.lua", "local mw = (")
    s:kill(posix.SIGUSR2)
    s:wait_log("the one before goes on", 10)
    assert.matches("bad.lua", s:log(), 1, true)
    goes_on(child)
    s:remove("bad.lua")
    swap()
  end)

  it("refuses a schema that is newer than the program", function()
    start()
    local child = s:server_pid()
    server.sqlite_exec(s.data .. "/moonwatch.db",
      "INSERT INTO schema_migrations (version, name, checksum, applied_us) VALUES (9999, 'later', 'x', 1)")
    s:kill(posix.SIGUSR2)
    s:wait_log("the one before goes on", 10)
    assert.matches("version 9999", s:log(), 1, true)
    goes_on(child)
  end)

  it("goes on when the new file is missing, no program, another program, or one that crashes at once", function()
    start()
    local child = s:server_pid()
    local files = { "", "not a program", "#!/bin/sh\nexit 0\n", "#!/bin/sh\nkill -SEGV $$\n" }
    for i, text in ipairs(files) do
      os.remove(program)
      if text ~= "" then
        posix.write_file(program, text)
        os.execute("chmod 755 '" .. program .. "'")
      end
      s:kill(posix.SIGUSR2)
      s:wait(function() return count("the one before goes on") == i end, 10, "refusal " .. i)
      goes_on(child)
    end
    copy(own, program)
    swap()
  end)

  it("kills a new program that hangs, after upgrade_timeout", function()
    start { env = { MOONWATCH_UPGRADE_TIMEOUT = "1s" } }
    local child = s:server_pid()
    posix.write_file(program .. ".sh", "#!/bin/sh\nexec sleep 60\n")
    os.execute(("chmod 755 '%s.sh' && mv '%s.sh' '%s'"):format(program, program, program))
    s:kill(posix.SIGUSR2)
    s:wait_log("longer than upgrade_timeout", 10)
    s:wait_log("the one before goes on", 5)
    goes_on(child)
  end)

  it("does a second swap that was asked for during the first", function()
    start()
    s:kill(posix.SIGUSR2)
    s:wait_log("a new program checks itself", 5)
    s:kill(posix.SIGUSR2)
    s:wait(function() return count("the swap is done") == 2 end, 20, "both swaps")
    assert.equal("up", s:get("/up").body)
  end)

  it("ends all processes when it is stopped at any moment of a swap", function()
    for i = 0, 5 do
      start()
      s:kill(posix.SIGUSR2)
      posix.pause(i * 0.06)
      local pids = posix.children(s.pid)
      s:stop()
      for _, pid in ipairs(pids) do assert.is_false(posix.is_alive(pid)) end
    end
  end)

  for _, engine in ipairs { "SQLite", "PostgreSQL" } do
    it("ten times under load on " .. engine .. ": no request fails, no step is done twice", function()
      local url = os.getenv("MW_TEST_DATABASE_URL")
      if engine == "PostgreSQL" and not url then return pending("needs PostgreSQL") end
      local up = upstream.start { delay = 0.02 }
      start {
        plugins = { ["p.lua"] = plugin, ["work.lua"] = work },
        database = engine == "PostgreSQL" and server.fresh_database(url) or nil,
        env = { APP_UPSTREAM = "http://127.0.0.1:" .. up.port },
      }
      local load = s:load("/up", { connections = 4, seconds = 60, until_file = dir .. "/stop" })
      local curl = posix.fork(function() -- a client that is not ours: keep-alive, no retry; to stderr, which it does not buffer
        local url_list = ("http://127.0.0.1:%d/up?[1-100000]"):format(s.port)
        os.execute(("curl -sS --rate 500/s -o /dev/null -w '%%{stderr}%%{http_code}\\n' '%s' > %s/curl 2>&1 & echo $! > %s/curl.pid; wait"):format(url_list, dir, dir))
      end)
      local triggered, descriptors, memory = 0, #posix.descriptors(s.pid), nil
      for _ = 1, 10 do
        for _ = 1, 5 do
          triggered = triggered + 1
          local answer = s:post("/api/trigger", {
            json = { name = "work", input = { run = "r" .. triggered } }, timeout = 30,
          })
          assert.equal(2, math.floor(answer.status / 100), answer.body)
        end
        swap()
        memory = memory or s:memory()
      end
      assert.equal(descriptors, #posix.descriptors(s.pid))
      assert.is_true(s:memory() < memory * 1.2 + 2e6)
      posix.write_file(dir .. "/stop", "")
      os.execute("kill $(cat " .. dir .. "/curl.pid)")
      posix.wait_exit(curl, 5)
      local outcome = load:finish()
      assert.equal(0, outcome.failed, outcome.first_failure)
      assert.is_true(outcome.answered > 100)
      local codes = posix.read_file(dir .. "/curl")
      assert.is_truthy(codes:find("200", 1, true))
      assert.is_nil(codes:gsub("200\n", ""):gsub("20?0?$", ""):match("%S.*"))
      local calls
      s:wait(function()
        calls = up:calls()
        return #calls >= triggered * 3
      end, 20, "all executions to finish")
      local seen = {}
      for _, call in ipairs(calls) do
        local key = call.json.run .. call.path
        assert.is_nil(seen[key], key .. " was called twice")
        seen[key] = true
      end
      up:stop()
    end)
  end
end)
