-- SPDX-License-Identifier: MIT

local fakes = require "support.fakes"

describe("the journal", function()
  local server, journal, fold_rows

  before_each(function()
    server = fakes.server()
    journal = require "mw.workflow.journal"
    fold_rows = require("mw.workflow.fold").rows
  end)
  after_each(function() server.close() end)

  local function fold(...)
    local rows = {}
    for i, data in ipairs { ... } do rows[i] = { number = i, data = data } end
    return assert(fold_rows(rows))
  end

  it("begins each row with its format number and holds one JSON object", function()
    local row = journal.result('"a"', 1, 10, 20, '{"n":1}', '"b"', 1)
    local format, text = row:match("^(%d+)\n(.*)$")
    assert.equal("1", format)
    assert.same({ r = { "a", 1, 10, 20 }, v = { n = 1 }, a = { "b", 1, 20 } }, (server.json.decode(text)))
  end)

  it("keeps a result byte for byte", function()
    local text = '{"z": 1.50, "a": null, "big": 123456789012345678901234567890}'
    assert.equal(text, fold(journal.result('"a"', 1, 0, 1, text)).steps.a.result)
  end)

  it("tells a result of nil from null", function()
    local state = fold(journal.result('"a"', 1, 0, 1), journal.result('"b"', 1, 1, 2, "null"))
    assert.is_true(state.steps.a.done)
    assert.is_nil(state.steps.a.result)
    assert.equal("null", state.steps.b.result)
  end)

  it("knows how often a result was thrown away, and of what", function()
    local function again(...) return fold(...).again end
    local a, b, failed = journal.result('"a"', 1, 0, 1, "1"), journal.result('"b"', 1, 1, 2, "2"), journal.failure('"c"', 1, 2, 3, -1, "{}")
    local from_a, from_c = '1\n{"R":["a",5,"me"]}', '1\n{"R":["c",5,"me"]}'
    assert.is_nil(again(a, b, failed))
    assert.is_nil(again(a, b, failed, from_c))
    assert.same({ a = 1, b = 1 }, again(a, b, failed, from_a))
    assert.same({ a = 2, b = 1 }, again(a, b, from_a, a, from_a))
    assert.same({ a = 1, b = 1 }, again(a, b, failed, '1\n{"R":["",5,"me"]}'))
  end)

  it("counts failures, interruptions and attempts apart", function()
    local state = fold(journal.failure('"a"', 1, 0, 1, 500, '{"message":"x"}'), journal.interruption('"a"', 2, 600),
      journal.failure('"a"', 3, 700, 800, 900, '{"message":"y"}'))
    local step = state.steps.a
    assert.same({ 3, 2, 1, 900 }, { step.attempts, step.failures, step.interruptions, step.due })
    assert.same({ "failed", "interrupted", "failed" }, { step.tries[1].outcome, step.tries[2].outcome, step.tries[3].outcome })
    assert.equal(3, state.number)
  end)

  it("knows the attempt that began and did not end", function()
    local state = fold(journal.result('"a"', 1, 0, 5, "1", '"b"', 1))
    assert.equal("b", state.open.name)
    assert.equal(1, state.open.open)
  end)

  it("counts interruptions of the body since it came further", function()
    local function body() return journal.interruption('""', 1, 5) end
    assert.equal(2, fold(body(), body()).interruptions)
    assert.equal(1, fold(body(), body(), journal.result('"a"', 1, 0, 5, "1"), body()).interruptions)
    assert.equal(0, fold(body(), journal.sleep("sleep", 9, 5)).interruptions)
  end)

  it("refuses rows of a format it does not know, with a sentence", function()
    for _, data in ipairs { "2\n{}", "0\n{}", "{}", "" } do
      local state, err = fold_rows { { number = 1, data = data } }
      assert.is_nil(state)
      assert.equal("version", err.code)
    end
  end)

  it("still reads what the first version wrote", function()
    local state = fold('1\n{"r":["charge",1,120,4500],"v":{"id":"ch_1"},"a":["email",1,4500]}',
      '1\n{"f":["email",1,4500,5000,205000],"x":{"code":"error","message":"no luck"}}',
      '1\n{"i":["email",2,300000]}', '1\n{"r":["email",3,310000,320000]}')
    assert.equal('{"id":"ch_1"}', state.steps.charge.result)
    assert.is_true(state.steps.email.done)
    assert.equal(3, state.steps.email.attempts)
  end)
end)
