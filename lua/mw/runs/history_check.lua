-- SPDX-License-Identifier: MIT

--- Whether a document is the history of a run (lua/mw/runs/history.lua): whoever wrote it, nothing of it is stored or folded before its shape,
-- sizes and hashes are known to be right.
--
--   local doc = check.document(text)     -- { execution, journal, signals, code }, with JSON members as text; raises "invalid" and where

local crypto = require "mw.core.crypto"
local errors = require "mw.errors"
local filter = require "mw.runs.filter"
local fold = require "mw.workflow.fold"
local journal = require "mw.workflow.journal"
local json = require "mw.core.json"
local status = require "mw.workflow.status"
local trigger = require "mw.workflow.trigger"

local M = {}

local MAX_ROWS, MAX_SIGNALS, MAX_FILES = 100000, 10000, 1000
local MAX_US = 2 ^ 53
local RAW_DOCUMENT = { raw = { execution = true, journal = true, signals = true, code = true } }
local RAW_RUN = { raw = { tags = true, state = true, input = true, output = true, error = true } }

local function invalid(...) errors.throw("invalid", "the document is no history: " .. string.format(...)) end

-- ---- values ----

local is = {}

function is.text(value, most) return type(value) == "string" and #value <= most and not value:find("%z") end
function is.number(value, most) return type(value) == "number" and value % 1 == 0 and value >= 0 and value <= most end
function is.integer(value, most) return type(value) == "number" and value % 1 == 0 and math.abs(value) <= most end
is.id = filter.is_id
function is.hash(value) return type(value) == "string" and #value == 64 and not value:find("[^%x]") end
function is.box() return true end

-- JSON as it stands; null is nothing.
local function text_of(box)
  local text = tostring(box)
  return text ~= "null" and text or nil
end

-- Members of a table: name = { kind, most, needed }. Others are left out: a later version may have more.
local function members(what, value, known)
  if type(value) ~= "table" then invalid("%s is no object", what) end
  local out = {}
  for name, rule in pairs(known) do
    local given = value[name]
    if given == json.null then given = nil end
    if given == nil then
      if rule[3] then invalid("%s lacks %q", what, name) end
    else
      if not is[rule[1]](given, rule[2]) then invalid("%q of %s is not what it must be", name, what) end
      out[name] = rule[1] == "box" and text_of(given) or given
    end
  end
  return out
end

