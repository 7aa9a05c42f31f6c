-- SPDX-License-Identifier: MIT

--- mw.redis: the Redis that `redis` names in the configuration.
--
--   mw.redis.call("SET", "greeting", "hello", "EX", 60)      -- any command; returns its reply
--   mw.redis.get("greeting")                                 -- every command is a method of its name, in small letters
--   mw.redis.hgetall("user:1").name                          -- the one reply that is made into a table by name
--   local r = mw.redis.pipeline { { "INCR", "hits" }, { "GET", "greeting" } }   -- one write; replies in order
--   local add = mw.redis.script [[ return redis.call("INCRBY", KEYS[1], ARGV[1]) ]]     -- at the top of a file
--   add({ "total" }, { 5 })
--   mw.redis.transaction(function(tx) … end)                 -- lua/mw/redis/transaction.lua
--   mw.redis.publish("news", text)                           for message in mw.redis.subscribe "news" do … end
--   mw.redis.with { timeout = "200ms" }.get("greeting")      -- the same with another deadline
--
-- Arguments are strings (any bytes) and numbers; anything else raises. Replies: strings, numbers (an integer beyond 2^53 is text, because a
-- number would lie), nil; lists, in which mw.null stands for nil. A reply that is an error raises; in a pipeline its place holds the error
-- object instead, so that the others are not lost. err.redis is the first word of what Redis said ("WRONGTYPE").
--
-- All commands of a worker share one connection and are pipelined. Each has a deadline (redis.timeout, 5 s). Codes: unavailable (Redis is
-- away, loading, or lost the connection; retryable), timeout, busy, denied (password or ACL), limit, invalid, config (nothing is configured,
-- or a Redis Cluster), redis (every other refusal). A command that was sent and not answered "may have been executed", and
-- is never sent again by itself.
--
-- BLPOP and its like wait on a connection of their own, and their deadline is their own timeout plus redis.timeout. Commands that
-- change a connection (SELECT, AUTH, MULTI, SUBSCRIBE, …) are refused, with what to use instead.

local core = require "mw.core.redis"
local errors = require "mw.errors"
local json = require "mw.core.json"
local runtime = require "mw._runtime"
local validate = require "mw.validate"

local M = {}

local function packed(...) return { n = select("#", ...), ... } end

-- ---- which commands ----

local config = "it belongs to the connection, which all plugins share: set it in redis.url"
local transaction = "use mw.redis.transaction(function(tx) … end)"
local feed = "use mw.redis.subscribe(channels)"
local shared = "it would change the connection that all plugins share"
local own = "it is about the writes of its own connection, and all plugins share one"

local refused = {
  AUTH = config, SELECT = config, HELLO = shared, QUIT = shared, RESET = shared, MONITOR = shared, SYNC = shared, PSYNC = shared,
  WAIT = own, WAITAOF = own,
  REPLCONF = shared, ASKING = shared, READWRITE = shared, READONLY = shared,
  MULTI = transaction, EXEC = transaction, DISCARD = transaction, WATCH = transaction, UNWATCH = transaction,
  SUBSCRIBE = feed, PSUBSCRIBE = feed, SSUBSCRIBE = feed, UNSUBSCRIBE = feed, PUNSUBSCRIBE = feed, SUNSUBSCRIBE = feed,
}

local refused_client = { REPLY = true, TRACKING = true, CACHING = true, SETNAME = true }

-- Where a blocking command has its timeout in seconds.
local blocking = {
  BLPOP = "last", BRPOP = "last", BRPOPLPUSH = "last", BLMOVE = "last", BZPOPMIN = "last", BZPOPMAX = "last", BLMPOP = "first", BZMPOP = "first",
}

local function check_name(what, argv)
  local name = argv[1]
  if type(name) ~= "string" or name == "" then
    errors.throw("invalid", what .. ": the first argument is the name of a command: mw.redis.call(\"GET\", key)")
  end
  name = name:upper()
  local instead = refused[name]
  if not instead and name == "CLIENT" and type(argv[2]) == "string" and refused_client[argv[2]:upper()] then instead = shared end
  if instead then errors.throw("invalid", ("%s: %s cannot be sent: %s"):format(what, name, instead)) end
  return name
end

-- XREAD … BLOCK ms … STREAMS: in seconds, or nil.
local function stream_wait(argv)
  for i = 2, argv.n - 1 do
    local word = type(argv[i]) == "string" and argv[i]:upper()
    if word == "STREAMS" then return nil end
    if word == "BLOCK" then return (tonumber(argv[i + 1]) or 0) / 1000 end
  end
end

-- How many seconds a command may block in Redis; 0: without end; nil: it does not block.
local function blocks_for(name, argv)
  local place = blocking[name]
  if place then return tonumber(place == "first" and argv[2] or argv[argv.n]) or 0 end
  if name == "XREAD" or name == "XREADGROUP" then return stream_wait(argv) end
end

-- ---- calling ----

local function in_session(fn)
  local session = errors.check(core.open())
  local value, err = fn(session)
  session:close(err == nil)
  return value, err
end

local function raise(err, what)
  if err.code == "invalid" and not err.redis then err.message = what .. ": " .. err.message end
  if err.code == "denied" then err.status = 500 end -- to us, not to the client whose request this is
  errors.raise(err)
end

-- The longest a command that blocks "for ever" waits: no wait is without a deadline.
local LONGEST = 3600

