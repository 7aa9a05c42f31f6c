-- SPDX-License-Identifier: MIT
-- Loaded before the specs. Makes ffi.cdef forgive repetitions, and ends a run with one line that scripts can read:
-- "# moonwatch: 12 passed, 0 failed, 1 pending".

local busted = require "busted"
local ffi = require "ffi"

ffi.cdef = require("support.cdef").define

local counts = { success = 0, failure = 0, error = 0, pending = 0 }

busted.subscribe({ "test", "end" }, function(_, _, status)
  counts[status] = (counts[status] or 0) + 1
  return nil, true
end)

-- Errors outside of a test (a file that does not load, a before_each) count as failures.
busted.subscribe({ "error" }, function(element)
  if element.descriptor ~= "it" then counts.error = counts.error + 1 end
  return nil, true
end)

-- Servers that a spec file left behind, because it failed half-way.
busted.subscribe({ "file", "end" }, function()
  local live = debug.getregistry()["moonwatch.servers"] or {}
  for server in pairs(live) do
    server:kill_all()
    server:clean()
  end
  return nil, true
end)

busted.subscribe({ "exit" }, function()
  print(("# moonwatch: %d passed, %d failed, %d pending"):format(counts.success, counts.failure + counts.error,
    counts.pending))
  return nil, true
end)
