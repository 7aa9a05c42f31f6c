-- SPDX-License-Identifier: MIT

-- The example plugins of plugins/, on a real server, without a network.

local server = require "support.server"
local posix = require "support.posix"

local function cookbook()
  local plugins = {}
  for _, name in ipairs { "hello.lua", "checkout.lua", "onboarding.lua", "order_saga.lua", "approval.lua", "fan_out.lua", "drip_campaign.lua" } do
    plugins[name] = assert(posix.read_file("plugins/" .. name), "run the specs from the repository's folder")
  end
  return plugins
end

describe("the cookbook", function()
  local s

  setup(function()
    s = server.start { plugins = cookbook() }
    s:kill_all()
    local port = tostring(s.port)
    s:restart { args = { "--listen", "127.0.0.1:" .. port }, env = { APP_PAYMENTS_URL = "http://127.0.0.1:" .. port .. "/stub/payments" } }
  end)
  teardown(function() s:stop() end)

  local function finished(id)
    return s:wait(function()
      local execution = s:get("/api/v1/executions/" .. id).json()
      return execution.finished_at and execution
    end, 10, "the execution to finish")
  end

  it("greets", function()
    assert.equal("Ada", s:get("/hello?name=Ada").json().hello)
  end)

  it("checks out: one charge, one order, one receipt", function()
    local id = s:post("/api/trigger", { json = { name = "checkout", input = { amount = 42, email = "a@b.c" } } }).json().executionId
    local execution = finished(id)
    assert.equal("completed", execution.status)
    assert.equal("a@b.c", execution.output.sent)
    assert.matches("^ch_%x+$", execution.output.charge)
    assert.equal(3, #execution.steps)
  end)

  it("starts an order number only once", function()
    local function order() return s:post("/checkout", { json = { amount = 1, number = "o-1", email = "x@y.z" } }) end
    local first, second = order(), order()
    assert.equal(202, first.status)
    assert.is_true(first.json().created)
    assert.is_false(second.json().created)
    assert.equal(first.json().executionId, second.json().executionId)
  end)

  it("fails an amount that cannot be paid, and says why", function()
    local id = s:post("/api/trigger", { json = { name = "checkout", input = { amount = -1 } } }).json().executionId
    local execution = finished(id)
    assert.equal("failed", execution.status)
    assert.equal("http_status", execution.error.code)
    assert.equal(422, execution.error.status)
    assert.equal(1, execution.steps[1].attempts)
  end)

  it("onboards, and leaves out the list that takes nobody", function()
    local input = { email = "ada@example.com", lists = { "news", "closed", "tips" } }
    local id = s:post("/api/v1/executions", { json = { workflow = "onboarding", input = input } }).json().id
    local execution = finished(id)
    assert.equal("completed", execution.status)
    assert.same({ "news", "tips" }, execution.output.lists)
    assert.equal("failed", execution.steps[3].status)
    assert.equal("subscribe#2", execution.steps[3].name)
  end)

  local function start(workflow, input) return s:post("/api/v1/executions", { json = { workflow = workflow, input = input } }).json().id end

  it("takes an order back that cannot be packed", function()
    local execution = finished(start("order_saga", { item = "gone", amount = 3 }))
    assert.equal("failed", execution.status)
    assert.equal("out_of_stock", execution.error.code)
    s:wait_log("refunded", 5)
  end)

  it("pays what was approved by a signal", function()
    local id = start("approval", { who = "eva", amount = 3 })
    s:wait(function() return s:get("/api/v1/executions/" .. id).json().status == "waiting" end, 10, "it to wait")
    s:post("/api/v1/executions/" .. id .. "/signals/decision", { json = { approved = true, by = "max" } })
    assert.same({ paid = true, by = "max" }, finished(id).output)
  end)

  it("fans out", function()
    assert.same({ "broken.png" }, finished(start("fan_out", { images = { "a.png", "broken.png", "c.png" } })).output.failed)
  end)

  it("ends a campaign when its reader says so", function()
    local id = start("drip_campaign", { email = "ada@example.com" })
    s:post("/api/v1/executions/" .. id .. "/signals/unsubscribe", { json = {} })
    assert.is_true(finished(id).output.unsubscribed)
  end)
end)
