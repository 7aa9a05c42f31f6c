-- SPDX-License-Identifier: MIT

--- Durable waits of the imperative form: ctx:sleep, ctx:sleep_until, ctx:wait_for. A long one takes no memory: the run is given back and
-- claimed again when it is due, or when its signal has come.

local errors = require "mw.errors"
local journal = require "mw.workflow.journal"
local payload = require "mw.workflow.payload"
local R = require "mw.workflow.run"
local runtime = require "mw._runtime"
local S = require "mw.workflow.strand"
local writer = require "mw.workflow.writer"

local M = {}

local now_us = runtime.now_us

--- Sleeps until `until_us`, microseconds since 1970, which is decided once.
function M.sleep(strand, name, until_of)
  local key, known = S.next(strand, "sleep", name)
  local due
  if known then
    due = known.due
  else
    S.boundary(strand)
    due = math.max(0, math.floor(until_of() - strand.start_us))
    writer.add(strand.root, journal.sleep(key, due, R.elapsed(strand)))
  end
  local due_us = strand.start_us + due
  while due_us > now_us() do
    S.wait(strand, due_us)
    S.boundary(strand)
  end
  S.pass(strand, due)
end

--- The oldest signal of that name that nobody took.
local function find(strand, name)
  if strand.root.replays then return nil end -- what the journal does not know has not come
  local taken = strand.root.taken
  for _, signal in ipairs(S.ask(strand, "signals")) do
    if signal.name == name and not taken[signal.id] then
      taken[signal.id] = true
      return signal.is_large and S.ask(strand, "signals", signal.id)[1] or signal
    end
  end
end

--- Waits for a signal until `due_us` (math.huge: without end): the signal, or nil when the time is over. Records nothing.
function M.signal(strand, name, due_us)
  while true do
    local signal = find(strand, name)
    if signal then return signal end
    if now_us() >= due_us then return nil end
    S.wait(strand, due_us, name)
    S.boundary(strand)
  end
end

--- Waits for the signal `signal` as the operation `name`. Returns its data as JSON text (nil: it had none) and true, or nil, false when nothing came in time.
function M.wait_for(strand, name, wanted, timeout, form)
  local key, known = S.next(strand, "wait", name)
  if known and known.done then
    S.pass(strand, known.ended)
    return known.result, known.signal_id ~= nil
  end
  local run = strand.root
  local deadline = known and known.deadline
  if not known then
    S.boundary(strand)
    deadline = timeout and R.elapsed(strand) + math.floor(timeout * 1e6)
    writer.add(run, journal.wait(key, wanted, deadline, R.elapsed(strand), form))
  end
  local signal = M.signal(strand, wanted, deadline and strand.start_us + deadline or math.huge)
  local at = R.elapsed(strand)
  writer.add(run, journal.wait_end(key, signal and signal.id, at, signal and signal.data), signal and signal.id)
  S.flush(strand)
  S.pass(strand, at)
  return signal and signal.data, signal ~= nil
end

--- JSON text of a form description; it is shown to whoever shall send the signal.
function M.form_text(what, form)
  if form == nil then return nil end
  local text, err = payload.encode(form, "form")
  if not text then errors.throw("invalid", what .. ": " .. err.message) end
  if #text > 16384 then errors.throw("limit", string.format("%s: the form is %d bytes of JSON; at most 16384", what, #text)) end
  return text
end

return M
