-- Plugins edited, broken, mended, added and removed while requests flow.

local server = require "support.server"

local function version(n)
  return ([[
    local mw = require "mw"
    local helper = require "lib.answer"
    mw.get("/version", function(_, res) res:json { version = %d, helper = helper.value } end)
    mw.get("/slow", function(_, res) mw.sleep("300ms") res:json { version = %d } end)
  ]]):format(n, n)
end

describe("reload", function()
  local s
  before_each(function()
    s = server.start {
      plugins = { ["v.lua"] = version(1), ["lib/answer.lua"] = "return { value = 'a' }" }, args = { "--workers", "2" },
    }
  end)
  after_each(function() s:stop() end)

  it("serves an edited plugin without a restart", function()
    local pid = s:server_pid()
    assert.equal(1, s:get("/version").json().version)
    s:write("v.lua", version(2))
    s:wait(function() return s:get("/version").json().version == 2 end, 10, "version 2")
    assert.equal(pid, s:server_pid())
  end)

  it("serves an edited module that a plugin requires", function()
    s:write("lib/answer.lua", "return { value = 'b' }")
    s:wait(function() return s:get("/version").json().helper == "b" end, 10, "helper b")
  end)

  it("lets a request in flight finish on the code it began with", function()
    local results = s:concurrently {
      function() return s:get("/slow") end,
      function()
        s:write("v.lua", version(2))
        s:wait(function() return s:get("/version").json().version == 2 end, 10, "version 2")
      end,
    }
    assert.equal(1, results[1].json().version)
  end)

  it("adds and removes routes with their files", function()
    s:write("more.lua", [[require("mw").get("/more", function(_, res) res:text("more") end)]])
    s:wait(function() return s:get("/more").status == 200 end, 10, "the new route")
    s:remove("more.lua")
    s:wait(function() return s:get("/more").status == 404 end, 10, "the route to go")
  end)

  it("fails no request and drops no connection while files are edited, broken and mended under load", function()
    local load_ = s:load("/version", { connections = 8, seconds = 4 })
    for round = 2, 12 do
      if round % 3 == 0 then s:write("v.lua", "this is = not lua") else s:write("v.lua", version(round)) end
      s:pause(0.25)
    end
    s:write("v.lua", version(99))
    local outcome = load_:finish()
    assert.equal(0, outcome.failed, outcome.first_failure)
    assert.is_true(outcome.answered > 100)
    s:wait(function() return s:get("/version").json().version == 99 end, 10, "version 99")
  end)

  it("gives its memory back", function()
    if os.getenv("MW_TEST_SLOW") then return pending("a sanitizer keeps freed memory for a while") end
    local function reload_many(n)
      for _ = 1, n do assert.equal(200, s:post("/api/v1/reload", { json = {} }).status) end
    end
    reload_many(10)
    local before = s:memory()
    reload_many(40)
    s:wait(function() return s:memory() < before * 1.25 + 4e6 end, 15, "the old generations to be freed") -- by the loader, behind the builds
  end)

  it("answers POST /api/v1/reload with the new generation, and with 422 and the reason when a plugin fails", function()
    local before = s:generation()
    local answer = s:post("/api/v1/reload", { json = {} })
    assert.equal(200, answer.status)
    assert.is_true(answer.json().generation > before)
    s:write("broken.lua", "error('no')")
    answer = s:post("/api/v1/reload", { json = {} })
    assert.equal(422, answer.status)
    assert.truthy(answer.body:find("broken.lua", 1, true))
  end)

  it("leaves a row in the change log for each generation that serves", function()
    s:post("/api/v1/reload", { json = {} })
    s:wait(function()
      return server.sqlite(s.data .. "/moonwatch.db", "SELECT count(*) FROM changes WHERE kind = 'plugins.loaded'") == "2"
    end, 10, "two rows")
  end)

  it("reloads on SIGHUP", function()
    local before = s:generation()
    s:kill(1)
    s:wait(function() return s:generation() > before end, 10, "a new generation")
  end)
end)
