-- SPDX-License-Identifier: MIT
-- `moonwatch runs` against a real server: signal, cancel, pause, resume, retry, rerun; by ids and by a filter.

local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("asks", function(ctx) return ctx:wait_for("go.ahead") end)
  mw.workflow("slow", { { name = "one", retries = 5, backoff = { initial = "1h", max = "1h" }, run = function() error("not yet") end } })
  mw.workflow("fails", { { name = "one", retries = 0, run = function(ctx) if not ctx.input then error("no input") end return ctx.input end } })
]==]

describe("moonwatch runs", function()
  local s
  setup(function() s = server.start { plugins = { ["p.lua"] = plugin } } end)
  teardown(function() s:stop() end)

  local function command(what, ...)
    local code, text = server.command({ "runs", what, "--data", s.data, ... }, { dir = s.dir })
    return text, code
  end
  local function get(id) return s:execution(id) end
  local function reach(id, wanted) return s:reach(id, wanted) end
  local function start(workflow, wanted) return reach(s:post("/api/v1/executions", { json = { workflow = workflow } }).json().id, wanted) end

  it("sends a signal with data", function()
    local id = start("asks", "waiting")
    local text, code = command("signal", id, "go.ahead", '{"by":"eve"}')
    assert.equal(id .. " has the signal go.ahead\n", text)
    assert.equal(0, code)
    reach(id, "completed")
    assert.same({ by = "eve" }, get(id).output)
    text, code = command("signal", id, "go.ahead")
    assert.equal(1, code)
    assert.matches("has ended", text)
    text, code = command("signal", id, "x", "{by}")
    assert.equal(2, code)
    assert.matches("the data is not JSON", text)
  end)

  it("pauses, resumes, retries and cancels one", function()
    local id = start("slow", "sleeping")
    assert.equal(id .. " is paused\n", (command("pause", id)))
    assert.matches(id .. " is ", (command("resume", id)), 1, true)
    reach(id, "sleeping")
    assert.matches(id .. " is queued", (command("retry", id)), 1, true)
    reach(id, "sleeping")
    assert.equal(id .. " is cancelled\n", (command("cancel", id, "--reason", "a test")))
    assert.equal("cancelled by socket: a test", get(id).error.message)
    assert.matches('"changed":false', (command("cancel", id, "--json")), 1, true)
    local text, code = command("pause", id)
    assert.equal(1, code)
    assert.matches("nothing to pause", text)
  end)

  it("runs one again, with other input, and prints the new id", function()
    local id = start("fails", "failed")
    local made = command("rerun", id, "--input", '{"ok":true}'):match("^(%x+%-%S+)\n$")
    reach(made, "completed")
    made = command("rerun", id):match("^(%x+%-%S+)\n$")
    reach(made, "failed")
    command("cancel", made)
  end)

  it("acts on several, and says what it passed by", function()
    local a, b = start("slow", "sleeping"), start("fails", "failed")
    local text, code = command("cancel", a, b)
    assert.equal(1, code)
    assert.matches("1 cancelled, 0 as they were, 1 passed by, 0 failed", text, 1, true)
    assert.matches(b .. " is failed, so it cannot be cancelled", text, 1, true)
  end)

  it("shows what a filter finds before it does anything", function()
    local a, b = start("slow", "sleeping"), start("slow", "sleeping")
    local text, code = command("cancel", "--where", "workflow=slow", "--where", "status=sleeping")
    assert.equal(0, code)
    assert.matches("2 executions", text, 1, true)
    assert.matches("Nothing was done. Add --yes to cancel them.", text, 1, true)
    assert.matches(a .. "  sleeping   slow", text, 1, true)
    assert.equal("sleeping", get(a).status)
    text, code = command("cancel", "--where", "workflow=slow", "--where", "status=sleeping", "--yes")
    assert.equal(0, code)
    assert.matches("2 cancelled", text, 1, true)
    assert.equal("cancelled", get(b).status)
    assert.matches("0 executions", (command("cancel", "--where", "status=sleeping", "--yes")), 1, true)
  end)

  it("takes ids from standard input", function()
    local a, b = start("slow", "sleeping"), start("slow", "sleeping")
    local list = s.dir .. "/ids"
    require("support.posix").write_file(list, a .. "\n\n  " .. b .. "  and more\n")
    local pipe = io.popen(("exec %s runs cancel --data '%s' - < '%s' 2>&1"):format("/proc/" .. require("ffi").C.getpid() .. "/exe", s.data, list))
    assert.matches("2 cancelled", pipe:read("*a"), 1, true)
    pipe:close()
  end)

  it("refuses what makes no sense, and says what would", function()
    for _, case in ipairs {
      { "say which runs", "cancel" }, { "say which runs", "cancel", "01900000-0000-7000-8000-000000000000", "--where", "status=failed" },
      { "is no id of an execution", "cancel", "../x" }, { "write KEY=VALUE", "cancel", "--where", "status" },
      { "--undo belongs to `runs cancel`", "pause", "01900000-0000-7000-8000-000000000000", "--undo" },
      { "the input is not JSON", "rerun", "01900000-0000-7000-8000-000000000000", "--input", "{" },
    } do
      local text, code = command(unpack(case, 2))
      assert.equal(2, code, text)
      assert.matches(case[1], text, 1, true)
    end
    local text, code = command("cancel", "--where", "stauts=failed")
    assert.equal(1, code)
    assert.matches('did you mean "status"', text, 1, true)
    text, code = command("pause", "01900000-0000-7000-8000-000000000000")
    assert.equal(1, code)
    assert.matches("there is no execution", text, 1, true)
  end)
end)
