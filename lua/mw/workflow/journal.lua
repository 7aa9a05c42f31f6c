--- The rows of an execution's journal: what was attempted and what came of it, one row a commit. fold.lua reads them.
--
-- A row is a format number, a newline, and events: JSON objects, with a record separator (0x1e) between two. Times are microseconds since
-- the run's virtual start (its seed has that). KEY is the name of an operation, unique in its run: "send", "send#2" for the second use;
-- in a branch of a parallel group "GROUP:BRANCH/send"; the undoing of a step is the step "undo:KEY".
--
--   r = [KEY, attempt, started, ended]           the attempt returned; `v` is its result (absent: nil)
--   f = [KEY, attempt, started, ended, due]      it failed; `x` is the error; `due` is when the next may start, -1: there is none
--   a = [KEY, attempt, at]                       this attempt began
--   i = [KEY, attempt, at]                       the attempt before was interrupted (KEY "": the body, outside of steps)
--   q = [KEY, attempt, started, at, deadline]    another service took the step over and will call back by then (-1: some time)
--   s = [KEY, until, at]                         sleeps
--   w = [KEY, signal, deadline, at]              waits for a signal (-1: without end); `form` describes what it should hold
--   g = [KEY, signal id, at]                     the wait ended; `v` is what came; id "": nothing came in time
--   c = [KEY, id, workflow, on_cancel, at]       a child was called           t = the same of one that is not waited for
--   k = [KEY, status, at]                        the child ended; `v` is its output, `x` its error
--   p = [KEY, [branches], at]                    a parallel group began
--   e = [KEY, at]                                an entry was skipped by its `when`
--   n = [why, at]                                compensation began ("failed", "cancelled"); `x` is the error the run will end with
--   R = [KEY, at, actor]                         an operator has it begin again from there ("": from the start)
--   m = [bundle, at, actor]                      an operator moved it to other code
--   d = [expected, actual, at]                   the body went another way than the journal says
--
-- The first attempt of a run's first step is implied by the run's creation or its claim.
-- A reader knows its own format and the two before; a newer one is refused with a sentence.

local errors = require "mw.errors"
local json = require "mw.core.json"

local M = { FORMAT = 1, OLDEST = 1 }

local format = string.format
local PREFIX = M.FORMAT .. "\n"
-- string.format writes whole numbers much faster than `..` does.
local RESULT = PREFIX .. '{"r":[%s,%d,%d,%d]'
local VALUE = ',"v":%s'
local NEXT = ',"a":[%s,%d,%d]'
local LAST, LAST_NIL = RESULT .. VALUE .. "}", RESULT .. "}"
local MIDDLE, MIDDLE_NIL = RESULT .. VALUE .. NEXT .. "}", RESULT .. NEXT .. "}"
local RAW = { raw = { v = true, x = true, form = true } }

--- A result, and the attempt that begins with the same commit (`next_step` nil: none). Steps are quoted JSON strings.
function M.result(step, attempt, started, ended, text, next_step, next_attempt)
  if not next_step then
    if not text then return format(LAST_NIL, step, attempt, started, ended) end
    return format(LAST, step, attempt, started, ended, text)
  end
  if not text then return format(MIDDLE_NIL, step, attempt, started, ended, next_step, next_attempt, ended) end
  return format(MIDDLE, step, attempt, started, ended, text, next_step, next_attempt, ended)
end

--- A failed attempt; `due` is -1 when there will be no other. `error_text` is JSON.
function M.failure(step, attempt, started, ended, due, error_text)
  return PREFIX .. '{"f":[' .. step .. "," .. attempt .. "," .. started .. "," .. ended .. "," .. due .. '],"x":' .. error_text .. "}"
end

--- An attempt begins, in a commit of its own.
function M.attempt(step, attempt, at)
  return PREFIX .. '{"a":[' .. step .. "," .. attempt .. "," .. at .. "]}"
end

function M.interruption(step, attempt, at)
  return PREFIX .. '{"i":[' .. step .. "," .. attempt .. "," .. at .. "]}"
end

function M.divergence(expected, actual, at)
  return PREFIX .. json.encode { d = json.array { expected, actual, at } }
end

local quote = json.encode
local SEPARATOR = "\30"

local function tail(name, text) return text and ',"' .. name .. '":' .. text .. "}" or "}" end

--- The events below take keys as they are.
function M.sleep(key, until_us, at) return format('%s{"s":[%s,%.0f,%.0f]}', PREFIX, quote(key), until_us, at) end

function M.wait(key, signal, deadline, at, form)
  return format('%s{"w":[%s,%s,%.0f,%.0f]%s', PREFIX, quote(key), quote(signal), deadline or -1, at, tail("form", form))
end

function M.wait_end(key, signal_id, at, text)
  return format('%s{"g":[%s,%s,%.0f]%s', PREFIX, quote(key), quote(signal_id or ""), at, tail("v", text))
end

function M.accepted(key, attempt, started, at, deadline)
  return format('%s{"q":[%s,%d,%.0f,%.0f,%.0f]}', PREFIX, quote(key), attempt, started, at, deadline or -1)
end

local function child(letter, key, id, workflow, on_cancel, at)
  return format('%s{"%s":[%s,"%s",%s,"%s",%.0f]}', PREFIX, letter, quote(key), id, quote(workflow), on_cancel, at)
end

function M.call(key, id, workflow, on_cancel, at) return child("c", key, id, workflow, on_cancel, at) end

function M.trigger(key, id, workflow, on_cancel, at) return child("t", key, id, workflow, on_cancel, at) end

function M.call_end(key, status, at, text, error_text)
  return format('%s{"k":[%s,"%s",%.0f]%s', PREFIX, quote(key), status, at, text and tail("v", text) or tail("x", error_text))
end

function M.group(key, branches, at) return format('%s{"p":[%s,%s,%.0f]}', PREFIX, quote(key), quote(json.array(branches)), at) end

function M.skip(key, at) return format('%s{"e":[%s,%.0f]}', PREFIX, quote(key), at) end

function M.undo(why, at, error_text) return format('%s{"n":["%s",%.0f]%s', PREFIX, why, at, tail("x", error_text)) end

function M.reset(key, at, actor) return format('%s{"R":[%s,%.0f,%s]}', PREFIX, quote(key), at, quote(actor)) end

function M.moved(bundle, at, actor) return format('%s{"m":["%s",%.0f,%s]}', PREFIX, bundle, at, quote(actor)) end

--- One row of several.
function M.join(rows)
  if #rows == 1 then return rows[1] end
  local events = {}
  for i = 1, #rows do events[i] = rows[i]:sub(#PREFIX + 1) end
  return PREFIX .. table.concat(events, SEPARATOR)
end

--- The events of a row as JSON texts; nil and an error for a format that is not known.
function M.split(data)
  local number, text = data:match("^(%d+)\n(.*)$")
  number = tonumber(number)
  if not number or number < M.OLDEST or number > M.FORMAT then
    return nil, errors.new("version", string.format(
      "a journal row of format %s; this version of Moonwatch reads %d to %d, so run the version that wrote it",
      tostring(number or data:sub(1, 12)), M.OLDEST, M.FORMAT))
  end
  local events = {}
  for part in text:gmatch("[^" .. SEPARATOR .. "]+") do events[#events + 1] = part end
  return events
end

--- The same as tables (`v`, `x` and `form` are raw boxes).
function M.decode(data)
  local events, err = M.split(data)
  if not events then return nil, err end
  for i = 1, #events do
    events[i], err = json.decode(events[i], RAW)
    if not events[i] then return nil, err end
  end
  return events
end

return M