local function call(what, timeout, argv)
  local name = check_name(what, argv)
  local wait = blocks_for(name, argv)
  local value, err
  if wait == nil then
    value, err = core.call(nil, argv, timeout)
  else
    local total = (wait > 0 and math.min(wait, LONGEST) or LONGEST) + (timeout or runtime.config("redis.timeout"))
    value, err = in_session(function(session) return core.call(session, argv, total) end)
  end
  if err then raise(err, what) end
  return value
end

local function by_name(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local function check_pipeline(what, list)
  validate.arg(what, 1, "commands", list, "table")
  for i = 1, #list do
    if type(list[i]) ~= "table" then
      errors.throw("invalid", ("%s: command %d must be a list like {\"GET\", key}, got %s"):format(what, i, validate.describe(list[i])))
    end
    local name = check_name(what, list[i])
    if blocks_for(name, { n = #list[i], unpack(list[i]) }) ~= nil then
      errors.throw("invalid", ("%s: %s waits, and would hold up everyone behind it: use mw.redis.call"):format(what, name))
    end
  end
end

local function pipeline(timeout, list)
  check_pipeline("mw.redis.pipeline", list)
  if #list == 0 then return json.array {} end
  local replies, err = core.pipeline(nil, list, timeout)
  if err then raise(err, "mw.redis.pipeline") end
  return replies
end

-- ---- scripts ----

local function script_argv(command, body, keys, args)
  local argv = { command, body, #keys }
  for i = 1, #keys do argv[#argv + 1] = keys[i] end
  for i = 1, #args do argv[#argv + 1] = args[i] end
  return argv
end

--- A callable for a script: `script(keys, args)`. It is sent by its digest, and in full when Redis does not know it (any more).
local function script(guard, timeout, source)
  validate.arg("mw.redis.script", 1, "source", source, "string")
  local digest
  return guard("a script of mw.redis.script", function(keys, args)
    keys, args = keys or {}, args or {}
    validate.arg("script", 1, "keys", keys, "table")
    validate.arg("script", 2, "args", args, "table")
    digest = digest or require("mw.crypto").digest("sha1", source)
    local value, err = core.call(nil, script_argv("EVALSHA", digest, keys, args), timeout)
    if err and err.redis == "NOSCRIPT" then value, err = core.call(nil, script_argv("EVAL", source, keys, args), timeout) end
    if err then raise(err, "script") end
    return value
  end)
end

-- ---- the table of a plugin ----

local function seconds(what, value)
  local s = validate.duration(what .. ": timeout", value, true)
  if s <= 0 then errors.throw("invalid", what .. ": timeout must be more than 0") end
  return s
end

---@class mw.Redis
---@field call fun(command: string, ...: string|number): any
---@field pipeline fun(commands: (string|number)[][]): any[] replies in order; a refused command's is its error
---@field script fun(source: string): fun(keys?: (string|number)[], args?: (string|number)[]): any
---@field transaction fun(fn: fun(tx: mw.RedisTx), opts?: { watch?: string[], retries?: integer }): any[]?
---@field subscribe fun(channels: string|string[], opts?: { patterns?: boolean, queue?: integer, on_gap?: fun(dropped: integer) }): mw.RedisFeed
---@field hgetall fun(key: string|number): table<string, string>
---@field with fun(opts: { timeout?: mw.Duration }): mw.Redis
---@field [string] fun(...: string|number): any every command, by its name in small letters

local function add_methods(redis, guard, timeout)
  redis.call = guard("mw.redis.call", function(...) return call("mw.redis.call", timeout, packed(...)) end)
  redis.pipeline = guard("mw.redis.pipeline", function(list) return pipeline(timeout, list) end)
  redis.script = function(source) return script(guard, timeout, source) end
  redis.transaction = guard("mw.redis.transaction", function(fn, opts)
    return require("mw.redis.transaction").run(timeout, check_name, fn, opts)
  end)
  redis.subscribe = guard("mw.redis.subscribe", function(channels, opts)
    return require("mw.redis.feed").subscribe(timeout, channels, opts)
  end)
  redis.hgetall = guard("mw.redis.hgetall", function(...) return by_name(call("mw.redis.hgetall", timeout, packed("HGETALL", ...))) end)
end

local function make(guard, timeout)
  local redis = {}
  add_methods(redis, guard, timeout)
  if timeout == nil then
    redis.with = function(opts)
      opts = validate.options("mw.redis.with", opts, { timeout = "duration" })
      return make(guard, opts.timeout and seconds("mw.redis.with", opts.timeout))
    end
  end
  return setmetatable(redis, {
    __index = function(self, name)
      if type(name) ~= "string" or not name:find("^%l%w*$") then
        errors.throw("invalid", ("mw.redis.%s is no command; write mw.redis.call(\"NAME\", …)"):format(tostring(name)))
      end
      local what, word = "mw.redis." .. name, name:upper()
      local method = guard(what, function(...) return call(what, timeout, packed(word, ...)) end)
      rawset(self, name, method)
      return method
    end,
    __metatable = "mw.redis",
  })
end

--- A plugin's own, so that what one alters nobody else sees. `guard(name, fn)` wraps effects (lua/mw/init.lua).
function M.for_plugin(guard) return make(guard, nil) end

--- The generation is not the newest any more: its subscriptions end.
function M.stop() core.end_feeds() end

return M
