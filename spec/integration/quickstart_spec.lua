-- SPDX-License-Identifier: MIT
-- What the README promises a new user, with the cookbook as it is.

local posix = require "support.posix"
local server = require "support.server"

describe("a new user", function()
  local s, checkout
  setup(function()
    checkout = posix.read_file("plugins/checkout.lua")
    local listener, port = posix.listen()
    posix.close(listener)
    s = server.start {
      supervised = true, plugins = { ["checkout.lua"] = checkout }, args = { "--listen", "127.0.0.1:" .. port },
      env = { APP_PAYMENTS_URL = "http://127.0.0.1:" .. port .. "/stub/payments" },
    }
  end)
  teardown(function()
    if s then s:stop() end
  end)

  local function trigger()
    local answer = s:post("/api/trigger", { json = { name = "checkout", input = { amount = 42, email = "a@b.c" } } })
    assert.equal(200, answer.status, answer.body)
    return answer.json().executionId
  end

  local function execution(id) return s:get("/api/v1/executions/" .. id).json() end

  it("kills the server in the middle of an execution and sees it finish, no finished step run again", function()
    local id = trigger()
    s:wait(function() return execution(id).steps[2].status == "completed" end, 10, "the second step")
    assert.equal("running", execution(id).status)
    local child = s:server_pid()
    s:kill_server(9)
    s:wait(function()
      local now = posix.children(s.pid)[1]
      return now and now ~= child
    end, 10, "another server")
    s:wait(function() return execution(id).status == "completed" end, 15, "completion")
    local run = execution(id)
    assert.equal(1, #run.steps[1].tries)
    assert.equal(1, #run.steps[2].tries)
    assert.equal("a@b.c", run.output.sent)
  end)

  it("edits the plugin and sees the change take effect without a restart", function()
    local pid, before = s:server_pid(), s:generation()
    s:write("checkout.lua", (checkout:gsub('mw%.sleep%("2s"%)', 'mw.log.info("edited")')))
    s:wait_generation(before + 1)
    local id = trigger()
    s:wait(function() return execution(id).status == "completed" end, 5, "completion")
    assert.truthy(s:log():find("edited", 1, true))
    assert.equal(pid, s:server_pid())
  end)

  it("writes a syntax error and sees the version before keep serving while the log says file, line and what to do", function()
    s:write("checkout.lua", checkout .. "\nlocal x = = 1\n")
    local _, lines = checkout:gsub("\n", "")
    s:wait_log("plugins/checkout.lua:" .. (lines + 2), 10)
    assert.truthy(s:log():find("mend the syntax and save", 1, true))
    local id = trigger()
    assert.is_string(id)
    s:write("checkout.lua", checkout)
    s:wait(function() return #s:get("/api/v1/plugins").json().errors == 0 end, 10, "the mended plugin")
  end)
end)
