-- SPDX-License-Identifier: MIT

--- mw.core.store in memory: executions and journal with owners and fences, durable at the end of a turn.
--
--   local store = fakes_store.new(task, before)           -- `before`: the store of the process before, whose data it takes over
--   store.rows[id], store.journals[id], store.commits     -- what is "on disk"
--   store.refuse = function(kind, …) return err end       -- failures on demand
--   store.send(id, name, data, signal_id)                 -- a signal, as store.signal does it
--
-- As the real one: a signal queues the run that waits for it, whichever comes first; the end of a child is a signal to its parent; ended
-- runs have no signals. Groups are not here.

local function new(task, before)
  local M = before and {
    rows = before.rows, journals = before.journals, order = before.order, code = before.code, keys = before.keys, mail = before.mail,
    epoch = before.epoch + 1, commits = 0, claims = 0,
  } or { rows = {}, journals = {}, order = {}, code = {}, keys = {}, mail = {}, commits = 0, claims = 0, epoch = 1 }

  M.notices = {}
  M.on_query = function() return {} end -- for other SQL: the rows

  local function error_of(code, message) return require("mw.errors").new(code, message or code) end

  local function durable(kind, fn, ...)
    local refused = M.refuse and M.refuse(kind, ...)
    if not task.is_task() then
      if not refused then fn() end
      return true
    end
    return task.await(function(done)
      if refused then return done(nil, refused) end
      done(fn())
    end)
  end

  local function known(name, value, workflow, hash)
    local key = value and name .. "\0" .. (name == "id" and workflow .. "\0" or "") .. value
    local id = key and M.keys[key]
    if not id then return nil, key end
    if M.rows[id].request_hash ~= hash then return false, key end
    return id, key
  end

  local function find(list, id)
    for i, signal in ipairs(list) do if signal.id == id then return i, signal end end
  end

  local function is_awaited(row)
    for _, signal in ipairs(M.mail[row.id]) do
      for _, name in ipairs(row.waits or {}) do
        if not signal.taken and signal.name == name then return true end
      end
    end
  end

  local function wake(row)
    if row.status == 4 and is_awaited(row) then row.status, row.due_us = 1, math.min(row.due_us, task.now_us) end
  end

  function M.send(id, name, data, signal_id)
    local row = M.rows[id]
    if not row then return nil, error_of("not_found") end
    if row.status >= 8 then return nil, error_of("conflict") end
    local mail = M.mail[id]
    signal_id = signal_id or "s" .. #mail + 1
    if find(mail, signal_id) then return true end
    mail[#mail + 1] = { id = signal_id, name = name, data = data, sent_us = task.now_us }
    wake(row)
    return true
  end

  local names = { [8] = "completed", [9] = "failed", [10] = "cancelled" }

  local function at_end(row)
    M.mail[row.id] = {}
    if not row.parent_key then return end
    M.send(row.parent, "$child:" .. row.parent_key, string.format('{"status":"%s","output":%s,"error":%s}', names[row.status],
      row.output or "null", row.error or "null"), row.id .. ":" .. row.fence)
  end

  function M.signal(id, name, data, signal_id)
    return durable("signal", function() return M.send(id, name, data, signal_id) end, id, name)
  end

  function M.signals(id, one)
    return durable("signals", function()
      local list = {}
      for _, signal in ipairs(M.mail[id]) do
        local is_large = not one and #(signal.data or "") > 256
        local shown = { id = signal.id, name = signal.name, sent_us = signal.sent_us, data = not is_large and signal.data or nil, is_large = is_large and 1 or nil }
        if one and signal.id == one or not (one or signal.taken) then list[#list + 1] = shown end
      end
      return list
    end)
  end

  function M.create(workflow, input, bundle, seed, status, due_us, external_id, key, hash, app, _, more)
    return durable("create", function()
      local by_id, id_key = known("id", external_id, workflow, hash)
      local by_key, key_key = known("key", key, workflow, hash)
      if by_id == false or by_key == false then return nil, error_of("conflict") end
      if by_id or by_key then return by_id or by_key, false end
      local id = more and more.id or string.format("0190aaaa-0000-7000-8000-%012x", #M.order + 1)
      if M.rows[id] then return id, false end
      M.rows[id] = {
        id = id, workflow = workflow, input = input, bundle = bundle, seed = seed, status = status, due_us = due_us or 0,
        fence = status == 2 and 1 or 0, epoch = M.epoch, created_us = task.now_us, external_id = external_id, request_hash = hash,
        app = app or "default", parent = more and more.parent, parent_key = more and more.parent_key, group = more and more.group,
        priority = more and more.priority, tags = more and more.tags, slots = more and more.slots, control = 0,
      }
      M.mail[id] = {}
      M.journals[id], M.order[#M.order + 1] = {}, id
      if id_key then M.keys[id_key] = id end
      if key_key then M.keys[key_key] = id end
      M.commits = M.commits + 1
      return id, true
    end, workflow, input)
  end

  function M.append(id, fence, number, data, status, due_us, output, err, _, more)
    return durable("append", function()
      local row, journal = M.rows[id], M.journals[id]
      if row.fence ~= fence or row.epoch ~= M.epoch or row.status ~= 2 then return nil, error_of("stale") end
      if number > 0 then
        assert(data, "a numbered append without a row")
        if journal[number] then return true end
        assert(number == #journal + 1, "journal rows have no gaps")
        journal[number] = { number = number, data = data, at_us = task.now_us }
      end
      more = more or {}
      assert(not more.take or number > 0, "signals are taken with a row")
      for _, taken in ipairs(more.take or {}) do
        local _, signal = find(M.mail[id], taken)
        signal.taken = true
      end
      row.state = more.state or row.state
      if status then
        row.status, row.due_us, row.output, row.error, row.waits = status, due_us or row.due_us, output, err, more.waits
        if status >= 8 then at_end(row) end
        wake(row)
      end
      M.commits = M.commits + 1
      return true, row.control ~= 0 and row.control or nil
    end, id, number, data, status)
  end

  local function claimed(row, orphan)
    row.status, row.fence, row.epoch = 2, row.fence + 1, M.epoch
    return {
      id = row.id, fence = row.fence, created_us = row.created_us, interrupted = orphan, workflow = row.workflow, input = row.input,
      bundle = row.bundle, seed = row.seed, app = row.app, api_level = 1, parent = row.parent, parent_key = row.parent_key,
      control = row.control ~= 0 and row.control or nil,
    }
  end

  function M.claim(limit)
    return durable("claim", function()
      M.claims = M.claims + 1
      local list, next_due = {}, nil
      for _, id in ipairs(M.order) do
        local row = M.rows[id]
        local orphan = row.status == 2 and row.epoch ~= M.epoch
        local waiting = row.status == 1 or row.status == 3 or row.status == 4
        if #list < limit and (orphan or (waiting and row.due_us <= task.now_us)) then
          list[#list + 1] = claimed(row, orphan)
        elseif waiting and (not next_due or row.due_us < next_due) then
          next_due = row.due_us
        end
      end
      return list, next_due
    end)
  end

  -- The body computes for long when `late` is set: what waits is written before the body goes on.
  function M.append_late(id, fence, number, data)
    if not M.late then return nil end
    assert(M.rows[id].fence == fence and number == #M.journals[id] + 1)
    M.journals[id][number] = { number = number, data = data, at_us = task.now_us }
    M.commits = M.commits + 1
    return 1
  end
  function M.take_late() return not M.late end

  function M.notify(id) M.notices[#M.notices + 1] = id or "work" end
  function M.engine() return "sqlite" end

  function M.lease_left() return math.huge end
  function M.journal(id) return durable("journal", function() return M.journals[id] end) end
  function M.get(id) return durable("get", function() return M.rows[id] end) end

  function M.put_code(list)
    return durable("put_code", function()
      for _, code in ipairs(list) do M.code[code.hash] = code.text end
      return true
    end)
  end

  function M.query(db, sql, params)
    if sql:find("SELECT control", 1, true) then
      local row = M.rows[params[1].id]
      return durable("query", function() return { { control = row.fence == params[2] and row.control or 0, error = row.error } } end)
    end
    return durable("query", function() return M.on_query(db, sql, params) end, sql)
  end

  return M
end

return { new = new }
