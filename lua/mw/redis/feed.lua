-- SPDX-License-Identifier: MIT

--- mw.redis.subscribe: messages of channels, one after the other, in the task that asks for them.
--
--   for message in mw.redis.subscribe { "news", "alerts" } do     -- one channel may be given as a string
--     message.channel, message.payload, message.pattern           -- pattern: for what a pattern brought
--     message.dropped                                             -- how many before it were dropped because this task was too slow
--     message.gap                                                 -- true: the connection was lost before it, and messages with it
--   end
--   local feed = mw.redis.subscribe("jobs.*", { patterns = true, queue = 100, on_gap = function(dropped) … end })
--   local message = feed:next("5s")                               -- raises timeout; nil when the subscription is over
--   feed:close()
--
-- Options:
--   patterns   the names are patterns as PSUBSCRIBE takes them: false
--   queue      how many messages (and at most 8 MiB) wait for the task: 1000; beyond, the oldest is dropped and counted
--   on_gap     called in the reading task as soon as messages may have been missed because the connection was lost, before the next
--              message; whoever keeps a state reads it anew there
--
-- When subscribe returns, Redis has confirmed: what is published from then on comes, at most once. After a lost connection it subscribes
-- again by itself. A feed ends (the loop does) when it is closed, when the task that subscribed ends, and when a reload has made another
-- generation or the server drains. It raises when Redis refuses the channel.

local core = require "mw.core.redis"
local errors = require "mw.errors"
local runtime = require "mw._runtime"
local validate = require "mw.validate"

local M = {}

---@class mw.RedisMessage
---@field channel string
---@field payload string
---@field pattern? string
---@field dropped integer messages before it that this task was too slow for
---@field gap boolean true: the connection was lost before it

---@class mw.RedisFeed
local Feed = {}
local meta = { __index = Feed, __metatable = "mw.redis.feed" }

local handles = setmetatable({}, { __mode = "k" })

local function state_of(feed)
  local state = handles[feed]
  if not state then errors.throw("invalid", "feed:next: call it with a colon on what mw.redis.subscribe returned") end
  return state
end

local function note_gap(state, dropped)
  state.gap = true
  state.dropped = state.dropped + dropped
  if state.on_gap then state.on_gap(state.dropped) end
end

--- The next message; nil when it is over. Waits, at most `timeout`, then raises `timeout`.
---@param timeout? mw.Duration
---@return mw.RedisMessage? message
function Feed:next(timeout)
  local state = state_of(self)
  local seconds = timeout ~= nil and validate.duration("feed:next: timeout", timeout) or nil
  if seconds == 0 then seconds = 0.001 end
  while true do
    local kind, channel, payload, pattern, dropped = state.handle:next(seconds)
    if kind == nil then errors.raise(errors.from(channel)) end
    if kind == "end" then return nil end
    if kind == "message" then
      local message = { channel = channel, payload = payload, pattern = pattern, dropped = state.dropped + dropped, gap = state.gap }
      state.dropped, state.gap = 0, false
      return message
    end
    note_gap(state, dropped)
  end
end

--- Ends the subscription. Harmless twice.
function Feed:close() state_of(self).handle:close() end

function meta.__call(feed) return feed:next() end

local function names_of(channels)
  if type(channels) == "string" then return { channels } end
  validate.arg("mw.redis.subscribe", 1, "channels", channels, "string|table")
  local names, seen = {}, {}
  for _, name in ipairs(channels) do
    if not seen[name] then names[#names + 1] = name end
    seen[name] = true
  end
  return names
end

local options = { patterns = "boolean", queue = "integer", on_gap = "function" }

function M.subscribe(timeout, channels, opts)
  opts = validate.options("mw.redis.subscribe", opts, options)
  local queue = opts.queue or 1000
  if queue < 1 or queue > 100000 then errors.throw("invalid", "mw.redis.subscribe: queue must be from 1 to 100000") end
  local handle = errors.check(core.subscribe(names_of(channels), opts.patterns or false, queue))
  local ok, err = handle:ready(timeout or runtime.config("redis.timeout"))
  if not ok then
    handle:close()
    errors.raise(err)
  end
  local feed = setmetatable({}, meta)
  handles[feed] = { handle = handle, dropped = 0, gap = false, on_gap = opts.on_gap }
  return feed
end

return M
