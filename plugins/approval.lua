-- SPDX-License-Identifier: MIT

-- An approval by a person: the run waits for a signal, for days if need be, and takes no memory meanwhile. Nobody answers in two days:
-- it reminds them, once; nobody answers in a week: it is refused. `form` tells a page, or whoever calls the API, what to ask.
--
--   curl -d '{"name":"approval","input":{"who":"eva","amount":900}}' -H 'content-type: application/json' http://127.0.0.1:9400/api/trigger
--   curl -d '{"approved":true,"by":"max"}' -H 'content-type: application/json' \
--        http://127.0.0.1:9400/api/v1/executions/<id>/signals/decision

local mw = require "mw"

local FORM = {
  title = "May this be paid?",
  fields = { { name = "approved", kind = "boolean", required = true }, { name = "by", kind = "text" } },
}

mw.workflow("approval", function(ctx, input)
  ctx:step("ask", function() mw.log.info("asked for approval", { who = input.who, amount = input.amount, run = ctx.id }) end)

  local decision = ctx:wait_for("decision", { timeout = "2d", form = FORM })
  if not decision then
    ctx:step("remind", function() mw.log.info("reminded", { who = input.who }) end)
    decision = ctx:wait_for("decision", { timeout = "5d", form = FORM })
  end
  if not (decision and decision.approved) then
    return { paid = false, why = decision and "refused" or "nobody answered" }
  end

  ctx:step("pay", function(s) mw.log.info("paid", { amount = input.amount, by = decision.by, key = s.step_key }) end)
  return { paid = true, by = decision.by }
end)
