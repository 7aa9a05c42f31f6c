-- SPDX-License-Identifier: MIT

--- mw.core.task in plain Lua with a virtual clock: tasks are coroutines, waits end when the specs' loop (`run`) comes to them.
--
--   local task = fakes_task.new()
--   task.spawn(fn, "what", nil, …);  task.run()        -- until nothing is left to do, moving the clock
--   task.now_us                                        -- the clock

local function new()
  local M = { now_us = 1.7e15, current = true }
  local ready, timers = {}, {}
  local running

  local function error_of(code, message)
    return require("mw.errors").new(code, message or code)
  end

  local function finish(t, ok, err)
    t.finished = true
    if ok then return end
    if t.on_fail then t.on_fail(t.on_fail_arg, err) else M.lost = err end
  end

  local function resume(t, ...)
    if t.finished then return end
    local before = running
    running = t
    t.pending = nil
    local ok, err = coroutine.resume(t.co, ...)
    running = before
    if not ok then finish(t, false, err) elseif coroutine.status(t.co) == "dead" then finish(t, true) end
  end

  local function suspend(pending)
    local t = running
    if t.dead then return nil, t.dead end
    t.pending = pending
    return coroutine.yield()
  end

  local function later(t, pending, ...)
    local args = { n = select("#", ...), ... }
    ready[#ready + 1] = function()
      if t.pending == pending then resume(t, unpack(args, 1, args.n)) end
    end
  end

  local function at(us, fn)
    local timer = { us = us, fn = fn }
    timers[#timers + 1] = timer
    return timer
  end

  local function kill(t, err)
    t.dead = err
    if t.pending then later(t, t.pending, nil, err) end
  end

  function M.spawn(fn, what, _, ...)
    local t = { co = coroutine.create(fn), what = what }
    M.last = t
    resume(t, ...)
    return {
      cancel = function(_, code, why) if not t.finished then kill(t, error_of(code or "cancelled", why)) end end,
      done = function() return t.finished end,
    }
  end

  --- Cancels a task by what it is: the drain's end.
  function M.kill(t, code) if not t.finished then kill(t, error_of(code)) end end

  function M.sleep(seconds)
    local t, pending = running, {}
    at(M.now_us + seconds * 1e6, function() later(t, pending, true) end)
    return suspend(pending)
  end

  --- For fakes: suspends until what `start` was given is called.
  function M.await(start)
    local t, pending = running, {}
    if t.dead then return nil, t.dead end
    start(function(...) later(t, pending, ...) end)
    return suspend(pending)
  end

  function M.park(_, timeout)
    local t, pending = running, {}
    t.parked = pending
    if timeout then at(M.now_us + timeout * 1e6, function() later(t, pending, nil, error_of("timeout")) end) end
    return suspend(pending)
  end

  function M.token() return running end

  function M.wake(t, ...)
    if t.finished then return false end
    local args = { n = select("#", ...), ... }
    ready[#ready + 1] = function()
      if t.pending and t.pending == t.parked then resume(t, unpack(args, 1, args.n)) end
    end
    return true
  end

  function M.set_timeout(seconds)
    local t = running
    if t.deadline then t.deadline.fn = function() end end
    t.deadline_us = seconds and M.now_us + seconds * 1e6
    t.deadline = seconds and at(t.deadline_us, function()
      if not t.finished then kill(t, error_of("timeout", "the time for it is over")) end
    end)
  end

  function M.left() return running.deadline_us and (running.deadline_us - M.now_us) / 1e6 end
  function M.on_fail(fn, arg) running.on_fail, running.on_fail_arg = fn, arg end
  --- As the sandbox's: lets the end of the task through.
  function M.pcall(fn, ...)
    local t = running
    local results = { n = 0, pcall(fn, ...) }
    if not results[1] and t and t.dead then error(results[2], 0) end
    return unpack(results, 1, 10)
  end

  --- What the watchdog does to the running task.
  function M.kill_running()
    running.dead = error_of("killed", "it ran too long without a pause")
    error(running.dead, 0)
  end

  function M.is_current() return M.current end
  function M.is_task() return running ~= nil end
  function M.loading() return false end
  function M.check() end
  function M.what() return running and running.what end
  function M.local_set(value) running.context = value end
  function M.local_get() return running and running.context end

  local function next_timer(until_us)
    local best
    for i, timer in ipairs(timers) do
      if timer.us <= until_us and (not best or timer.us < timers[best].us) then best = i end
    end
    return best and table.remove(timers, best)
  end

  --- Runs only what is ready now.
  function M.turn()
    while #ready > 0 do table.remove(ready, 1)() end
  end

  --- Runs what is ready, then timers in order, for `seconds` (60) of the clock.
  function M.run(seconds)
    local until_us = M.now_us + (seconds or 60) * 1e6
    while true do
      M.turn()
      local timer = next_timer(until_us)
      if not timer then break end
      M.now_us = math.max(M.now_us, timer.us)
      timer.fn()
    end
    if M.lost then
      local err = M.lost
      M.lost = nil
      error(err, 0)
    end
  end

  --- Runs fn in a task; returns what it returned.
  function M.call(fn, ...)
    local results
    M.spawn(function(...) results = { pcall(fn, ...) } end, "call", nil, ...)
    M.turn()
    for _ = 1, 1000 do
      if results then break end
      local timer = next_timer(math.huge)
      if not timer then break end
      M.now_us = math.max(M.now_us, timer.us)
      timer.fn()
      M.turn()
    end
    assert(results, "the task did not end")
    if not results[1] then error(results[2], 0) end
    return unpack(results, 2, 8)
  end

  --- Ends every task, as the end of a process does: nothing of them runs again.
  function M.crash() ready, timers = {}, {} end

  return M
end

return { new = new }
