-- SPDX-License-Identifier: MIT
-- What holds of every command there is, whoever adds one: it walks the program's own table (`moonwatch help --json`).

local dkjson = require "dkjson"
local golden = require "support.golden"
local posix = require "support.posix"
local server = require "support.server"

local function stdout_of(args, dir)
  local file, argv = os.tmpname(), { "sh", "-c", 'out=$1; shift; exec "$0" "$@" >"$out"', "/proc/self/exe" }
  argv[4] = io.popen("readlink /proc/" .. require("ffi").C.getpid() .. "/exe"):read "*l"
  argv[5] = file
  for _, arg in ipairs(args) do argv[#argv + 1] = arg end
  local pid = posix.spawn("/bin/sh", { argv = argv, env = posix.environment(), dir = dir or "/tmp", output = "/dev/null" })
  local code = posix.wait_exit(pid, 20)
  local text = posix.read_file(file)
  os.remove(file)
  return code, text
end

local function commands() return dkjson.decode((select(2, stdout_of { "help", "--json" }))).commands end

local RAW = { test = true } -- passes its flags on to busted

describe("every command", function()
  local list = commands()

  it("takes --json and --help", function()
    for _, command in ipairs(list) do
      local has = {}
      for _, flag in ipairs(command.flags) do has[flag.name] = true end
      assert.is_true(RAW[command.name] or (has.json and has.help), command.name .. " needs a flag --json with a stable shape on stdout")
    end
  end)

  -- case: the command, and members that its JSON has for good.
  local function has_members(case, dir, ...)
    local words = {}
    for word in case[1]:gmatch("%S+") do words[#words + 1] = word end
    for _, word in ipairs { "--json", ... } do words[#words + 1] = word end
    local code, text = stdout_of(words, dir)
    local value, _, err = dkjson.decode(text)
    assert.equal(0, code, case[1])
    assert.is_nil(err, case[1] .. ": " .. text)
    for name in (case[2] or ""):gmatch("%S+") do assert.is_not_nil(value[name], "`" .. case[1] .. " --json` has no member " .. name .. ": " .. text) end
  end

  it("prints JSON and nothing else with it", function()
    local dir = posix.temp_dir()
    for _, case in ipairs {
      { "init", "files" }, { "new route r", "wrote" }, { "check", "plugins errors generation" }, { "config", "listen" }, { "config --origin", "listen" },
      { "types", "types luarc luarc_written" }, { "version", "version" }, { "version --licenses", "version libraries" }, { "help", "commands" },
      { "help serve", "commands" }, { "completion bash", "shell script" }, { "migrate up", "applied" }, { "migrate status" }, { "migrate down", "undone" },
      { "test", "successes" },
    } do has_members(case, dir) end
    posix.remove_dir(dir)
  end)

  it("prints JSON when it talks to a server", function()
    local s = server.start { plugins = { ["p.lua"] = 'require("mw").workflow("w", { { name = "a", run = function() end } })' } }
    for _, case in ipairs {
      { "reload", "generation plugins ok" }, { "trigger w", "executionId" }, { "keys create k --scope trigger", "key id name prefix scopes" },
      { "keys list", "items total" }, { "keys revoke k", "id name revoked_at" }, { "login", "url path expires_at" }, { "logout", "ended" },
    } do has_members(case, "/tmp", "--data", s.data) end
    s:stop()
  end)

  -- A slip in the middle of a word.
  local function slip(word) return word:sub(1, #word - 2) .. word:sub(-1) .. word:sub(-2, -2) end

  it("is found when it is misspelt, and so are what it can be asked to do and its flags", function()
    for _, command in ipairs(list) do
      local code, text = server.command { slip(command.name) .. "x" }
      assert.equal(2, code)
      if #command.name > 3 then assert.matches("did you mean '", text, 1, true) end
      for _, sub in ipairs(command.subcommands) do
        code, text = server.command { command.name, sub.name .. "x" }
        assert.equal(2, code)
        assert.matches(#sub.name > 2 and "did you mean '" or "there is no", text, 1, true)
      end
      local flag = command.flags[1]
      if flag and #flag.name > 3 then
        code, text = server.command { command.name, "--" .. slip(flag.name) }
        assert.equal(2, code)
        assert.matches("did you mean --", text, 1, true)
      end
    end
  end)
end)

describe("docs/cli.md", function()
  local function cell(text) return (text or ""):gsub("|", "\\|") end

  -- Flags of the configuration are one table for all commands that take them.
  local function reference()
    local list, common = commands(), {}
    for _, command in ipairs(list) do
      if command.name == "serve" then
        for _, flag in ipairs(command.flags) do common[flag.name] = flag.name ~= "json" and flag.name ~= "no-supervisor" and flag or nil end
      end
    end
    local out = {
      "# Command line", "", "Written by `MW_GOLDEN=write moonwatch test spec/integration/cli_commands_spec.lua`; do not edit.", "",
      "Data goes to stdout, messages to stderr. With `--json` stdout is JSON and nothing else; its members stay, new ones may come. Exit codes: 0",
      "done, 1 failed, 2 wrong usage or configuration, 3 no server answered. A flag's value follows it or an equals sign; `--` ends flags.", "",
      "Commands about a running server use `DATA/moonwatch.sock`, or the address that `--url` or `MOONWATCH_URL` names, with `MOONWATCH_TOKEN`.", "",
    }
    local function add(...) for _, line in ipairs { ... } do out[#out + 1] = line end end
    for _, command in ipairs(list) do
      add("## moonwatch " .. command.name .. (command.args and " " .. command.args or ""), "", command.summary .. ".", "")
      if #command.subcommands > 0 then add("| | |", "|---|---|") end
      for _, sub in ipairs(command.subcommands) do
        add(("| `%s%s` | %s |"):format(sub.name, sub.args and " " .. cell(sub.args) or "", cell(sub.summary)))
      end
      if #command.subcommands > 0 then add "" end
      local own, takes_config = {}, false
      for _, flag in ipairs(command.flags) do
        if flag.name == "config" then takes_config = true end
        if not common[flag.name] then own[#own + 1] = flag end
      end
      if #own > 0 then add("| flag | |", "|---|---|") end
      for _, flag in ipairs(own) do add(("| `--%s%s` | %s |"):format(flag.name, flag.value and " " .. cell(flag.value) or "", cell(flag.summary))) end
      if #own > 0 then add "" end
      if takes_config then add("It takes the [flags of the configuration](#flags-of-the-configuration) too.", "") end
      if RAW[command.name] then add("Its flags are busted's; `--json` is `-o json`. See `moonwatch help " .. command.name .. "`.", "") end
    end
    add("## Flags of the configuration", "", "| flag | |", "|---|---|")
    for _, command in ipairs(list) do
      for _, flag in ipairs(command.name == "serve" and command.flags or {}) do
        if common[flag.name] then add(("| `--%s%s` | %s |"):format(flag.name, flag.value and " " .. cell(flag.value) or "", cell(flag.summary))) end
      end
    end
    return table.concat(out, "\n") .. "\n"
  end

  it("has every command and flag as the program has them", function() golden.check("docs/cli.md", reference()) end)
end)

describe("moonwatch version --licenses", function()
  it("names every library that is linked in", function()
    local exe = io.popen("readlink /proc/" .. require("ffi").C.getpid() .. "/exe"):read "*l"
    local names = {
      ["luajit-5.1"] = "LuaJIT", uv = "libuv", ssl = "OpenSSL", crypto = "OpenSSL", sqlite3 = "SQLite", pq = "libpq", z = "zlib", c = "glibc", m = "glibc",
      hiredis = "hiredis", gcc_s = "glibc", asan = "glibc", ubsan = "glibc", tsan = "glibc", dl = "glibc", stdc = "glibc",
    }
    local text = select(2, stdout_of { "version", "--licenses" })
    local pipe = io.popen("readelf -d " .. exe .. " 2>/dev/null")
    local count = 0
    for library in pipe:read("*a"):gmatch("NEEDED%)%s+Shared library: %[lib([^%]]-)%.so") do
      count = count + 1
      local name = names[library] or library
      assert.truthy(text:find(name, 1, true), "lib" .. library .. " is linked in: add it to core/app/licenses.c")
    end
    pipe:close()
    if count == 0 then return pending "needs readelf" end
    assert.truthy(text:find("llhttp", 1, true))
    for package in text:gmatch("/usr/share/doc/([%w.%-]+)/copyright") do
      assert.is_string(posix.read_file("/usr/share/doc/" .. package .. "/copyright"), package)
    end
  end)
end)
