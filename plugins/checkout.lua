-- SPDX-License-Identifier: MIT

-- A durable workflow in list form. Each step's result is stored before the next one starts, so a crash, a deploy or `kill -9` between or
-- in the middle of steps loses nothing and repeats no finished step.
--
--   curl -d '{"name":"checkout","input":{"amount":42,"email":"a@b.c"}}' -H 'content-type: application/json' \
--        http://127.0.0.1:9400/api/trigger
--   curl http://127.0.0.1:9400/api/v1/executions/<id>
--
-- The payment provider is a stub route below, so that the example needs no network. Try it: edit a step while a run is under way (runs
-- that have begun finish on the code they began with), or make the stub fail: {"amount": -1}.

local mw = require "mw"

local PROVIDER = "http://127.0.0.1:9400/stub/payments"

mw.workflow("checkout", {
  {
    name = "charge", retries = 3, timeout = "10s",
    run = function(ctx)
      -- The same Idempotency-Key goes with every attempt of this step, so that the provider charges once.
      local res = mw.fetch(mw.env.APP_PAYMENTS_URL or PROVIDER, { method = "POST", json = { amount = ctx.input.amount } }):ok()
      return { id = res:json().id }
    end,
  },
  {
    name = "reserve",
    run = function(ctx)
      mw.query([[CREATE TABLE IF NOT EXISTS orders (execution TEXT PRIMARY KEY, charge TEXT NOT NULL, amount INTEGER NOT NULL)]])
      mw.query([[INSERT INTO orders (execution, charge, amount) VALUES ($1, $2, $3) ON CONFLICT (execution) DO NOTHING]],
        { ctx.id, ctx.results.charge.id, ctx.input.amount })
      return { order = ctx.id }
    end,
  },
  {
    name = "receipt",
    run = function(ctx)
      mw.sleep("2s") -- a slow mail server, and time to kill -9 this one: it finishes after the restart and charges no second time
      mw.log.info("receipt sent", { to = ctx.input.email, charge = ctx.results.charge.id })
      return { sent = ctx.input.email, charge = ctx.results.charge.id }
    end,
  },
})

-- POST /checkout starts one and answers at once; the same order number starts it only once.
mw.post("/checkout", function(req, res)
  local order = req:json()
  if type(order.amount) ~= "number" then
    return res:status(400):json { error = "amount must be a number" }
  end
  local run = mw.trigger("checkout", order, { id = order.number })
  res:status(202):json { executionId = run.id, created = run.created }
end)

-- The stub: answers the same charge for the same Idempotency-Key, as a payment provider does.
mw.post("/stub/payments", function(req, res)
  local amount = req:json().amount
  if type(amount) ~= "number" or amount < 0 then
    return res:status(422):json { error = "the amount is not payable" }
  end
  local key = req.headers["idempotency-key"] or mw.uuid()
  local charge = "ch_" .. mw.crypto.digest("sha256", key):sub(1, 16)
  res:json { id = charge, amount = amount }
end)
