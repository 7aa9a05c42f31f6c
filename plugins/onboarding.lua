-- SPDX-License-Identifier: MIT

-- A durable workflow written as a function. The body runs again from the top after a crash; finished steps return what they returned
-- then, so loops and branches are ordinary Lua. What differs from run to run comes from ctx: ctx:now(), ctx:random(), ctx:uuid().
--
--   curl -d '{"workflow":"onboarding","input":{"email":"ada@example.com","lists":["news","tips"]}}' \
--        -H 'content-type: application/json' http://127.0.0.1:9400/api/v1/executions

local mw = require "mw"

mw.workflow("onboarding", function(ctx, input)
  local user = ctx:step("create", function()
    return { id = mw.uuid(), email = input.email }
  end)

  local subscribed = {}
  for _, list in ipairs(input.lists or {}) do
    -- "subscribe", "subscribe#2", …: each one is a step of its own
    local ok, err = pcall(ctx.step, ctx, "subscribe", function()
      if list == "closed" then error(mw.error("closed", "this list takes nobody", { retryable = false })) end
      return list
    end, { retries = 2, timeout = "5s" })
    if ok then subscribed[#subscribed + 1] = list else mw.log.warn("not subscribed", { list = list, why = err.message }) end
  end

  ctx:step("welcome", function()
    mw.log.info("welcome mail sent", { to = user.email, lists = #subscribed })
  end)
  return { user = user.id, lists = mw.array(subscribed), at = ctx:now() }
end)
