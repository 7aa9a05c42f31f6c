-- SPDX-License-Identifier: MIT

-- Work on a list, ten at a time: each item's step is recorded by itself, so a crash repeats only what was under way. One item that fails
-- spoils nothing: its error is a result like any other, and the run says at the end which went wrong.
--
--   curl -d '{"name":"fan_out","input":{"images":["a.png","b.png","broken.png"]}}' -H 'content-type: application/json' \
--        http://127.0.0.1:9400/api/trigger

local mw = require "mw"

local function resize(name)
  return function()
    mw.sleep("100ms")
    if name:find("broken", 1, true) then error(mw.error("unreadable", name .. " is no picture", { retryable = false })) end
    return { name = name, width = 200 }
  end
end

mw.workflow("fan_out", function(ctx, input)
  local images = input.images or {}
  local outcomes = ctx:map(images, function(c, name)
    local ok, value = pcall(c.step, c, "resize", resize(name), { retries = 2 })
    return ok and { done = value } or { failed = name, why = value.message }
  end, { concurrency = 10 })

  local done, failed = mw.array {}, mw.array {}
  for _, outcome in ipairs(outcomes) do
    if outcome.done then done[#done + 1] = outcome.done.name else failed[#failed + 1] = outcome.failed end
  end
  ctx:progress(#done, #images, "resized")
  ctx:step("publish", function() mw.log.info("published", { count = #done }) end)
  return { done = done, failed = failed }
end)
