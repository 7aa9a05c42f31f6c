-- SPDX-License-Identifier: MIT

-- A drip campaign: a mail a week, until the series is over or the reader unsubscribes. Each run sleeps in the database; a hundred thousand
-- readers cost no memory. Spec: months pass in milliseconds (spec/cookbook/drip_campaign_spec.lua).
--
--   curl -d '{"name":"drip_campaign","input":{"email":"ada@example.com"}}' -H 'content-type: application/json' http://127.0.0.1:9400/api/trigger
--   curl -X POST -d '{}' -H 'content-type: application/json' http://127.0.0.1:9400/api/v1/executions/<id>/signals/unsubscribe

local mw = require "mw"

local SERIES = { "welcome", "first steps", "tips", "what others build" }

mw.workflow("drip_campaign", function(ctx, input)
  local sent = mw.array {}
  for number, subject in ipairs(SERIES) do
    if number > 1 and ctx:wait_for("unsubscribe", { timeout = "7d" }) then
      return { sent = sent, unsubscribed = true }
    end
    ctx:step("send", function(s)
      -- The provider sends a mail once for each key.
      mw.log.info("mail sent", { to = input.email, subject = subject, key = s.step_key })
    end)
    sent[#sent + 1] = subject
    ctx:progress(number, #SERIES, subject)
  end
  return { sent = sent, unsubscribed = false }
end)
