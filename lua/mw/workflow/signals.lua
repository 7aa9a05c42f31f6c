-- SPDX-License-Identifier: MIT

--- Signals to a run: "approved", with data. A run that waits for that name goes on in the same commit; one that does not finds the signal
--- when it comes to wait for it.
--
--   mw.signal(id, "approved", { by = "eve" })                            -- raises
--   signals.send(id, "approved", '{"by":"eve"}', { id =, actor = })      -- true, or nil and an error; for lua/mw
--
--   signals.complete(id, "ship", { result = '{"n":1}' }, { id = "1", actor = })
--
-- `id` names the signal: the same one sent to a run again is not another, until the run ends. Names that begin with "$" are the engine's own:
-- $child:KEY is the end of a child, $step:NAME the outcome of an `http` step that its service finishes later. The data of both is
-- {"status": "completed" | "failed" | "cancelled", "output": …, "error": …}.
--
-- Errors: not_found, conflict (the run has ended), limit (too large, or the run has 10,000 signals), invalid, unavailable, busy.

local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local json = require "mw.core.json"
local payload = require "mw.workflow.payload"
local runtime = require "mw._runtime"
local store = require "mw.core.store"
local validate = require "mw.validate"

local M = {}

local MAX_NAME, MAX_ID, MAX_STEP = 200, 255, 290 -- the store's own bound is a little wider, for what is put before them
-- Before the ids of others, so that none is that of a child's end.
local OTHERS = "id:"
local UUID = "^" .. ("%x"):rep(8) .. "%-" .. (("%x"):rep(4) .. "%-"):rep(3) .. ("%x"):rep(12) .. "$"
local signal_options = { id = "string" }

local function not_found(id)
  return errors.new("not_found", string.format("there is no execution %q", tostring(id):sub(1, 100)), { hint = "GET /api/v1/executions lists them" })
end

local function check_text(what, text, most)
  if text == "" or #text > most then
    return errors.new("invalid", string.format("%s must have 1 to %d bytes, got %d", what, most, #text))
  end
  if text:find("%c") then return errors.new("invalid", what .. " must not have control characters") end
end

local function describe(err, id, name)
  if err.code == "not_found" then return not_found(id) end
  if err.code == "conflict" then
    return errors.new("conflict", string.format("execution %s has ended, so it takes no signal %q any more", id, name))
  end
  if err.code == "limit" then err.status = 409 end -- not what was sent is too much
  return err
end

-- What outsiders and the engine's own names have in common.
local function put(id, name, data, signal_id, actor)
  if type(id) ~= "string" or not id:find(UUID) then return nil, not_found(id) end
  local ok, err = store.signal(id:lower(), name, data, signal_id, actor)
  if not ok then return nil, describe(err, id, name) end
  runtime.wake_engines(0)
  runtime.tell_control(id:lower()) -- a branch of a run that goes on may wait for it
  return true
end

--- Sends a signal whose data is JSON text, or nil for none.
function M.send(id, name, data_text, opts)
  opts = opts or {}
  local err = check_text("the name of a signal", name, MAX_NAME) or opts.id and check_text("the id of a signal", opts.id, MAX_ID)
  if err then return nil, err end
  if name:sub(1, 1) == "$" then
    return nil, errors.new("invalid", string.format("the signal %q cannot be sent: names that begin with $ are the engine's own", name))
  end
  local ok
  ok, err = payload.check(data_text, "the data of the signal")
  if not ok then return nil, err end
  return put(id, name, data_text, opts.id and OTHERS .. opts.id, opts.actor)
end

--- Ends the step `step` that a service owns. outcome: { result = JSON text or nil } or { error = { code, message, retryable } }.
--- opts.id: which end this is; the same again is not another.
function M.complete(id, step, outcome, opts)
  local err = check_text("the name of a step", step, MAX_STEP) or check_text("the id of a signal", opts.id, MAX_ID)
  if err then return nil, err end
  local ok
  ok, err = payload.check(outcome.result, "the result")
  if not ok then return nil, err end
  local data
  if outcome.error then data = '{"status":"failed","output":null,"error":' .. json.encode(outcome.error, { sort = true }) .. "}"
  else data = '{"status":"completed","output":' .. (outcome.result or "null") .. ',"error":null}' end
  return put(id, "$step:" .. step, data, "step:" .. crypto.digest("sha256", step .. "\n" .. opts.id):sub(1, 32), opts.actor)
end

--- Sends a signal to a run. A run that waits for it goes on; otherwise the signal is there when the run comes to wait for it. Returns once
--- the signal is stored.
---@param id string of the execution
---@param name string as in ctx:wait_for
---@param data? any JSON
---@param opts? { id?: string } the same id for a run is the same signal, however often it is sent
---@return boolean sent
function M.signal(id, name, data, opts)
  validate.arg("mw.signal", 1, "id", id, "string")
  validate.arg("mw.signal", 2, "name", name, "string")
  opts = validate.options("mw.signal", opts, signal_options)
  local text, err = payload.encode(data, "the data of the signal")
  if err then
    err.code = err.code == "invalid_result" and "invalid" or err.code
    errors.raise(err)
  end
  return (errors.check(M.send(id, name, text, { id = opts.id, actor = "plugin" })))
end

return M
