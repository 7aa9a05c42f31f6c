-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h")
local cdef = require "support.cdef"

cdef.define [[
  const char *mw_status_name(int status);
  int mw_status_parse(mw_str name);
]]

local C = ffi.C
local function str(text) return ffi.new("mw_str", text, #text) end

describe("statuses of an execution", function()
  local names = { "queued", "running", "sleeping", "waiting", "paused", "blocked", "stuck", "completed", "failed", "cancelled" }

  it("have the numbers that are stored", function()
    for number, name in ipairs(names) do
      assert.are.equal(name, ffi.string(C.mw_status_name(number)))
      assert.are.equal(number, C.mw_status_parse(str(name)))
    end
  end)

  it("are nothing for what is unknown", function()
    for _, number in ipairs { 0, -1, 11, 1000 } do assert.is_true(C.mw_status_name(number) == nil) end
    for _, name in ipairs { "", "Queued", "queue", "queuedd" } do assert.are.equal(0, C.mw_status_parse(str(name))) end
  end)

  it("are the same in the Lua library", function()
    local status = require "mw.workflow.status"
    for number, name in ipairs(names) do assert.are.equal(number, status[name:upper()]) end
  end)
end)
