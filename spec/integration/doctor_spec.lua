-- SPDX-License-Identifier: MIT
-- `moonwatch doctor`: finds what is wrong, says what to do, changes nothing.

local dkjson = require "dkjson"
local posix = require "support.posix"
local server = require "support.server"

local function sh(line)
  local pipe = io.popen(line)
  local text = pipe:read("*a")
  pipe:close()
  return text
end

describe("doctor", function()
  local dir
  before_each(function()
    dir = posix.temp_dir()
    posix.make_dirs(dir .. "/plugins")
  end)
  after_each(function() posix.remove_dir(dir) end)

  -- Runs it; returns its exit code and the lines by check.
  local function examine(...)
    local args = { "doctor", "--json", "--listen", "127.0.0.1:0" }
    for _, arg in ipairs { ... } do args[#args + 1] = arg end
    local code, text = server.command(args, { dir = dir, timeout = 40 })
    local report = dkjson.decode(text)
    assert.is_table(report, text)
    local by = {}
    for _, line in ipairs(report.checks) do
      if not by[line.check] or line.level ~= "ok" then by[line.check] = line end
    end
    assert.equal(report.failures > 0 and 1 or 0, code)
    return code, by, report
  end

  local function check(by, name, level, pattern)
    assert.is_table(by[name], "there is no line about " .. name)
    assert.equal(level, by[name].level, by[name].text)
    assert.matches(pattern, by[name].text)
  end

  local function make_database()
    assert.equal(0, (server.command({ "migrate", "up" }, { dir = dir })))
    return dir .. "/data/moonwatch.db"
  end

  it("shows what a server says so that it cannot steer the terminal", function()
    local fake = require("support.redis").fake(function() return "-ERR \27[2Jgone\r\n" end)
    local _, text = server.command({ "doctor", "--listen", "127.0.0.1:0" }, { dir = dir, timeout = 40, env = { REDIS_URL = fake.url } })
    fake.stop()
    assert.matches("\\x1b[2Jgone", text, 1, true)
    assert.is_nil(text:find("\27", 1, true))
  end)

  it("finds nothing wrong with a fresh project, and leaves nothing in it", function()
    local code, by = examine()
    assert.equal(0, code)
    check(by, "data folder", "ok", "not there yet")
    assert.equal("plugins\n", sh("ls -A " .. dir))
  end)

  it("looks at a database that nobody uses without a trace", function()
    make_database()
    local before = sh("cd " .. dir .. "/data && ls -A --full-time")
    local code, by = examine "--deep"
    assert.equal(0, code)
    check(by, "integrity", "ok", "nothing wrong")
    check(by, "schema", "ok", "as this program")
    assert.equal(before, sh("cd " .. dir .. "/data && ls -A --full-time"))
  end)

  it("knows the server that runs on the folder, and its port", function()
    local s = server.start { plugins = {}, supervised = true }
    local args = { "doctor", "--data", s.data, "--plugins", s.plugins, "--listen", "127.0.0.1:" .. s.port }
    local code, text = server.command(args)
    assert.equal(0, code, text)
    assert.matches("ok    server                process %d+ runs version %S+ and is ready", text)
    assert.matches("ok    supervisor            process " .. s.pid .. " restarts it", text)
    assert.matches("ok    listen                127.0.0.1:%d+ is served by process", text)
    code, text = server.command({ "doctor", "--listen", "127.0.0.1:" .. s.port }, { dir = dir })
    assert.equal(1, code)
    assert.matches("fail  listen                127.0.0.1:%d+ is in use by process %d+ %(moonwatch%): stop it or listen elsewhere", text)
    s:stop()
  end)

  it("fails on a schema of a newer program, and on a damaged database", function()
    local file = make_database()
    server.sqlite(file, "INSERT INTO schema_migrations VALUES (9999, 'future', 'x', 1)")
    local _, by = examine()
    check(by, "schema", "fail", "version 9999.*use the newer program")
    posix.write_file(file, ("no database "):rep(2000))
    _, by = examine()
    check(by, "database", "fail", "is damaged.*`moonwatch restore`")
  end)

  it("fails on a clock that was set back", function()
    local file = make_database()
    server.sqlite(file, "INSERT INTO nodes (node_id, name, started_us) VALUES (x'00', 'n', 5000000000000000)")
    local _, by = examine()
    check(by, "clock", "fail", "the clock of this machine was set back")
  end)

  it("warns of a folder that others can read, and fails on one that is a file", function()
    make_database()
    sh("chmod 755 " .. dir .. "/data")
    local _, by = examine()
    check(by, "data folder", "warn", "chmod 700")
    posix.write_file(dir .. "/file", "")
    _, by = examine("--data", dir .. "/file")
    check(by, "data folder", "fail", "is a file")
  end)

  it("fails on a plugin that does not load and on a wrong configuration", function()
    posix.write_file(dir .. "/plugins/bad.lua", "local mw =")
    local _, by = examine()
    check(by, "plugins", "fail", "`moonwatch check` says which")
    posix.write_file(dir .. "/moonwatch.lua", "return { plugin = 'x' }")
    _, by = examine()
    check(by, "configuration", "fail", "did you mean 'plugins'")
  end)

  it("says how long certificates are good", function()
    local certs = require("support.certs").open()
    local good, over = certs:make("good"), certs:make("over", nil, { to = "20210101000000Z" })
    local _, by = examine("--listen", "https://127.0.0.1:0", "--tls-cert", good.cert, "--tls-key", good.key)
    check(by, "certificates", "warn", "good.pem is over in %d days")
    _, by = examine("--listen", "https://127.0.0.1:0", "--tls-cert", over.cert, "--tls-key", over.key)
    check(by, "certificates", "fail", "over.pem")
    certs:close()
  end)

  it("cuts off a server that does not answer", function()
    make_database()
    local s = server.start { plugins = {}, data = dir .. "/data" }
    posix.kill(s.pid, posix.SIGSTOP)
    local _, by = examine("--data", s.data)
    posix.kill(s.pid, 18)
    check(by, "server", "fail", "process " .. s.pid .. " uses .* does not answer on its control socket")
    s:stop()
  end)

  it("asks Redis, and says when it does not answer or does not let in", function()
    local redis = require "support.redis"
    if not redis.can_start() then return pending("needs redis-server") end
    local r = redis.start { password = "s3cret-word" }
    local function ask(url)
      posix.write_file(dir .. "/moonwatch.lua", ("return { redis = %q }"):format(url))
      local _, by = examine()
      return by
    end
    check(ask("redis://:s3cret-word@" .. r.address), "redis", "ok", "answers")
    local by = ask("redis://:wrong-word@" .. r.address)
    check(by, "redis", "fail", "check")
    assert.is_nil(by.redis.text:find("wrong-word", 1, true))
    check(ask "redis://127.0.0.1:1", "redis", "fail", "refused.*check redis.url and the server")
    r:stop()
  end)

  it("asks PostgreSQL for its settings, and says when it does not answer", function()
    local url = os.getenv("MW_TEST_DATABASE_URL")
    if not url then return pending("needs PostgreSQL: set MW_TEST_DATABASE_URL") end
    local fresh = server.fresh_database(url)
    local code, by = examine("--database", fresh)
    assert.equal(0, code)
    check(by, "postgres durability", "ok", "fsync on, synchronous_commit on")
    check(by, "postgres connections", "ok", "this node opens up to %d+ of %d+")
    check(by, "clock", "ok", "from the database's")
    server.postgres(fresh, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$")
    _, by = examine("--database", fresh)
    check(by, "postgres durability", "fail", "loses what was acknowledged")
    _, by = examine("--database", "postgres://moonwatch:secret@127.0.0.1:1/x")
    check(by, "database", "fail", "PostgreSQL: .*refused")
    assert.is_nil(by.database.text:find("secret", 1, true))
  end)
end)
