-- SPDX-License-Identifier: MIT

--- Durable workflows. define.lua is `mw.workflow`, this is `mw.trigger`; engine.lua runs executions, list.lua and imperative.lua drive
--- the two forms, journal.lua is what they write.
--
--   local run = mw.trigger("checkout", { amount = 42 }, { id = "order-17" })     -- { id = "0192…", created = true }
--   mw.trigger("remind", { user = 7 }, { delay = "3d", group = "user-7", priority = 5, tags = { "mail" } })
--
-- It returns once the execution is stored: from then on it finishes, whatever happens to the server. `id` is your own name for it: the
-- same id with the same input is the same execution (created = false), with another input it raises "conflict".
-- An unknown workflow raises "not_found"; a server under too much load "busy", a database that is away "unavailable" (both retryable).

local crypto = require "mw.core.crypto"
local define = require "mw.workflow.define"
local engine = require "mw.workflow.engine"
local errors = require "mw.errors"
local json = require "mw.core.json"
local payload = require "mw.workflow.payload"
local redact = require "mw.workflow.redact"
local registry = require "mw._registry"
local trigger = require "mw.workflow.trigger"
local validate = require "mw.validate"

local M = {
  define = define.define,
  start = engine.start,
  wake = engine.wake,
  stop = engine.stop,
}

local function unknown(name)
  local near = validate.nearest(name, registry.workflows)
  return errors.new("not_found", "workflow not found: " .. name, { hint = near and string.format("did you mean %q?", near) or nil })
end

-- The same JSON value always gives the same text, however it was spaced and ordered.
local function canonical(text)
  if text == nil then return "" end
  local value = json.decode(text, { null = json.null })
  return json.encode(value, { sort = true }) or text
end

-- A group without limits.
local UNLIMITED = 1000000

--- What a request asked for, as one hash: the same id or key with another one is a conflict.
function M.request_hash(name, input_text)
  return crypto.digest("sha256", name .. "\n" .. canonical(input_text))
end

-- What is not a plain run: store.create's `more`.
local function more_of(def, opts)
  local group = opts.group or ((def.concurrency or def.rate) and "*")
  if not (group or opts.priority or opts.tags or opts.parent or opts.child_id) then return nil end
  return {
    group = group or nil, slots = group and (def.concurrency or UNLIMITED) or nil, every_us = group and def.rate and def.rate.every_us,
    burst = group and def.rate and def.rate.burst, priority = opts.priority, tags = opts.tags,
    parent = opts.parent, parent_key = opts.parent_key, id = opts.child_id,
  }
end

--- For lua/mw: `input_text` is JSON or nil. opts: id, key (Idempotency-Key), app; group priority tags due_us as trigger.check gives them; of
--- a child: child_id (also of tx:trigger) parent parent_key. Returns id, created or nil, err.
function M.create(name, input_text, opts)
  local def = registry.workflows[name]
  if not def then return nil, unknown(name) end
  local hash = (opts.id or opts.key) and M.request_hash(name, input_text)
  if def.redact then
    redact.prepare()
    input_text = redact.seal(def.redact, "input", nil, input_text)
  end
  local request = { input = input_text, id = opts.id, key = opts.key, app = opts.app, due_us = opts.due_us, more = more_of(def, opts) }
  if opts.id or opts.key then request.hash = hash end
  local id, created = engine.create(def, request)
  if id then return id, created end
  local err = created
  if err.code == "conflict" then
    local what = opts.key and "Idempotency-Key" or "id"
    err = errors.new("conflict", string.format("this %s was used for another request; use a new one, or send the same input again", what),
      { status = 422 })
  end
  return nil, err
end

--- Starts a workflow; returns once the execution is stored.
---@param name string
---@param input? any JSON
---@param opts? { id?: string, group?: string, delay?: mw.Duration, at?: number, priority?: integer, tags?: string[] } id is your own name for the run: the same id with the same input is the same run
---@return { id: string, created: boolean }
function M.trigger(name, input, opts)
  validate.arg("mw.trigger", 1, "name", name, "string")
  opts = trigger.check("mw.trigger", validate.options("mw.trigger", opts, trigger.options))
  local text, err = payload.encode(input, "input")
  if err then
    err.code = err.code == "invalid_result" and "invalid" or err.code
    errors.raise(err)
  end
  local id, created = M.create(name, text, opts)
  if not id then errors.raise(created) end
  return { id = id, created = created }
end

return M
