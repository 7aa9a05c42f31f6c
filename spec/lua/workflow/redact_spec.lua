-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"
local json = require "mw.core.json"

describe("what a workflow redacts", function()
  local server, seen

  before_each(function()
    server, seen = fakes.server(), {}
    server.store.on_query = function(_, sql) return sql:find("server_keys", 1, true) and { { secret = ("k"):rep(64) } } or {} end
  end)
  after_each(function() server.close() end)

  local paths = { "input.card.number", "results.charge.token", "results.list.*.secret", "output.iban" }

  local function declare(definition)
    local function plugin(workflow) workflow("w", definition, { redact = paths }) end
    server.plugin(plugin)
    server.boot()
    return plugin
  end

  local function body(ctx, input)
    seen.number = input.card.number
    local charge = ctx:step("charge", function(s)
      seen.in_step = s.input.card.number
      return { token = "tok_1", id = 7 }
    end)
    seen.token = charge.token
    ctx:step("list", function() return { { secret = "s1!", name = "a" }, { secret = "s2!", name = "b" } } end)
    ctx:sleep("1h")
    seen.later = ctx.results.list[2].secret
    return { iban = "DE02!", id = charge.id }
  end

  -- Everything that is "on disk" of a run.
  local function stored(run)
    local row, all = server.row(run), {}
    for _, entry in ipairs(server.store.journals[run.id]) do all[#all + 1] = entry.data end
    return table.concat(all, "\n") .. row.input .. (row.output or "")
  end

  it("is nowhere in what is stored, and comes to the code as it was, also after a restart", function()
    local plugin = declare(body)
    local run = server.trigger("w", { card = { number = "41-11", name = "Ada" } })
    server.task.run(5)
    server.restart(plugin)
    server.store.on_query = function(_, sql) return sql:find("server_keys", 1, true) and { { secret = ("k"):rep(64) } } or {} end
    server.task.run(3700)
    assert.equal(8, server.row(run).status)
    for _, secret in ipairs { "41-11", "tok_1", "s1!", "s2!", "DE02!" } do
      assert.is_nil(stored(run):find(secret, 1, true), secret)
    end
    for _, plain in ipairs { "Ada", '"a"', '"id":7' } do assert.is_truthy(stored(run):find(plain, 1, true), plain) end
    assert.same({ number = "41-11", in_step = "41-11", token = "tok_1", later = "s2!" }, seen)
  end)

  it("is shown as dots", function()
    declare { { name = "charge", run = function(ctx) return { token = "tok_1", n = ctx.input.n, none = ctx.input.none } end } }
    local run = server.trigger("w", { card = { number = "41-11" }, n = 5 })
    server.task.run(5)
    local show = require("mw.api.steps").payload
    assert.equal('{"card":{"number":"•••"},"n":5}', tostring(show(server.row(run).input)))
    assert.same({ n = 5, token = "•••" }, json.decode(tostring(show(server.row(run).output))))
  end)

  it("leaves other shapes alone, and is not sealed twice", function()
    declare { { name = "charge", run = function() return "plain" end } }
    local run = server.trigger("w", { card = "none" })
    server.task.run(5)
    assert.equal('"plain"', server.row(run).output)
    local first = server.trigger("w", { card = { number = 1 } })
    local again = server.trigger("w", json.decode(server.row(first).input))
    assert.equal(server.row(first).input, server.row(again).input)
  end)

  it("fails a step that asks for what another server sealed", function()
    declare { { name = "charge", retries = 0, run = function(ctx) return ctx.input.card.number end } }
    local run = server.trigger("w", { card = { number = { ["$sealed"] = "AAAA" } } })
    server.task.run(5)
    assert.equal(9, server.row(run).status)
    assert.match("sealed by another server", server.row(run).error)
  end)

  it("is refused with what is wrong with a path", function()
    for _, path in ipairs { "card", "input..x", "results", 7 } do
      local ok, err = pcall(server.plugin, function(workflow) workflow("v", function() end, { redact = { path } }) end)
      assert.is_false(ok)
      assert.match("redact", err.message)
    end
  end)
end)
