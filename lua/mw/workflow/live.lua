-- SPDX-License-Identifier: MIT

--- What a run shows of itself while it goes on: ctx:set and ctx:progress, in a body and in a step. The column `state` holds
-- {"set": …, "progress": {done, total, text}}; it is not journaled, and is there when the run has ended.
--
-- In a body it goes with the next commit, as everything does. A step that works for long shows it by itself, at most once a second.

local errors = require "mw.errors"
local json = require "mw.core.json"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local store = require "mw.core.store"
local validate = require "mw.validate"

local M = {}

local MAX_BYTES = 65536
local EVERY_US = 1e6

local function encode(run)
  local text, err = json.encode({ set = run.shown, progress = run.shown_progress }, { sort = true, name = "state" })
  if not text then errors.throw("invalid", "ctx:set: " .. err.message) end
  if #text > MAX_BYTES then
    errors.throw("limit", string.format("ctx:set: the state is %d bytes of JSON; at most %d: store more of it elsewhere", #text, MAX_BYTES))
  end
  return text
end

-- In a step: written now when the last time is long enough ago, otherwise with the next call or commit.
local function write_soon(run)
  local now = runtime.now_us()
  if run.phase ~= "step" or now < (run.shown_us or 0) + EVERY_US then return end
  run.shown_us = now
  local ok, err = store.append(run.id, run.fence, 0, nil, nil, nil, nil, nil, nil, { state = run.dirty })
  if ok then run.dirty = nil
  elseif err.code == "cancelled" then error(err, 0) end -- else the next commit says what is wrong
end

local function change(strand)
  local run = strand.root or strand
  run.dirty = encode(run)
  write_soon(strand)
end

--- Publishes the run's state: `state` replaces what was shown.
function M.set(strand, state)
  validate.arg("ctx:set", 1, "state", state, "table")
  local run = strand.root or strand
  run.shown = state
  change(strand)
end

--- Shows a bar: `done` of `total`, with a text.
function M.progress(strand, done, total, text)
  validate.arg("ctx:progress", 1, "done", done, "number")
  if total ~= nil then validate.arg("ctx:progress", 2, "total", total, "number") end
  if text ~= nil then validate.arg("ctx:progress", 3, "text", text, "string") end
  local run = strand.root or strand
  run.shown_progress = { done = done, total = total, text = text }
  change(strand)
end

local function of_step(name)
  return function(ctx, ...)
    local run = R.run_of_step(ctx)
    if not run then errors.throw("invalid", "write ctx:" .. name .. "(…) with a colon") end
    return M[name](run, ...)
  end
end

R.live.set, R.live.progress = of_step "set", of_step "progress"

return M
