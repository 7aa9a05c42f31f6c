-- Takes signed requests at /webhooks/{{name}}: the header x-signature is "sha256=" and the HMAC of the body under APP_{{NAME}}_SECRET.
-- A sender repeats what it got no 2xx for, so the work is a workflow, and an event with the same id starts it once.
--
--   export APP_{{NAME}}_SECRET=…      before moonwatch serve

local mw = require "mw"

local function is_signed(req)
  local secret = mw.env.APP_{{NAME}}_SECRET
  if not secret then return false end
  return mw.crypto.equal("sha256=" .. mw.crypto.hmac("sha256", secret, req.body), req.headers["x-signature"] or "")
end

mw.post("/webhooks/{{name}}", function(req, res)
  if not is_signed(req) then return res:status(401):json { error = "the signature is missing or wrong" } end
  local event = req:json()
  if type(event) ~= "table" or type(event.id) ~= "string" then return res:status(400):json { error = "id must be a string" } end
  local run = mw.trigger("{{name}}", event, { id = event.id })
  res:status(202):json { executionId = run.id }
end)

mw.workflow("{{name}}", {
  { name = "handle", retries = 3, run = function(ctx)
      mw.log.info("{{name}} received", { id = ctx.input.id })
      return { handled = ctx.input.id }
    end },
})
