-- SPDX-License-Identifier: MIT

local http = require "support.http"
local posix = require "support.posix"
local server = require "support.server"

local plugins = { ["p.lua"] = [[
  local mw = require "mw"
  mw.get("/mine", function(req, res) res:text("mine for " .. req.ip) end)
  mw.get("/*all", function(_, res) res:text("all") end)
]] }

local function status(s, listener, path) return s:get(path, { port = s.ports[listener] }).status end

describe("split listeners", function()
  local s
  setup(function()
    s = server.start {
      plugins = plugins,
      args = { "--listen-api", "127.0.0.1:0", "--listen-ops", "http://127.0.0.1:0/", "--workers", "2" },
    }
  end)
  teardown(function() s:stop() end)

  it("answer the API on its own listener and there only", function()
    assert.equal(200, status(s, "api", "/api/v1/workflows"))
    assert.equal(200, status(s, "api", "/api/health"))
    assert.equal(200, status(s, "api", "/api/v1/openapi.json"))
    for _, listener in ipairs { "main", "ops" } do
      assert.equal(404, status(s, listener, "/api/v1/workflows"), listener)
      assert.equal(404, status(s, listener, "/api/health"), listener)
      assert.equal(404, s:post("/api/trigger", { port = s.ports[listener], json = { name = "x" } }).status, listener)
    end
  end)
  it("answer /ops on its own listener and there only", function()
    assert.equal(401, status(s, "ops", "/ops"))
    assert.equal(404, status(s, "main", "/ops"))
    assert.equal(404, status(s, "api", "/ops"))
  end)
  it("answer the probes everywhere", function()
    for _, listener in ipairs { "main", "api", "ops" } do
      assert.equal(200, status(s, listener, "/livez"), listener)
      assert.equal(200, status(s, listener, "/readyz"), listener)
    end
  end)
  it("leave plugin routes to the main listener and answer 404 for every other path", function()
    assert.equal("mine for 127.0.0.1", s:get("/mine").body)
    assert.equal("all", s:get("/nothing/of/that/name").body)
    for _, listener in ipairs { "api", "ops" } do
      assert.equal(404, status(s, listener, "/mine"), listener)
      assert.equal(404, status(s, listener, "/"), listener)
    end
  end)
  it("keep the paths that were split off from the plugins' patterns", function()
    assert.equal(404, status(s, "main", "/api/other"))
  end)
  it("leave the control socket with everything", function()
    assert.equal(200, s:control("GET", "/api/v1/workflows").status)
    assert.equal(200, s:control("GET", "/ops").status)
  end)
  it("survive a server that died, each with its routes", function()
    local t = server.start { plugins = plugins, supervised = true, args = { "--listen-api", "127.0.0.1:0", "--listen-app", "127.0.0.1:0" } }
    local pid = t:server_pid()
    t:kill_server()
    t:wait(function() return not posix.is_alive(pid) end, 5, "the kill")
    t:wait(function()
      local answer = http.try_request("127.0.0.1", t.ports.api, "GET", "/api/v1/workflows", { timeout = 2 })
      return answer and answer.status == 200
    end, 10, "the API")
    assert.equal(200, status(t, "app", "/mine"))
    assert.equal("all", t:get("/api/v1/workflows", { port = t.ports.app }).body)
    assert.equal(404, status(t, "main", "/mine"))
    t:stop()
  end)
end)

describe("a Unix socket that listens", function()
  it("has peers that count as local, and the mode that is configured", function()
    local dir = posix.temp_dir()
    local path = dir .. "/api.sock"
    local s = server.start {
      plugins = plugins, args = { "--listen-api", "unix:" .. path, "--workers", "2" }, env = { MOONWATCH_LISTEN_MODE = "0660" },
    }
    assert.equal("unix:" .. path, s.addresses.api)
    assert.equal(200, http.request(path, nil, "GET", "/api/v1/workflows").status)
    local pipe = io.popen("stat -c %a " .. path)
    local mode = pipe:read("*l")
    pipe:close()
    assert.equal("660", mode)
    s:stop()
    posix.remove_dir(dir)
  end)
end)

describe("a server that listens on a Unix socket alone", function()
  it("serves plugin routes and the API there", function()
    local dir = posix.temp_dir()
    posix.make_dirs(dir .. "/plugins")
    posix.write_file(dir .. "/plugins/p.lua", plugins["p.lua"])
    local pid = posix.spawn("/proc/self/exe", { argv = { "moonwatch", "serve", "--listen", "unix:main.sock" }, dir = dir, output = dir .. "/log",
      env = posix.environment() })
    posix.wait_until(function()
      local answer = http.try_request(dir .. "/main.sock", nil, "GET", "/readyz", { timeout = 2 })
      return answer and answer.status == 200
    end, 30, "the server")
    assert.equal("mine for unix", http.request(dir .. "/main.sock", nil, "GET", "/mine").body)
    assert.equal(200, http.request(dir .. "/main.sock", nil, "GET", "/api/v1/workflows").status)
    -- Another one does not take the socket away.
    local code, text = server.command({ "serve", "--listen", "unix:main.sock", "--data", "other" }, { dir = dir })
    assert.equal(1, code)
    assert.matches("unix:main.sock is in use", text, 1, true)
    assert.equal("mine for unix", http.request(dir .. "/main.sock", nil, "GET", "/mine").body)
    posix.kill(pid, posix.SIGTERM)
    assert.equal(0, posix.wait_exit(pid, 30))
    posix.remove_dir(dir)
  end)
end)

describe("an address to listen on", function()
  local function refused(args, env)
    local dir = posix.temp_dir()
    local argv = { "serve", "--no-supervisor" }
    for _, arg in ipairs(args) do argv[#argv + 1] = arg end
    local code, text = server.command(argv, { dir = dir, env = env })
    posix.remove_dir(dir)
    return code, text
  end

  it("is refused beyond loopback without a token on every listener but the one for plugin routes", function()
    for _, name in ipairs { "listen", "listen-api", "listen-ops" } do
      local code, text = refused { "--" .. name, "0.0.0.0:0" }
      assert.equal(2, code, name)
      assert.matches("moonwatch serve --" .. name .. " 0.0.0.0:0 --token", text, 1, true)
    end
    local code = refused { "--listen", "127.0.0.1:0", "--listen-app", "0.0.0.0:0", "--listen-ops", "[::]:0" }
    assert.equal(2, code)
    local s = server.start { args = { "--listen-app", "0.0.0.0:0" } }
    assert.equal(200, status(s, "app", "/livez"))
    s:stop()
  end)
  it("names the option and where it came from when it is none", function()
    local code, text = refused({}, { MOONWATCH_LISTEN_OPS = "ops.example:80" })
    assert.equal(2, code)
    assert.matches("listen_ops (from MOONWATCH_LISTEN_OPS)", text, 1, true)
    code, text = refused({}, { MOONWATCH_LISTEN_MODE = "rw" })
    assert.equal(2, code)
    assert.matches("listen_mode (from MOONWATCH_LISTEN_MODE) is a mode in octal, such as 0660, not 'rw'", text, 1, true)
  end)
end)
