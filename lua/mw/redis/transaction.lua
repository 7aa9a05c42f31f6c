-- SPDX-License-Identifier: MIT

--- mw.redis.transaction: commands that Redis runs together or not at all (MULTI … EXEC), if nobody changed the watched keys meanwhile.
--
--   local replies = mw.redis.transaction(function(tx)
--     local left = tonumber(tx:call("GET", "stock"))        -- runs at once
--     if left == 0 then return end                          -- nothing queued: nothing happens
--     tx:queue("DECR", "stock")                             -- runs at the end, with the others
--     tx:queue("RPUSH", "orders", id)
--   end, { watch = { "stock" } })
--
-- The replies of what was queued come in order; an entry is an error object when that command failed, since Redis runs the others all the
-- same. When a watched key was changed by somebody, nothing was done and the function is called again, up to `retries` times (default 3);
-- then it raises `conflict`, retryable. So the function must have no other effects. An error in it drops what is queued and is raised again.
-- With `watch` it uses a connection of its own; without, it is one write on the shared one.

local core = require "mw.core.redis"
local errors = require "mw.errors"
local json = require "mw.core.json"
local validate = require "mw.validate"

local M = {}

---@class mw.RedisTx
local Tx = {}
Tx.__index = Tx
Tx.__metatable = "mw.redis.tx"

local states = setmetatable({}, { __mode = "k" })

local function state_of(tx, what)
  local state = states[tx]
  if not state then errors.throw("invalid", what .. ": the transaction is over; use tx inside the function given to mw.redis.transaction") end
  return state
end

--- Runs a command at once, before the transaction proper.
---@param ... string|number
---@return any
function Tx:call(...)
  local state = state_of(self, "tx:call")
  local argv = { n = select("#", ...), ... }
  state.check_name("tx:call", argv)
  local value, err = core.call(state.session, argv, state.timeout)
  if err then errors.raise(err) end
  return value
end

--- Adds a command to what is run together at the end. Does not wait.
---@param ... string|number
function Tx:queue(...)
  local state = state_of(self, "tx:queue")
  local argv = { n = select("#", ...), ... }
  state.check_name("tx:queue", argv)
  state.queued[#state.queued + 1] = argv
end

-- Sends MULTI, what is queued, EXEC. Returns the replies, or false when a watched key was changed.
local function execute(state)
  local list = { { "MULTI" } }
  for _, argv in ipairs(state.queued) do list[#list + 1] = argv end
  list[#list + 1] = { "EXEC" }
  local replies = errors.check(core.pipeline(state.session, list, state.timeout))
  local outcome = replies[#replies]
  if errors.is(outcome) then -- one of them was refused, and so all were: its own words say more than EXECABORT
    for i = 1, #replies - 1 do
      if errors.is(replies[i]) then errors.raise(replies[i]) end
    end
    errors.raise(outcome)
  end
  if outcome == json.null then return false end
  return outcome
end

local function finish(state)
  if #state.queued > 0 then return execute(state) end
  if state.session then errors.check(core.call(state.session, { "UNWATCH" }, state.timeout)) end -- it may serve another then
  return json.array {}
end

local function watch(state, keys)
  local argv = { "WATCH" }
  for i = 1, #keys do argv[i + 1] = keys[i] end
  errors.check(core.call(state.session, argv, state.timeout))
end

local function attempt(state, fn, keys)
  local tx = setmetatable({}, Tx)
  state.queued = {}
  if state.session then watch(state, keys) end
  states[tx] = state
  local ok, err = errors.pcall(fn, tx)
  states[tx] = nil
  if not ok then error(err, 0) end
  return finish(state)
end

local function attempts(state, fn, keys, retries)
  for _ = 0, retries do
    local replies = attempt(state, fn, keys)
    if replies then return replies end
  end
  errors.throw("conflict", ("mw.redis.transaction: a watched key was changed by others %d times in a row"):format(retries + 1), { retryable = true })
end

local function check_keys(keys)
  if keys == nil or #keys == 0 then return nil end
  for i, key in ipairs(keys) do
    if type(key) ~= "string" then
      errors.throw("invalid", ("mw.redis.transaction: key %d of watch must be a string, got %s"):format(i, validate.describe(key)))
    end
  end
  return keys
end

local options = { watch = "table", retries = "integer" }

function M.run(timeout, check_name, fn, opts)
  validate.arg("mw.redis.transaction", 1, "fn", fn, "function")
  opts = validate.options("mw.redis.transaction", opts, options)
  local keys, retries = check_keys(opts.watch), opts.retries or 3
  if retries < 0 or retries > 100 then errors.throw("invalid", "mw.redis.transaction: retries must be from 0 to 100") end
  local state = { timeout = timeout, check_name = check_name }
  if not keys then return attempts(state, fn, keys, 0) end
  state.session = errors.check(core.open())
  local ok, result = errors.pcall(attempts, state, fn, keys, retries)
  state.session:close(ok)
  if not ok then error(result, 0) end
  return result
end

return M
