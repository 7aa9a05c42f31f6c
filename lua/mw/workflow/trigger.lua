-- SPDX-License-Identifier: MIT

--- The options with which a run is started, checked: by mw.trigger, ctx:trigger, ctx:call and the HTTP API.
--
--   local o = trigger.check("mw.trigger", { id = "order-17", group = "tenant-3", delay = "10m", priority = 5, tags = { "vip" } })
--   -- o: id, group, priority, tags (JSON text), due_us; whatever else opts had
--
-- `id` is your own name for the run. `group`: runs of a workflow that share it share the limits of its `concurrency`, `ordered` and `rate`.
-- `delay` (a duration) or `at` (seconds since 1970): not before then. `priority`: -100 to 100, higher first. `tags`: up to 16 short
-- strings to find it by.

local errors = require "mw.errors"
local json = require "mw.core.json"
local runtime = require "mw._runtime"
local validate = require "mw.validate"

local M = {}

local MAX_ID, MAX_TAGS, MAX_TAG, MAX_PRIORITY = 255, 16, 64, 100
M.MAX_TAGS = MAX_TAGS

--- Of mw.trigger.
M.options = { id = "string", group = "string", delay = "duration", at = "number", priority = "integer", tags = "table" }

local function throw(...) errors.throw("invalid", string.format(...)) end

local function check_text(what, name, value, most)
  if value ~= nil and (value == "" or #value > most) then throw("%s: %s must have 1 to %d bytes", what, name, most) end
  return value
end

--- What is wrong with a tag, if anything.
function M.tag_problem(tag)
  if type(tag) ~= "string" then return 'tags is a list of strings, like { "vip", "eu" }' end
  if tag == "" or #tag > MAX_TAG then return string.format("a tag must have 1 to %d bytes", MAX_TAG) end
  if tag:find("%c") then return "a tag must not have control characters" end
end

local function tags_text(what, tags)
  if tags == nil then return nil end
  local count = 0
  for key, tag in pairs(tags) do
    count = count + 1
    local problem = M.tag_problem(type(key) == "number" and tag or nil)
    if problem then throw("%s: %s", what, problem) end
  end
  if count > MAX_TAGS then throw("%s: %d tags; at most %d", what, count, MAX_TAGS) end
  if count == 0 then return nil end
  local text, err = json.encode(json.array(tags))
  if not text then throw("%s: %s", what, err.message) end
  return text
end

local function due_of(what, opts)
  if opts.delay ~= nil and opts.at ~= nil then throw("%s: give delay or at, not both", what) end
  if opts.delay ~= nil then return runtime.now_us() + validate.duration(what .. ": delay", opts.delay) * 1e6 end
  if opts.at == nil then return nil end
  if opts.at ~= opts.at or opts.at > 1e11 then throw("%s: at is seconds since 1970, got %s (milliseconds?)", what, tostring(opts.at)) end
  return opts.at * 1e6
end

--- A copy of opts with what the store needs; raises for what cannot be.
function M.check(what, opts)
  local checked = {}
  for key, value in pairs(opts) do checked[key] = value end
  check_text(what, "id", opts.id, MAX_ID)
  check_text(what, "group", opts.group, MAX_ID)
  local priority = opts.priority
  if priority and (priority < -MAX_PRIORITY or priority > MAX_PRIORITY) then
    throw("%s: priority must be between %d and %d, got %d", what, -MAX_PRIORITY, MAX_PRIORITY, priority)
  end
  checked.tags, checked.due_us = tags_text(what, opts.tags), due_of(what, opts)
  checked.delay, checked.at = nil, nil
  return checked
end

return M
