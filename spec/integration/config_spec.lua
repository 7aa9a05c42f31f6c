-- SPDX-License-Identifier: MIT
local dkjson = require "dkjson"
local posix = require "support.posix"
local server = require "support.server"

describe("the configuration", function()
  local dir
  before_each(function() dir = posix.temp_dir() end)
  after_each(function() posix.remove_dir(dir) end)

  local function config(file, env, ...)
    if file then posix.write_file(dir .. "/moonwatch.lua", file) end
    local code, text = server.command({ "config", "--json", "--origin", ... }, { dir = dir, env = env })
    if code ~= 0 then return nil, text, code end
    return dkjson.decode(text)
  end

  it("has defaults", function()
    local conf = assert(config())
    assert.same({ value = "127.0.0.1:9400", origin = "default" }, conf.listen)
    assert.equal(120, conf["http.idle_timeout"].value)
    assert.equal(1024 * 1024, conf["http.max_body"].value)
    assert.equal("sqlite", conf.database.value)
  end)

  it("takes the file over defaults, the environment over the file, flags over the environment", function()
    local file = 'return { listen = "127.0.0.1:1", data = "file", plugins = "file" }'
    local conf = assert(config(file, { MOONWATCH_DATA = "env", MOONWATCH_PLUGINS = "env" }, "--plugins", "flag"))
    assert.same({ value = "127.0.0.1:1", origin = "moonwatch.lua" }, conf.listen)
    assert.same({ value = "env", origin = "MOONWATCH_DATA" }, conf.data)
    assert.same({ value = "flag", origin = "--plugins" }, conf.plugins)
  end)

  it("maps nested keys and reads durations, sizes, lists and booleans", function()
    local conf = assert(config([[return {
      http = { max_body = "8MB", idle_timeout = "2m", handler_timeout = 2.5 }, lua = { soft_limit = "250ms" },
      env = { "A_KEY", "B_KEY" }, supervisor = false, workers = 3,
    }]]))
    assert.equal(8 * 1024 * 1024, conf["http.max_body"].value)
    assert.equal(120, conf["http.idle_timeout"].value)
    assert.equal(2.5, conf["http.handler_timeout"].value)
    assert.equal(0.25, conf["lua.soft_limit"].value)
    assert.same({ "A_KEY", "B_KEY" }, conf.env.value)
    assert.is_false(conf.supervisor.value)
    assert.equal(3, conf.workers.value)
  end)

  it("knows the customary variables, after its own", function()
    local conf = assert(config(nil, { DATABASE_URL = "postgres://a@h/one" }))
    assert.equal("DATABASE_URL", conf.database.origin)
    conf = assert(config(nil, { DATABASE_URL = "postgres://a@h/one", MOONWATCH_DATABASE = "postgres://a@h/two" }))
    assert.equal("postgres://a@h/two", conf.database.value)
    conf = assert(config(nil, { SIDECAR_TOKEN = "t" }))
    assert.equal("SIDECAR_TOKEN", conf.token.origin)
  end)

  it("never prints a secret", function()
    posix.write_file(dir .. "/token", "file-secret\n")
    local env = { MOONWATCH_TOKEN_FILE = dir .. "/token", DATABASE_URL = "postgres://user:pass-secret@host/db?sslpassword=query-secret" }
    local conf = assert(config(nil, env))
    assert.equal("MOONWATCH_TOKEN_FILE", conf.token.origin)
    assert.equal("•••", conf.token.value)
    assert.equal("postgres://user:•••@host/db?•••", conf.database.value)
    local _, text = server.command({ "config", "--origin" }, { dir = dir, env = env })
    assert.is_nil(text:find("secret", 1, true))
  end)

  it("does not show a secret that is not valid", function()
    local _, text, code = config(nil, { DATABASE_URL = "mysql://user:pass-secret@host" })
    assert.equal(2, code)
    assert.matches("postgres://", text, 1, true)
    assert.is_nil(text:find("pass-secret", 1, true))
  end)

  it("takes a map of names from the file, whole from a variable, and one name at a time", function()
    local file = [[return { databases = { reports = "postgres://ann:pass-secret@a,b:5433/x", cache = "sqlite:cache.db" } }]]
    local conf = assert(config(file))
    assert.same({ reports = "postgres://ann:•••@a,b:5433/x", cache = "sqlite:cache.db" }, conf.databases.value)
    assert.equal("moonwatch.lua", conf.databases.origin)
    posix.write_file(dir .. "/url", "postgres://bob:pass-secret@c/y\n")
    conf = assert(config(file, { MOONWATCH_DATABASES_REPORTS = "postgres://eve:pass-secret@d/z", MOONWATCH_DATABASES_MORE_FILE = dir .. "/url" }))
    assert.same({ reports = "postgres://eve:•••@d/z", more = "postgres://bob:•••@c/y", cache = "sqlite:cache.db" }, conf.databases.value)
    assert.matches("^moonwatch.lua, MOONWATCH_DATABASES_", conf.databases.origin)
    conf = assert(config(file, { MOONWATCH_DATABASES = "one=sqlite:one.db, two=postgres://u:pass-secret@a,b/c" }))
    assert.same({ one = "sqlite:one.db", two = "postgres://u:•••@a,b/c" }, conf.databases.value)
    local _, text = server.command({ "config" }, { dir = dir })
    assert.is_nil(text:find("pass-secret", 1, true))
  end)

  it("takes redis as its URL alone, or with more", function()
    assert.equal("redis://h", assert(config([[return { redis = "redis://h" }]]))["redis.url"].value)
    local conf = assert(config([[return { redis = { url = "redis://:pass-secret@h", timeout = "2s" } }]]))
    assert.equal("redis://:•••@h", conf["redis.url"].value)
    assert.equal(2, conf["redis.timeout"].value)
    assert.equal("REDIS_URL", assert(config(nil, { REDIS_URL = "redis://h" }))["redis.url"].origin)
  end)

  local refused = {
    { "an unknown key", "return { lisen = 'x' }", "did you mean 'listen'?" },
    { "a database of an unknown kind", "return { databases = { x = 'mysql://h' } }", "databases (from moonwatch.lua): x: is postgres://user@host/name, or sqlite:FILE" },
    { "a database that is ours", "return { databases = { x = 'sqlite:moonwatch.db' } }", "moonwatch.db is one of Moonwatch's own files" },
    { "a database outside of the data folder", "return { databases = { x = 'sqlite:../x.db' } }", "is a file in the data folder" },
    { "a database with a name that is taken", "return { databases = { app = 'sqlite:x.db' } }", "this name is taken" },
    { "a database with a bad name", "return { databases = { ['X-y'] = 'sqlite:x.db' } }", "has the name 'X-y'; names are small letters" },
    { "a database that is no text", "return { databases = { x = 1 } }", "databases has names with a text each" },
    { "a map without names", "return { databases = 'sqlite:x.db' }", "is written name=value,name=value" },
    { "a value that hides another", "return { databases = { x = 'postgres://h/x?a=b,y=sqlite:y.db' } }", "has a comma that looks like the beginning of another" },
    { "a Redis URL that is none", "return { redis = 'localhost:6379' }", "redis.url (from moonwatch.lua): is written redis://" },
    { "an unknown nested key", "return { http = { max_bodi = 1 } }", "did you mean 'http.max_body'?" },
    { "an unknown group", "return { htp = { max_body = 1 } }", "there is no option 'htp'" },
    { "a value of the wrong type", "return { workers = 'many' }", "workers (from moonwatch.lua) is a whole number, not 'many'" },
    { "a value out of range", "return { workers = 1000 }", "from 0 to 64" },
    { "a bad duration", "return { drain_timeout = 'soon' }", "drain_timeout (from moonwatch.lua)" },
    { "milliseconds taken for seconds", "return { drain_timeout = 30000 }", '"30000ms" for 30.0 seconds' },
    { "a bad size", "return { http = { max_body = 'big' } }", "http.max_body (from moonwatch.lua)" },
    { "a bad log level", "return { log = { level = 'loud' } }", "is debug, info, warn or error" },
    { "a bad address", "return { listen = 'nowhere' }", "listen (from moonwatch.lua)" },
    { "a schema that is no name", "return { postgres = { schema = 'a; drop' } }", "postgres.schema" },
    { "limits in the wrong order", "return { lua = { soft_limit = '20s' } }", "lua.hard_limit" },
    { "a file that returns nothing", "local x = 1", "should return a table" },
    { "a syntax error", "return {\n  listen = = 1 }", "moonwatch.lua:2:" },
    { "a file that wants files", "return { token = io.open('/etc/passwd'):read() }", "global 'io'" },
    { "a file that runs programs", "os.execute('true') return {}", "global 'os'" },
    { "a file that never ends", "while true do end", "takes too long" },
    { "a file that eats memory", "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", "not enough memory" },
    { "bytecode", "\27LJ\2\0", "moonwatch.lua" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[1] .. " with exit code 2", function()
      local conf, text, code = config(case[2])
      assert.is_nil(conf)
      assert.equal(2, code)
      assert.truthy(text:find(case[3], 1, true), text)
    end)
  end

  it("refuses a named file that is not there", function()
    local _, text, code = config(nil, nil, "--config", "absent.lua")
    assert.equal(2, code)
    assert.matches("absent.lua: there is no such file", text, 1, true)
  end)

  it("warns of a variable that looks like a slip, and lets an orchestrator's be", function()
    local code, text = server.command({ "config" }, { dir = dir, env = { MOONWATCH_LISTN = "x", MOONWATCH_SERVICE_PORT = "80" } })
    assert.equal(0, code)
    assert.matches("MOONWATCH_LISTN", text, 1, true)
    assert.is_nil(text:find("MOONWATCH_SERVICE_PORT", 1, true))
  end)
end)

describe("docs/configuration.md", function()
  it("has the table that `moonwatch config --reference` prints", function()
    local page = assert(posix.read_file("docs/configuration.md"))
    local code, table_ = server.command({ "config", "--reference" }, { dir = "/" })
    assert.equal(0, code)
    for row in table_:gmatch("[^\n]+") do
      assert.is_truthy(page:find("\n" .. row .. "\n", 1, true), "put the rows of `moonwatch config --reference` into the page; it lacks " .. row)
    end
    local _, rows = page:gsub("\n| `[%w_%.]+` |", "")
    local _, options = table_:gsub("\n| `[%w_%.]+` |", "")
    assert.equal(options, rows)
  end)
end)

describe("the access rule at start", function()
  it("refuses to listen beyond loopback without a token and shows the command that fixes it", function()
    local dir = posix.temp_dir()
    local code, text = server.command({ "serve", "--listen", "0.0.0.0:0" }, { dir = dir })
    assert.equal(2, code)
    assert.matches("moonwatch serve --listen 0.0.0.0:0 --token", text, 1, true)
    assert.matches("--listen-app", text, 1, true)
    posix.remove_dir(dir)
  end)
end)