local function list(what, box, most)
  local value = box and json.decode(tostring(box))
  if type(value) ~= "table" or (next(value) ~= nil and #value == 0) then invalid("%s is no list", what) end
  if #value > most then invalid("%s has %d items; at most %d", what, #value, most) end
  return value
end

-- ---- the run ----

local run_members = {
  id = { "id", nil, true }, workflow = { "text", 300, true }, external_id = { "text", 255 }, status = { "text", 20, true }, due_us = { "number", MAX_US },
  priority = { "integer", 100 }, group_key = { "text", 255 }, group_slots = { "number", 2 ^ 31 - 1 }, tags = { "box" }, state = { "box" },
  waits = { "text", 65536 }, parent = { "id" }, parent_key = { "text", 300 }, bundle = { "hash", nil, true }, api_level = { "number", 1000 },
  seed = { "text", 100, true }, input = { "box" }, output = { "box" }, error = { "box" }, created_us = { "number", MAX_US, true },
  started_us = { "number", MAX_US }, finished_us = { "number", MAX_US },
}

local function check_tags(box)
  for _, tag in ipairs(list("tags", box, trigger.MAX_TAGS)) do
    local problem = trigger.tag_problem(tag)
    if problem then invalid("%s", problem) end
  end
end

local function read_run(box)
  local value = box and json.decode(tostring(box), RAW_RUN)
  local run = members("execution", value, run_members)
  run.id, run.status = run.id:lower(), status.number(run.status)
  if not run.status then invalid("%q is no status", tostring(value.status)) end
  if not run.seed:find("^%d+%.%x+$") then invalid("the seed is not one") end
  if run.tags then check_tags(run.tags) end
  if run.parent_key and not run.parent then invalid("it has a parent's key and no parent") end
  if (run.group_key == nil) ~= (run.group_slots == nil) then run.group_slots = run.group_key and 1 or nil end
  if status.is_final(run.status) and not run.finished_us then invalid("it is %s and has no finished_us", status.name(run.status)) end
  if not status.is_final(run.status) then run.finished_us = nil end
  return run
end

-- ---- the journal ----

-- Letters of what an event's list must hold: s text, n number, l list of texts.
local shapes = {
  r = "snnn", f = "snnnn", a = "snn", i = "snn", q = "snnnn", s = "snn", w = "ssnn", g = "ssn", c = "ssssn", t = "ssssn", k = "ssn", p = "sln", e = "sn",
  n = "sn", R = "sns", m = "sns", d = "ssn",
}

local function is_texts(value)
  if type(value) ~= "table" then return false end
  for _, item in ipairs(value) do
    if type(item) ~= "string" then return false end
  end
  return true
end

local function has_shape(event, shape)
  if type(event) ~= "table" then return false end
  for i = 1, #shape do
    local letter, value = shape:sub(i, i), event[i]
    local right = letter == "s" and type(value) == "string" or letter == "n" and type(value) == "number" or letter == "l" and is_texts(value)
    if not right then return false end
  end
  return true
end

local function check_events(number, data)
  local events, err = journal.decode(data)
  if not events then invalid("row %d of the journal: %s", number, err.message) end
  for _, event in ipairs(events) do
    if type(event) ~= "table" then invalid("row %d of the journal holds no event", number) end
    for kind, shape in pairs(shapes) do
      if event[kind] ~= nil and not has_shape(event[kind], shape) then invalid("row %d of the journal: %q is not what it must be", number, kind) end
    end
  end
end

local function read_journal(box)
  local rows = {}
  for i, value in ipairs(list("journal", box, MAX_ROWS)) do
    local row = members("row " .. i .. " of the journal", value, { number = { "number", MAX_US, true }, at_us = { "number", MAX_US, true }, data = { "text", 2 ^ 24, true } })
    if row.number ~= i then invalid("row %d of the journal has the number %d", i, row.number) end
    check_events(i, row.data)
    rows[i] = row
  end
  local ok, state, err = pcall(fold.rows, rows)
  if not ok or not state then invalid("the journal contradicts itself%s", err and ": " .. err.message or "") end
  return rows
end

-- ---- signals and code ----

local function read_signals(box)
  local signals, seen = {}, {}
  for i, value in ipairs(list("signals", box, MAX_SIGNALS)) do
    local signal = members("signal " .. i, value, {
      id = { "text", 300, true }, name = { "text", 300, true }, data = { "text", 2 ^ 24 }, sent_us = { "number", MAX_US, true }, actor = { "text", 300 },
      taken_us = { "number", MAX_US },
    })
    if signal.name:find("\n") or signal.id:find("\n") or seen[signal.id] then invalid("signal %d has no name or id of its own", i) end
    if signal.data and not json.check(signal.data) then invalid("the data of signal %d is no JSON", i) end
    seen[signal.id], signals[i] = true, signal
  end
  return signals
end

local function read_code(box, bundle)
  local code, count = box and json.decode(tostring(box)) or {}, 0
  if type(code) ~= "table" then invalid("code is no object") end
  for hash, text in pairs(code) do
    count = count + 1
    if not is.hash(hash) or type(text) ~= "string" or crypto.digest("sha256", text) ~= hash then invalid("code %q is not what its hash says", tostring(hash):sub(1, 64)) end
  end
  if count > MAX_FILES then invalid("there are %d pieces of code; at most %d", count, MAX_FILES) end
  if count == 0 then return code end
  local manifest = code[bundle] and json.decode(code[bundle])
  if type(manifest) ~= "table" or type(manifest.files) ~= "table" then invalid("its code is not that of its bundle") end
  for path, hash in pairs(manifest.files) do
    if type(path) ~= "string" or type(hash) ~= "string" or not code[hash] then invalid("the code of %q is missing", tostring(path):sub(1, 200)) end
  end
  return code
end

function M.document(text)
  local doc, err = json.decode(text, RAW_DOCUMENT)
  if err then invalid("%s", err.message) end
  if type(doc) ~= "table" or doc.format ~= "moonwatch.execution" then invalid("its format is not moonwatch.execution") end
  if doc.version ~= 1 then invalid("its version is %s, and this server reads 1", tostring(doc.version):sub(1, 20)) end
  local run = read_run(doc.execution)
  return { execution = run, journal = read_journal(doc.journal), signals = read_signals(doc.signals), code = read_code(doc.code, run.bundle) }
end

return M
