-- SPDX-License-Identifier: MIT
-- The imperative form of a workflow: ordinary Lua around steps. Each step's result is recorded; after a restart the function runs again
-- and gets the recorded results back.
--
--   curl -d '{"name":"onboarding","input":{"name":"Ada","team":["Bob","Eve"]}}' -H 'content-type: application/json' \
--     http://127.0.0.1:9400/api/trigger

local mw = require "mw"

mw.workflow("onboarding", function(ctx, input)
  local account = ctx:step("create_account", function()
    return { id = mw.uuid(), name = input.name }
  end)
  local invited = mw.array {}
  for _, name in ipairs(input.team or {}) do
    invited[#invited + 1] = ctx:step("invite", function()
      mw.log.info("invited", { name = name, account = account.id })
      return name
    end, { retries = 5 })
  end
  return { account = account.id, invited = invited }
end)
