-- SPDX-License-Identifier: MIT
-- kill -9 again and again, on a world that fails as well: while clients trigger executions, the server is killed, or ends itself in the
-- middle of a write, an fsync or a commit, with writes, fsyncs, connections and answers failing in between (core/base/fault.h), and
-- connections to PostgreSQL cut.
--
--   MW_TEST_KILLS=200 MW_TEST_RUNS=500    the whole of it; the default is a handful
--   MW_TEST_SEED=…                        a run again (the seed is printed; what the kernel schedules is not repeated)

local durable = require "support.durable"
local engine_db = require "support.engine_db"
local engines = require "support.engines"
local http = require "support.http"
local posix = require "support.posix"
local proxy = require "support.proxy"
local server = require "support.server"
local upstream = require "support.upstream"

local kills = tonumber(os.getenv("MW_TEST_KILLS") or "8")
local runs = tonumber(os.getenv("MW_TEST_RUNS") or tostring(math.ceil(kills * 2.5)))
local seed = tonumber(os.getenv("MW_TEST_SEED") or tostring(os.time() % 100000))
local CLIENTS = 3
print(("%d kills over %d executions an engine, MW_TEST_SEED=%d"):format(kills, runs, seed))

-- N becomes a random number, so that the moment differs each time.
local faults = {
  SQLite = {
    "", "sqlite_write=error:EIO,p0.03", "sqlite_write=error:ENOSPC,after=N,times=5", "sqlite_sync=p0.08", "sqlite_commit=p0.08",
    "sqlite_sync=delay:4ms;sqlite_commit=p0.03", "sqlite_write=crash,after=N", "sqlite_sync=crash,after=N", "sqlite_commit=crash,after=N",
  },
  PostgreSQL = {
    "", "pg_connect=p0.4", "pg_send=p0.03", "pg_receive=p0.03", "pg_commit=p0.08", "pg_connect=p0.2;pg_receive=p0.02;pg_send=p0.02",
    "pg_send=crash,after=N", "pg_receive=crash,after=N", "pg_commit=crash,after=N",
  },
}

-- A client with patience: asks for each of its executions, under a key of its own, until it is acknowledged. It begins one only when its
-- round has come, so that there is work at every kill. One line an acknowledgement.
local function be_client(number, s, dir, log_path)
  local log = assert(io.open(log_path, "a"))
  log:setvbuf "line"
  for run = number, runs, CLIENTS do
    local round = math.floor((run - 1) * kills / runs)
    while tonumber(posix.read_file(dir .. "/round") or "0") < round do posix.pause(0.005) end
    while true do
      local port = ((posix.read_file(s.data .. "/addresses") or ""):match("main %S-:(%d+)"))
      local answer = port and http.try_request("127.0.0.1", tonumber(port), "POST", "/api/trigger", {
        json = { name = run % 6 == 0 and "later" or run % 2 == 0 and "listed" or "written", input = { run = run } }, headers = { ["idempotency-key"] = "run-" .. run },
        timeout = 5,
      })
      if answer and answer.status == 200 then
        log:write(run, " ", answer.json().executionId, "\n")
        break
      elseif answer and answer.status ~= 503 and answer.status ~= 429 then
        log:write(run, " refused ", answer.status, " ", (answer.body:gsub("\n", " ")), "\n")
        break
      end
      posix.pause(0.01)
    end
  end
end

-- Starts it with some fault. A fault may keep it from coming up, as a broken disk does, or end it there: then with another.
local function start_again(s, list, note_end)
  for _ = 1, 20 do
    local fault = list[math.random(#list)]:gsub("N", function() return tostring(math.random(0, 30)) end)
    s.opts.env.MW_FAULTS = fault ~= "" and fault or nil
    s.opts.env.MW_FAULT_SEED = tostring(math.random(1000000))
    if pcall(s.restart, s) then return end
    note_end()
  end
  error("the server did not come up in twenty attempts:\n" .. s:log():sub(-2000))
end

local function read_acknowledged(log_path)
  local ids, seen, list = {}, {}, {}
  for line in posix.read_file(log_path):gmatch("[^\n]+") do
    local run, id = line:match("^(%d+) (%S+)$")
    assert(run, "a client was refused: " .. line)
    assert.is_nil(seen[id], "two triggers have one execution")
    seen[id], ids[tonumber(run)] = true, id
    list[#list + 1] = id
  end
  return ids, list
end

engines.describe("kill -9 on a failing ", function(engine)
  it("loses no acknowledged execution, makes none twice, and repeats no finished step", function()
    math.randomseed(seed)
    local up = upstream.start { delay = 0.01 }
    local url = engine.fresh()
    local network = url and proxy.start(tonumber(url:match("@[^/:]+:(%d+)")), seed)
    local s = server.start { plugins = { ["work.lua"] = durable.plugin }, env = durable.env(up), args = { "--workers", "2" },
      database = url and network:url(url) }
    local log_path, clients, marks, crashes, started = os.tmpname(), {}, {}, 0, posix.now()
    for i = 1, CLIENTS do clients[i] = posix.fork(function() be_client(i, s, s.dir, log_path) end) end
    local function note_end() -- it is gone, or goes now
      if s.pid then s:kill_all() else crashes = crashes + 1 end
      up:settle()
      marks[#marks + 1] = up:count()
    end
    for round = 1, kills do
      posix.write_file(s.dir .. "/round", tostring(round))
      local ended
      for _ = 1, math.random(2) do
        ended = posix.wait_exit(s.pid, 0.02 + math.random() * 0.15) ~= nil
        if ended then break end
        if network then network:cut() end
      end
      if ended then s.pid = nil end
      note_end()
      start_again(s, faults[engine.name], note_end)
    end
    note_end()
    s.opts.env.MW_FAULTS = nil
    s:restart()
    for _, pid in ipairs(clients) do assert.equal(0, posix.wait_exit(pid, 60), "a client did not come to its end") end

    local ids, list = read_acknowledged(log_path)
    assert.equal(runs, #list)
    local load = durable.load(s)
    load.acknowledged = list
    load:wait_completed(60)
    assert.equal(runs, s:get("/api/v1/executions").json().total)
    engine_db.of(s).check_totals()
    local counts = durable.check_calls(up:calls(), marks)
    for run = 1, runs do
      local execution = s:get("/api/v1/executions/" .. ids[run]).json()
      assert.equal(run, execution.input.run)
      assert.equal(3, #execution.steps)
      for _, name in ipairs { "a", "b", "c" } do assert.is_true(counts[run .. "/" .. name] >= 1) end
    end
    print(("%s: %d kills, %d of them at a fault point, %d executions, %d calls, %.1f s"):format(engine.name, #marks, crashes, runs, up:count(),
      posix.now() - started))
    s:stop { keep = true }
    if not engine.url then assert.equal("ok", server.integrity(s.data .. "/moonwatch.db")) end
    s:clean()
    os.remove(log_path)
    if network then network:stop() end
    up:stop()
  end)
end)
