-- SPDX-License-Identifier: MIT

--- Executions in specs: app:trigger, app:run, app:step, app:stub_step, on the real engine, with its retries and backoff on the virtual
--- clock.

local app = require "mw.testing.app"
local errors = require "mw.errors"
local json = require "mw.core.json"
local validate = require "mw.validate"

local App, answers = app.App, app.answers

local M = {}

local resting = { completed = true, failed = true, cancelled = true, stuck = true, blocked = true }

---@class mw.testing.Run
---@field id string
---@field workflow string
---@field status string "completed", "failed", "sleeping" …
---@field input any
---@field output any
---@field error? { code: string, message: string, step?: string, where?: string }
---@field steps table[] in order, and by name: { name, status, attempts, result, error, tries }
---@field results table<string, any> results of finished steps
---@field journal table[] the rows as lua/mw/workflow/journal.lua writes them
local Run = {}
Run.__index = Run

local function trouble(err) return ("%s (%s)%s"):format(err.message, err.code, err.where and " at " .. err.where or "") end

--- What happened, step by step.
function Run:__tostring()
  local lines = { ("run of %q is %s%s"):format(self.workflow, self.status, self.error and ": " .. trouble(self.error) or "") }
  for _, step in ipairs(self.steps) do
    lines[#lines + 1] = ("  step %q %s after %d attempt%s"):format(step.name, step.status, step.attempts, step.attempts == 1 and "" or "s")
    for _, try in ipairs(step.tries) do
      if try.status ~= "completed" then
        lines[#lines + 1] = ("    attempt %d %s%s"):format(try.attempt, try.status, try.error and ": " .. trouble(try.error) or "")
      end
    end
  end
  return table.concat(lines, "\n")
end

--- The run itself when it completed; else fails with what happened, step by step.
---@return mw.testing.Run
function Run:ok()
  if self.status == "completed" then return self end
  app.fail("%s", tostring(self))
end

--- Reads the execution again.
---@return mw.testing.Run
function Run:refresh() return self.app:get_run(self.id) end

--- The execution of that id as it stands.
---@param id string
---@return mw.testing.Run
function App:get_run(id)
  local run = app.call(self, "execution", { id = id })
  local list, by_name = {}, {}
  run.results = {}
  for i, step in ipairs(run.steps) do
    list[i], by_name[step.name] = step, step
    if step.status == "completed" then run.results[step.name] = step.result end
  end
  run.steps, run.app = setmetatable(list, { __index = by_name }), self
  return setmetatable(run, Run)
end

--- `mw.trigger`: starts an execution, which goes on when the app runs.
---@param name string
---@param input? any
---@param opts? { id?: string, group?: string, delay?: number|string, at?: number, priority?: integer, tags?: string[] }
---@return { id: string, created: boolean }
function App:trigger(name, input, opts)
  validate.arg("app:trigger", 1, "name", name, "string")
  return app.call(self, "trigger", { name = name, input = input, opts = opts })
end

--- `mw.signal`: sends a signal to an execution. A run that waits for it goes on when the app runs.
---@param id string
---@param name string
---@param data? any
---@param opts? { id?: string }
function App:signal(id, name, data, opts)
  validate.arg("app:signal", 1, "id", id, "string")
  validate.arg("app:signal", 2, "name", name, "string")
  app.call(self, "signal", { id = id, name = name, data = data, opts = opts })
  self:settle()
end

--- Cancels an execution as an operator does; `undo` calls the undo functions of what it did.
---@param id string
---@param opts? { undo?: boolean, reason?: string }
function App:cancel(id, opts)
  validate.arg("app:cancel", 1, "id", id, "string")
  app.call(self, "cancel", { id = id, opts = validate.options("app:cancel", opts, { undo = "boolean", reason = "string" }) })
  self:settle()
end

--- Lets time pass until the execution rests: completed, failed, cancelled, stuck or blocked, or waiting for what does not come by itself.
---@param id string
---@param within? number|string of the virtual clock; default: a year
---@return mw.testing.Run
function App:wait_run(id, within)
  local from = self.now
  self:advance_until(function() return resting[self.statuses[id]] end, within)
  local run = self:get_run(id)
  if within and not resting[run.status] then
    app.fail("%s\nand still after %s of the virtual clock", tostring(run), ("%.1f s"):format(self.now - from))
  end
  return run
end

--- Starts an execution and lets time pass until it rests. It fails when that takes longer than `within`.
---@param name string
---@param input? any
---@param opts? { id?: string, within?: number|string }
---@return mw.testing.Run
function App:run(name, input, opts)
  opts = validate.options("app:run", opts, { id = "string", within = "duration" })
  local started = self:trigger(name, input, opts.id and { id = opts.id } or nil)
  return self:wait_run(started.id, opts.within)
end

--- Calls one step's function of a workflow in list form, by itself: no journal, no retries. What it raises is raised.
---@param name string
---@param step string
---@param fields? { input?: any, results?: table<string, any>, attempt?: integer, id?: string }
---@return any result
function App:step(name, step, fields)
  fields = validate.options("app:step", fields, { input = "any", results = "table", attempt = "integer", id = "string" })
  local input = fields.input
  if input == nil then input = json.null end
  return app.call(self, "step", {
    name = name, step = step, input = input, results = fields.results, attempt = fields.attempt, id = fields.id,
  })
end

-- ---- stubbed steps ----

--- Answers for a step's function, in all runs of the workflow. `answer`: the result; an error object (mw.error, testing.error) that the
--- step fails with; or function({id, workflow, step, attempt, input, results}) that returns the result or raises.
---@param workflow string
---@param step string
---@param answer any
function App:stub_step(workflow, step, answer)
  self.step_stubs = self.step_stubs or {}
  self.step_stubs[workflow .. "\0" .. step] = { answer = answer }
end

local function stub_of(self, event) return self.step_stubs and self.step_stubs[event.workflow .. "\0" .. event.step] end

function answers.stub(self, event)
  local answer = stub_of(self, event).answer
  if type(answer) == "function" then return app.reply(answer, event) end
  return app.reply(function()
    if errors.is(answer) then error(answer, 0) end
    return answer
  end)
end

-- ---- what the engine tells ----

function answers.created(self, event)
  self.triggered[#self.triggered + 1] = { id = event.id, name = event.workflow, input = event.input, external_id = event.external_id }
end

function answers.status(self, event) self.statuses[event.id] = event.status end

local function reach(self, point)
  return self.on_point and self.on_point(point) and { crash = true } or nil
end

function answers.step(self, event)
  local crash = reach(self, { kind = "called", id = event.id, workflow = event.workflow, step = event.step, attempt = event.attempt })
  return crash or { stub = stub_of(self, event) ~= nil }
end

function answers.point(self, event) return reach(self, event) end

return M
