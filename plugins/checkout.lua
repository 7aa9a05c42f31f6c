-- SPDX-License-Identifier: MIT
-- A checkout: three steps, each recorded before the next begins.
--
--   curl -d '{"name":"checkout","input":{"amount":42,"email":"a@b.c"}}' -H 'content-type: application/json' \
--     http://127.0.0.1:9400/api/trigger
--   curl http://127.0.0.1:9400/api/v1/executions/<id>
--
-- Try: change something and save (the next execution uses it). Break the syntax (the version before keeps serving). kill -9 the server
-- while `email` waits (the execution finishes after the restart, and no finished step runs again).

local mw = require "mw"

local payments = mw.env.APP_PAYMENTS_URL or "http://127.0.0.1:9400/stub/payments"

mw.workflow("checkout", {
  { name = "charge", retries = 3, timeout = "10s", run = function(ctx)
      local res = mw.fetch(payments, { method = "POST", json = { amount = ctx.input.amount } }):ok()
      return { chargeId = res:json().id }
    end },
  { name = "inventory", run = function(ctx)
      mw.query("CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, amount integer NOT NULL)")
      mw.query("INSERT INTO orders (id, amount) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", { ctx.id, ctx.input.amount })
      return { reserved = true }
    end },
  { name = "email", run = function(ctx)
      mw.sleep("2s") -- a slow mail server
      mw.log.info("receipt sent", { to = ctx.input.email, charge = ctx.results.charge.chargeId })
      return { sent = true }
    end },
})

-- A shop's own route, which starts it.
mw.post("/checkout", function(req, res)
  local order = req:json()
  if type(order.amount) ~= "number" then error(mw.error("invalid", "amount must be a number")) end
  res:status(202):json { executionId = mw.trigger("checkout", order).id }
end)

-- Stands for the payment provider, so that the example needs no network. A step sends the same Idempotency-Key with every attempt, and
-- the provider answers the same charge for it.
mw.post("/stub/payments", function(req, res)
  local key = req.headers["idempotency-key"] or mw.uuid()
  res:status(201):json { id = "ch_" .. mw.crypto.digest("sha256", key):sub(1, 12), amount = req:json().amount }
end)
