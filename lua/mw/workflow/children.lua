-- SPDX-License-Identifier: MIT

--- Children: ctx:call starts a workflow and waits for what comes of it, ctx:trigger does not wait.
--
-- A child's id is made of its parent's id and the place of the call, so that a parent which is killed before it has recorded the call
-- starts the same child again, and not another. The end of a called child is a signal "$child:KEY" to its parent, in the commit that ends
-- it, so that neither of them ever polls.

local core = require "mw.core.task"
local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local payload = require "mw.workflow.payload"
local R = require "mw.workflow.run"
local S = require "mw.workflow.strand"
local step = require "mw.workflow.step"
local waits = require "mw.workflow.waits"
local writer = require "mw.workflow.writer"

local M = {}

local BUSY_S = 0.5
local RAW = { raw = { output = true, error = true } }

-- The run's time in front, as in every id; the rest is a hash.
local function child_id(strand, key)
  local hash = crypto.digest("sha256", string.format("%s/%s/%d", strand.id, key, strand.state.resets))
  local time = string.format("%012x", math.floor((strand.start_us + strand.virtual) / 1000))
  return string.format("%s-%s-7%s-%x%s-%s", time:sub(1, 8), time:sub(9, 12), hash:sub(1, 3), 8 + tonumber(hash:sub(4, 4), 16) % 4,
    hash:sub(5, 7), hash:sub(8, 19))
end

-- Creates the child; waits while the server has no room for it. Returns true, or nil, err when it cannot be.
local function create(strand, id, name, input_text, opts, parent_key)
  local workflow = require "mw.workflow"
  while true do
    S.boundary(strand)
    local made, err = workflow.create(name, input_text, {
      app = strand.app, child_id = id, parent = strand.id, parent_key = parent_key, group = opts.group, priority = opts.priority,
      tags = opts.tags, due_us = opts.due_us, id = opts.id,
    })
    if made then return made end
    if not err.retryable then return nil, err end
    local slept, why = core.sleep(BUSY_S)
    if slept == nil then error(why, 0) end
  end
end

-- Starts it if the journal does not know it yet. Returns its id, or nil and the error that is its end.
local function started(strand, known, key, kind, name, input_text, opts)
  if known and known.id then return known.id end
  S.boundary(strand)
  S.flush(strand) -- the child is an effect: what came before it, its input and its id among it, is durable first
  local id, err = create(strand, child_id(strand, key), name, input_text, opts, kind == "call" and key or nil)
  if not id then return nil, err end
  writer.add(strand.root, journal[kind](key, id, name, opts.on_cancel or (kind == "call" and "cancel" or "leave"), R.elapsed(strand)))
  return id
end

--- Returns the child's id; raises what speaks against it.
function M.trigger(strand, name, input_text, opts)
  local key, known = S.next(strand, "trigger", opts.name or name)
  local id, err = started(strand, known, key, "trigger", name, input_text, opts)
  if not id then errors.raise(err) end
  S.pass(strand, known and known.ended or R.elapsed(strand))
  return id
end

local function ended(strand, key, id, status, text, error_text, signal)
  local at = R.elapsed(strand)
  writer.add(strand.root, journal.call_end(key, status, at, text, error_text), signal)
  S.flush(strand)
  S.pass(strand, at)
  if status == "completed" then return true, payload.decode(text), text end
  local err = step.error_of(error_text)
  err.child = id
  return false, err
end

local function recall(strand, known)
  S.pass(strand, known.ended)
  if known.done then return true, payload.decode(known.result), known.result end
  local err = step.error_of(known.error)
  err.child = known.id
  return false, err
end

local function text_of(box) return box and box ~= json.null and tostring(box) or nil end

local function call(strand, key, known, name, input_text, opts)
  if known and (known.done or known.failed) then return recall(strand, known) end
  local id, err = started(strand, known, key, "call", name, input_text, opts)
  if not id then return ended(strand, key, nil, "failed", nil, R.error_text(err)) end
  local signal = waits.signal(strand, "$child:" .. key, math.huge)
  local what = json.decode(signal.data, RAW)
  local run = strand.root
  if what.status == "cancelled" and not (run.frozen or run.ending) then -- with its parent, it may be
    run.engine.look(run)
    if not (run.frozen or run.ending) then S.boundary(strand) end
  end
  local output, error_text = text_of(what.output), text_of(what.error)
  if output == "null" then output = nil end
  if error_text == "null" or error_text == nil then error_text = R.error_text(errors.new("child_cancelled", "the child was cancelled")) end
  return ended(strand, key, id, what.status, output, error_text, signal.id)
end

--- Runs a child to its end. Returns true, its output (and that as JSON, or nil), or false, its error, nil; then its key, and what the journal knew.
function M.call(strand, name, input_text, opts)
  local key, known = S.next(strand, "child", opts.name or name)
  local ok, value, text = call(strand, key, known, name, input_text, opts)
  return ok, value, text, key, known
end

return M
