-- SPDX-License-Identifier: MIT

-- An order as a saga: each step that changes something says how to take it back. When a later step fails for good, or somebody cancels the
-- run with undo, what was done is undone in reverse order, durably: a server that dies while it undoes goes on undoing.
--
--   curl -d '{"name":"order_saga","input":{"item":"lamp","amount":42}}' -H 'content-type: application/json' http://127.0.0.1:9400/api/trigger
--   curl http://127.0.0.1:9400/api/v1/executions/<id>
--
-- {"item":"gone"} is out of stock after the card was charged: the run fails, the charge is refunded, the reservation given back.

local mw = require "mw"

mw.workflow("order_saga", {
  {
    name = "reserve",
    run = function(ctx)
      mw.query("CREATE TABLE IF NOT EXISTS reservations (execution TEXT PRIMARY KEY, item TEXT NOT NULL)")
      -- The key makes the effect the same, however often the step is called.
      mw.query("INSERT INTO reservations (execution, item) VALUES ($1, $2) ON CONFLICT (execution) DO NOTHING", { ctx.id, ctx.input.item })
      return { reservation = ctx.id }
    end,
    undo = function(_, result) mw.query("DELETE FROM reservations WHERE execution = $1", { result.reservation }) end,
  },
  {
    name = "charge", retries = 5, timeout = "10s", non_retryable = { "card_declined" },
    run = function(ctx)
      if ctx.input.amount > 1000 then error(mw.error("card_declined", "the bank says no")) end
      mw.log.info("charged", { amount = ctx.input.amount, key = ctx.step_key })
      return { charge = "ch_" .. mw.crypto.digest("sha256", ctx.step_key):sub(1, 12) }
    end,
    undo = function(_, result) mw.log.info("refunded", { charge = result and result.charge or "whatever was charged" }) end,
    undo_on = "started", -- a charge that timed out may have been made
  },
  {
    name = "pack",
    run = function(ctx)
      if ctx.input.item == "gone" then error(mw.error("out_of_stock", "there is none left", { retryable = false })) end
      return { parcel = "p-" .. ctx.id:sub(-6) }
    end,
  },
  {
    name = "tell", all = {
      { name = "mail", run = function(ctx) mw.log.info("mail sent", { charge = ctx.results.charge.charge }) end },
      { name = "warehouse", run = function(ctx) mw.log.info("warehouse told", { parcel = ctx.results.pack.parcel }) end },
    },
  },
})
