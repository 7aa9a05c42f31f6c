-- SPDX-License-Identifier: MIT
local validate = require "mw.validate"

local function failure(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal("invalid", err.code)
  return err.message
end

describe("validate.arg", function()
  it("passes what has one of the types", function()
    assert.equal("x", validate.arg("f", 1, "name", "x", "string"))
    assert.equal(2, validate.arg("f", 1, "count", 2, "integer"))
    assert.equal("5s", validate.arg("f", 1, "time", "5s", "string|number"))
    assert.is_nil(validate.arg("f", 1, "value", nil, "any"))
    assert.equal(print, validate.arg("f", 1, "fn", print, "callable"))
  end)

  it("names the argument, what was expected and what came", function()
    assert.equal("mw.sleep: argument 1 (duration) must be string or number, got nothing", failure(validate.arg, "mw.sleep", 1, "duration", nil, "string|number"))
    assert.equal('f: argument 2 (n) must be integer, got the string "x"', failure(validate.arg, "f", 2, "n", "x", "integer"))
    assert.equal("f: argument 2 (n) must be integer, got 1.5", failure(validate.arg, "f", 2, "n", 1.5, "integer"))
    assert.equal("f: argument 1 (fn) must be function, got a table", failure(validate.arg, "f", 1, "fn", {}, "function"))
    assert.equal("f: argument 1 (fn) must be function, got true", failure(validate.arg, "f", 1, "fn", true, "function"))
  end)
end)

describe("validate.options", function()
  local known = { method = "string", timeout = "duration", retries = "integer", json = "any" }

  it("passes known options and makes a table of none", function()
    local opts = { method = "POST", timeout = "5s", json = false }
    assert.equal(opts, validate.options("mw.fetch", opts, known))
    assert.same({}, validate.options("mw.fetch", nil, known))
  end)

  it("names an unknown option and the nearest known one", function()
    assert.truthy(failure(validate.options, "mw.fetch", { timout = 5 }, known):find('did you mean "timeout"?', 1, true))
    assert.truthy(failure(validate.options, "mw.fetch", { retrys = 5 }, known):find('did you mean "retries"?', 1, true))
    assert.is_nil(failure(validate.options, "mw.fetch", { colour = 5 }, known):find("did you mean", 1, true))
    assert.truthy(failure(validate.options, "mw.fetch", { "POST" }, known):find("unknown option 1", 1, true))
  end)

  it("names an option of the wrong type", function()
    assert.equal('mw.fetch: option "method" must be string, got 5', failure(validate.options, "mw.fetch", { method = 5 }, known))
    assert.equal("mw.fetch: the options must be a table, got 5", failure(validate.options, "mw.fetch", 5, known))
  end)
end)

describe("validate.duration", function()
  it("reads strings and numbers as seconds", function()
    assert.equal(0.25, validate.duration("f", "250ms"))
    assert.equal(5400, validate.duration("f", "1h30m"))
    assert.equal(2.5, validate.duration("f", 2.5))
    assert.equal(86400, validate.duration("f", 86400))
  end)

  it("refuses a bare timeout over an hour and shows both readings", function()
    local message = failure(validate.duration, "mw.fetch", 5000, true)
    assert.truthy(message:find('"5000ms"', 1, true))
    assert.truthy(message:find('"5000s"', 1, true))
    assert.equal(5000, validate.duration("f", "5000s", true))
    assert.equal(3600, validate.duration("f", 3600, true))
  end)

  it("refuses what is no duration", function()
    for _, value in ipairs { "soon", -1, 0 / 0, "" } do failure(validate.duration, "f", value) end
    failure(validate.duration, "f", nil)
  end)
end)
