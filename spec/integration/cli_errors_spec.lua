-- SPDX-License-Identifier: MIT
-- What the program says to the commonest mistakes, produced by making them. Each text ends with what to do. They stand in
-- spec/golden/errors.txt; after a change that is meant:
--
--   MW_GOLDEN=write build/dev/moonwatch test spec/integration/cli_errors_spec.lua && git diff spec/golden

local golden = require "support.golden"
local posix = require "support.posix"
local server = require "support.server"

local dirs = {}

-- A folder with these files.
local function folder(files)
  local dir = posix.temp_dir()
  dirs[#dirs + 1] = dir
  posix.make_dirs(dir .. "/plugins")
  for name, text in pairs(files or {}) do posix.write_file(dir .. "/" .. name, text) end
  return dir
end

local function plain(text, dir)
  if dir then text = text:gsub(dir:gsub("%p", "%%%0"), "DIR") end
  return (text:gsub("127%.0%.0%.1:%d+", "127.0.0.1:PORT"):gsub("process %d+", "process PID")
    :gsub("%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z", "TIME"):gsub("/tmp/[%w_.%-]+", "DIR"):gsub("\n+$", ""))
end

local function run(files, ...)
  local dir = folder(files)
  local _, text = server.command({ ... }, { dir = dir })
  return plain(text, dir)
end

local function config(text, ...)
  local args = { ... }
  if #args == 0 then args = { "config" } end
  return run({ ["moonwatch.lua"] = text }, unpack(args))
end

local function plugin(text, more)
  local files = { ["plugins/shop.lua"] = 'local mw = require "mw"\n' .. text .. "\n" }
  for name, other in pairs(more or {}) do files[name] = other end
  return run(files, "check")
end

local s, guarded

local FIELDS = { "error", "code", "detail", "hint" }

local function http(target, method, path, opts)
  local answer = target:request(method, path, opts)
  local out, body = { method .. " " .. path .. " -> " .. answer.status }, answer.json()
  for _, field in ipairs(FIELDS) do
    if body[field] then out[#out + 1] = field .. ": " .. body[field] end
  end
  return plain(table.concat(out, "\n"))
end

local JSON = { ["content-type"] = "application/json" }

local cases = {
  -- ---- the command line ----
  { "a command that is not there", function() return run(nil, "srve") end },
  { "a flag that is not there", function() return run(nil, "serve", "--lisen", "127.0.0.1:1") end },
  { "a flag without its value", function() return run(nil, "serve", "--listen") end },
  { "a missing argument", function() return run(nil, "trigger") end },
  { "an argument too many", function() return run(nil, "check", "plugins") end },
  { "something a command cannot be asked to do", function() return run(nil, "keys", "creat", "ci") end },
  { "a key without a scope", function() return run(nil, "keys", "create", "ci") end },
  { "input that is no JSON", function() return run(nil, "trigger", "checkout", "{amount: 1}") end },
  { "no server", function() return run(nil, "trigger", "checkout") end },
  { "no server at an address", function() return run(nil, "reload", "--url", "http://127.0.0.1:1") end },
  { "a workflow that is not there", function() return plain((select(2, server.command { "trigger", "chekout", "--data", s.data }))) end },
  { "a wrong token", function()
    return plain((select(2, server.command { "reload", "--url", "http://127.0.0.1:" .. guarded.port, "--token", "wrong" })))
  end },
  { "a scope that is not there", function()
    return plain((select(2, server.command { "keys", "create", "ci", "--scope", "execution:read", "--data", s.data })))
  end },
  -- ---- configuration and start ----
  { "an unknown option", function() return config 'return { lisen = "127.0.0.1:9400" }' end },
  { "a value of the wrong kind", function() return config 'return { workers = "many" }' end },
  { "a value out of range", function() return config "return { workers = 100 }" end },
  { "a duration that is none", function() return config 'return { drain_timeout = "10 parsecs" }' end },
  { "milliseconds where seconds belong", function() return config "return { drain_timeout = 20000 }" end },
  { "a size that is none", function() return config 'return { http = { max_body = "8XB" } }' end },
  { "a configuration file with a slip", function() return config "return { listen = }" end },
  { "a configuration file that is not there", function() return run(nil, "config", "--config", "production.lua") end },
  { "an address that is none", function() return run(nil, "serve", "--listen", "localhost9400") end },
  { "listening to the world without a token", function() return run(nil, "serve", "--listen", "0.0.0.0:9400") end },
  { "a port that is taken", function() return run(nil, "serve", "--listen", "127.0.0.1:" .. s.port) end },
  { "a data folder that another server uses", function()
    return plain(config('return { drain_timeout = "1s" }', "serve", "--no-supervisor", "--listen", "127.0.0.1:0", "--data", s.data))
  end },
  { "a database address that is none", function() return run(nil, "migrate", "status", "--database", "mysql://localhost/x") end },
  { "no plugins folder", function() return run(nil, "check", "--plugins", "plugin") end },
  -- ---- plugins ----
  { "a plugin with a slip in its syntax", function() return plugin 'mw.get("/a", function(req, res) res:text("a" end)' end },
  { "an effect while a plugin loads", function() return plugin 'local rates = mw.query("SELECT 1")' end },
  { "a global that is not there", function() return plugin "local price = prise * 2" end },
  { "a function that mw has not", function() return plugin 'mw.querry("SELECT 1")' end },
  { "an unknown option of a route", function() return plugin 'mw.post("/a", { bdy = "1MB" }, function() end)' end },
  { "a step without a function", function() return plugin 'mw.workflow("checkout", { { name = "charge" } })' end },
  { "a path that belongs to Moonwatch", function() return plugin 'mw.get("/api/users", function() end)' end },
  { "a route in two plugins", function()
    return plugin('mw.get("/a", function() end)', { ["plugins/zoo.lua"] = 'require("mw").get("/a", function() end)\n' })
  end },
  { "a module that is not there", function() return plugin 'local money = require "lib.money"' end },
  -- ---- requests ----
  { "a body that is no JSON", function() return http(s, "POST", "/api/v1/executions", { headers = JSON, body = '{"workflow": checkout}' }) end },
  { "a body that is no JSON, for the sidecar", function() return http(s, "POST", "/api/trigger", { headers = JSON, body = "{" }) end },
  { "a field that is unknown", function() return http(s, "POST", "/api/v1/executions", { json = { workflow = "checkout", inputs = {} } }) end },
  { "a content type that forms send", function()
    return http(s, "POST", "/api/trigger", { headers = { ["content-type"] = "text/plain" }, body = "{}" })
  end },
  { "a body that is too large", function() return http(s, "POST", "/plain", { body = ("x"):rep(3000000) }) end },
  { "no token", function() return http(guarded, "GET", "/api/v1/executions") end },
  { "a mistyped key", function() return http(guarded, "GET", "/api/v1/executions", { headers = { authorization = "Bearer mw_sk_4fQx" } }) end },
  { "a foreign host", function() return http(s, "GET", "/api/v1/executions", { headers = { host = "moonwatch.example" } }) end },
  { "a status that is not there", function() return http(s, "GET", "/api/v1/executions?status=done") end },
  { "SQL with a slip", function() return http(s, "GET", "/sql") end },
  { "a handler that answers nothing", function() return http(s, "GET", "/silent") end },
  { "a duration of milliseconds in a plugin", function() return http(s, "GET", "/slow") end },
}

describe("what is said to a mistake", function()
  setup(function()
    s = server.start { config = 'return { env = {} }', plugins = { ["app.lua"] = [[
local mw = require "mw"
mw.workflow("checkout", { { name = "charge", run = function() end } })
mw.post("/plain", function(req, res) res:text(#req.body) end)
mw.get("/sql", function(req, res) mw.query("SELECT id FORM users") end)
mw.get("/silent", function() end)
mw.get("/slow", function() mw.fetch("http://127.0.0.1:1/", { timeout = 5000 }) end)
]] } }
    guarded = server.start { args = { "--token", "the real one" } }
  end)
  teardown(function()
    s:stop()
    guarded:stop()
    for _, dir in ipairs(dirs) do posix.remove_dir(dir) end
  end)

  it("stands in spec/golden/errors.txt", function()
    local out = { "What the program says to mistakes; written by spec/integration/cli_errors_spec.lua.\n" }
    for _, case in ipairs(cases) do
      out[#out + 1] = "## " .. case[1] .. "\n"
      out[#out + 1] = case[2]() .. "\n"
    end
    golden.check("spec/golden/errors.txt", table.concat(out, "\n"))
  end)
end)
