-- SPDX-License-Identifier: MIT
-- Exporting and importing histories between real servers, of both engines, and what hostile documents are answered.

local dkjson = require "dkjson"
local engine_db = require "support.engine_db"
local engines = require "support.engines"
local server = require "support.server"

local plugin = [==[
  local mw = require "mw"
  mw.workflow("asks", function(ctx, input)
    local n = ctx:step("think", function() return { n = input.n, twice = input.n * 2 } end)
    local id = ctx:uuid()
    local said = ctx:wait_for("go")
    return { n = n, id = id, said = said }
  end)
  mw.workflow("fails", { { name = "one", retries = 0, run = function() error("no luck") end } })
]==]

local TOKEN = "a token of the operator"
local AS_OPERATOR = { headers = { authorization = "Bearer " .. TOKEN } }

engines.describe("histories on ", function(engine)
  local from, to, db
  setup(function()
    local function new(plugins) return server.start {
      plugins = plugins, database = engine.fresh(), args = { "--workers", "1", "--token", TOKEN },
    } end
    from, to = new { ["p.lua"] = plugin }, new {}
    db = engine_db.of(to)
  end)
  teardown(function()
    from:stop()
    to:stop()
  end)

  local function ask(s, method, path, opts)
    opts = opts or {}
    opts.headers = opts.headers or {}
    opts.headers.authorization = opts.headers.authorization or "Bearer " .. TOKEN
    return s:request(method, path, opts)
  end
  local function get(s, id) return s:execution(id, AS_OPERATOR) end
  local function reach(s, id, wanted) return s:reach(id, wanted, AS_OPERATOR) end
  local function start(workflow, wanted, body)
    local answer = ask(from, "POST", "/api/v1/executions", {
      body = body or '{"workflow":"' .. workflow .. '"}', headers = { ["content-type"] = "application/json" },
    })
    return reach(from, answer.json().id, wanted)
  end
  local function export(id, query) return ask(from, "GET", "/api/v1/executions/" .. id .. "/export" .. (query or "")).body end
  local function import(text, query, headers)
    headers = headers or {}
    headers["content-type"] = "application/json"
    return ask(to, "POST", "/api/v1/executions/import" .. (query or ""), { body = text, headers = headers })
  end

  it("take a finished run over as it was, byte for byte", function()
    local id = start("fails", "failed", '{"workflow":"fails","input":{"b":1.50,"a":12345678901234567890,"n":null},"id":"order-1"}')
    local text = export(id)
    local answer = import(text)
    assert.equal(201, answer.status, answer.body)
    assert.same({ id = id, created = true, status = "failed" }, answer.json())
    local there, here = get(from, id), get(to, id)
    for _, name in ipairs { "workflow", "status", "external_id", "error", "created_at", "started_at", "finished_at", "bundle", "steps" } do
      assert.same(there[name], here[name], name)
    end
    assert.truthy(ask(to, "GET", "/api/v1/executions/" .. id).body:find('{"b":1.50,"a":12345678901234567890,"n":null}', 1, true))
    assert.equal(dkjson.decode(text).journal[1].data, db.run("SELECT data FROM JOURNAL WHERE execution = ID('" .. id .. "')"))
    assert.equal("execution.imported|token", db.run("SELECT action, actor FROM AUDIT WHERE subject = 'execution " .. id .. "'"))
    answer = import(text)
    assert.equal(200, answer.status)
    assert.is_false(answer.json().created)
  end)

  it("pause what had not ended, and let it go on with its signals and its own code when it is resumed", function()
    local id = start("asks", "waiting", '{"workflow":"asks","input":{"n":21}}')
    ask(from, "POST", "/api/v1/executions/" .. id .. "/pause", { json = {} })
    ask(from, "POST", "/api/v1/executions/" .. id .. "/signals/go", { json = { by = "eve" } })
    local answer = import(export(id))
    assert.equal("paused", answer.json().status)
    assert.equal("paused", get(to, id).status)
    assert.equal(200, ask(to, "POST", "/api/v1/executions/" .. id .. "/resume", { json = {} }).status)
    ask(from, "POST", "/api/v1/executions/" .. id .. "/resume", { json = {} })
    local here, there = get(to, reach(to, id, "completed")), get(from, reach(from, id, "completed"))
    assert.same(there.output, here.output)
    assert.same({ n = 21, twice = 42 }, here.output.n)
    assert.equal(1, here.steps[1].attempts)
  end)

  it("let it go on at once when that is asked", function()
    local id = start("asks", "waiting", '{"workflow":"asks","input":{"n":1}}')
    assert.equal(201, import(export(id), "?resume=true").status)
    reach(to, id, "waiting")
    assert.equal(202, ask(to, "POST", "/api/v1/executions/" .. id .. "/signals/go", { json = {} }).status)
    reach(to, id, "completed")
  end)

  it("show code only to whom may see it, and take new code only from whom may do everything", function()
    local id = start("asks", "waiting", '{"workflow":"asks","input":{"n":1}}')
    local function key(s, name, ...) return ask(s, "POST", "/api/v1/keys", { json = { name = name, scopes = { ... } } }).json().key end
    local bare = ask(from, "GET", "/api/v1/executions/" .. id .. "/export", { headers = { authorization = "Bearer " .. key(from, "reader", "executions:read") } })
    assert.same({}, bare.json().code)
    assert.same({}, dkjson.decode(export(id, "?code=false")).code)
    local doc = export(id)
    db.run "DELETE FROM CODE"
    local answer = import(doc, nil, { authorization = "Bearer " .. key(to, "writer", "executions:write") })
    assert.equal(403, answer.status)
    assert.matches("only a key with every scope may bring", answer.json().detail, 1, true)
    assert.equal(201, import(bare.body, nil, { authorization = "Bearer " .. key(to, "writer2", "executions:write") }).status)
  end)

  it("are refused when another run is in the way", function()
    local id = start("fails", "failed", '{"workflow":"fails","id":"order-2"}')
    local text = export(id)
    assert.equal(201, import(text).status)
    local other = text:gsub('"seed":"(%d+)%.', '"seed":"1%1.')
    assert.matches("another execution has the id", import(other).json().detail)
    local twin = text:gsub(id:gsub("%-", "%%-"), "01900000-0000-7000-8000-000000000000")
    local answer = import(twin)
    assert.equal(409, answer.status, answer.body)
    assert.matches('has the id "order%-2" of yours', answer.json().detail)
  end)

  it("are refused when they are none, and say where", function()
    local id = start("asks", "waiting", '{"workflow":"asks","input":{"n":1}}')
    local text = export(id)
    local function broken(pattern, what, with, ...)
      local made, count = text:gsub(what, with)
      assert.is_true(count > 0, what)
      local answer = import(made)
      assert.equal(400, answer.status, answer.body)
      assert.matches(pattern, answer.json().detail)
    end
    broken("format is not", '"moonwatch.execution"', '"x"')
    broken("version is 2", '"version":1', '"version":2')
    broken('"status"', '"status":"waiting"', '"status":7')
    broken("is no status", '"status":"waiting"', '"status":"wating"')
    broken('lacks "seed"', '"seed":', '"sed":')
    broken('"id" of execution', '"id":"' .. id:gsub("%-", "%%-") .. '"', '"id":"../x"')
    broken('"workflow" of execution', '"workflow":"asks"', '"workflow":"' .. ("x"):rep(400) .. '"')
    broken("has the number 7", '"number":1', '"number":7')
    broken('"r" is not what it must be', '\\"r\\":%[\\"think\\"', '\\"r\\":[{}')
    broken("a journal row of format 9", '"data":"1\\n', '"data":"9\\n')
    broken("not what its hash says", "n = input.n", "n = input.m")
    broken("it is failed and has no finished_us", '"status":"waiting"', '"status":"failed"')
    broken("is no list", '"signals":%[%]', '"signals":{"a":1}')
    for _, nonsense in ipairs { "", "[]", "null", "3", '"x"', "{", '{"format":"moonwatch.execution","version":1}',
      '{"format":"moonwatch.execution","version":1,"execution":[]}', ("["):rep(100000) } do
      assert.equal(400, import(nonsense).status, nonsense:sub(1, 20))
    end
    assert.equal(413, import((text:gsub('"signals"', '"x":"' .. ("y"):rep(16 * 1024 * 1024) .. '","signals"'))).status)
    assert.equal("0", db.value("SELECT count(*) FROM EXECUTIONS WHERE id = ID('" .. id .. "')"))
  end)

  it("are moved by the command line", function()
    local id = start("fails", "failed")
    local function command(s, ...)
      local code, out = server.command({ "runs", ... }, { dir = s.dir })
      return out, code
    end
    local out = command(from, "export", id, "--data", from.data)
    assert.matches('^{"code":', out)
    require("support.posix").write_file(to.dir .. "/history.json", out)
    assert.equal(id .. " is failed\n", (command(to, "import", "history.json", "--data", to.data)))
    assert.matches("is here already", (command(to, "import", "history.json", "--data", to.data)))
    local text, code = command(to, "import", "nowhere.json", "--data", to.data)
    assert.equal(2, code)
    assert.matches("nowhere.json: ", text, 1, true)
    text, code = command(to, "export", "01900000-0000-7000-8000-000000000000", "--data", to.data)
    assert.equal(1, code)
    assert.matches("there is no execution", text, 1, true)
  end)
end)
