-- SPDX-License-Identifier: MIT
local curl = require "support.curl"
local posix = require "support.posix"
local server = require "support.server"
local zlib = require "support.zlib"

local plugin = [==[
local mw = require "mw"
local function digest(text) return mw.crypto.sha256(text) end
mw.post("/form", { body = "2MB" }, function(req, res)
  local fields, files = req:form()
  local list = {}
  for i, file in ipairs(files) do
    list[i] = { name = file.name, filename = file.filename, raw = file.raw_filename, type = file.type, size = #file.body, digest = digest(file.body) }
  end
  res:json { fields = fields, files = mw.array(list), same = #list == 0 or files[list[#list].name] == files[#files] }
end)
mw.post("/form-all", function(req, res) res:json((req:form_all())) end)
local function parts(req, res)
  local list = {}
  for part in req:parts() do
    local size, chunks, largest = 0, 0, 0
    for chunk in part:chunks() do size, chunks, largest = size + #chunk, chunks + 1, math.max(largest, #chunk) end
    list[#list + 1] = { name = part.name, filename = part.filename, type = part.type, size = size, several = chunks > 1, small = largest <= 65536 }
  end
  res:json(mw.array(list))
end
mw.post("/parts", parts)
mw.post("/stream", { stream = true, body = "300MB", timeout = 120 }, parts)
mw.post("/read", { stream = true, body = "50MB" }, function(req, res)
  local list = {}
  for part in req:parts() do list[#list + 1] = part:read(tonumber(req.query.max)) end
  res:json(mw.array(list))
end)
mw.post("/skips", { stream = true, body = "50MB" }, function(req, res)
  local names = {}
  for part in req:parts() do names[#names + 1] = part.name end
  res:json(mw.array(names))
end)
mw.post("/first", { stream = true, body = "50MB" }, function(req, res)
  for part in req:parts() do return res:text(part.name) end
end)
mw.post("/over", function(req, res)
  local first
  for part in req:parts() do
    if first then return res:text(select(2, mw.try(first.read, first)).message) end
    first = part
  end
end)
mw.post("/slow", { stream = true, body = "300MB", timeout = 60 }, function(req, res)
  for part in req:parts() do
    for _ in part:chunks() do while not mw.kv.get("go") do mw.sleep("10ms") end end
  end
  res:text("done")
end)
mw.post("/go", function(req, res) mw.kv.set("go", true) res:text("ok") end)
mw.post("/body", { stream = true }, function(req, res) res:text(req.body) end)
]==]

describe("upload", function()
  local s
  setup(function() s = server.start { plugins = { ["up.lua"] = plugin }, args = { "--workers", "1" } } end)
  teardown(function() s:stop() end)

  local multipart = { ["content-type"] = "multipart/form-data; boundary=XX" }

  local function part(disposition, body, more)
    return ("--XX\r\nContent-Disposition: form-data; %s\r\n%s\r\n%s\r\n"):format(disposition, more or "", body)
  end

  local function post(path, body, headers) return s:post(path, { body = body, headers = headers or multipart, timeout = 60 }) end

  it("gives a form's fields and files", function()
    local answer = post("/form", part('name="title"', "one") .. part('name="title"', "two") ..
      part('name="doc"; filename="C:\\\\temp\\\\a.pdf"', "PDF", "Content-Type: application/pdf\r\n") ..
      part('name="doc"; filename="b"', "\0\1\r\n\255") .. part('name="none"; filename=""', "") .. "--XX--\r\n")
    assert.equal(200, answer.status)
    local form = answer.json()
    assert.same({ title = "two" }, form.fields)
    assert.equal(2, #form.files)
    assert.same({ "doc", "a.pdf", "C:\\temp\\a.pdf", "application/pdf", 3 },
      { form.files[1].name, form.files[1].filename, form.files[1].raw, form.files[1].type, form.files[1].size })
    assert.same({ "b", "application/octet-stream", 5 }, { form.files[2].filename, form.files[2].type, form.files[2].size })
    assert.is_true(form.same)
  end)

  it("gives all values of a field that is there more than once", function()
    local urlencoded = { ["content-type"] = "application/x-www-form-urlencoded" }
    assert.same({ a = { "1", "2" }, b = { "3" } }, post("/form-all", "a=1&b=3&a=2", urlencoded).json())
    assert.same({ a = { "1", "2" }, b = { "3" } }, post("/form-all", part("name=a", "1") .. part("name=b", "3") .. part("name=a", "2") .. "--XX--").json())
  end)

  it("takes what curl sends", function()
    if not curl.exists() then return pending("needs curl") end
    local bytes = {}
    for i = 1, 300000 do bytes[i] = string.char((i * 7919 + math.floor(i / 251)) % 256) end
    bytes = table.concat(bytes)
    posix.write_file(s.dir .. "/photo.bin", bytes)
    posix.write_file(s.dir .. '/odd "name".txt', "odd")
    local args = { "-F", "title=An essay", "-F", "photo=@" .. s.dir .. "/photo.bin;type=image/x-own", "-F", 'odd=@"' .. s.dir .. '/odd \\"name\\".txt"' }
    local form = curl(s, "/form", unpack(args)).json()
    assert.same({ title = "An essay" }, form.fields)
    assert.same({ "photo.bin", "image/x-own", 300000 }, { form.files[1].filename, form.files[1].type, form.files[1].size })
    local sum = io.popen("sha256sum '" .. s.dir .. "/photo.bin'"):read("*a"):match("^%x+")
    assert.equal(sum, form.files[1].digest)
    assert.matches('^odd ["%%2]+name["%%2]+%.txt$', form.files[2].filename)
    for _, header in ipairs { "X: y", "Transfer-Encoding: chunked", "Expect: 100-continue" } do
      for _, path in ipairs { "/parts", "/stream" } do
        local list = curl(s, path, "-H", header, unpack(args)).json()
        assert.same({ "title", 8, "photo", 300000, "odd", 3 }, { list[1].name, list[1].size, list[2].name, list[2].size, list[3].name, list[3].size })
      end
    end
  end)

  it("keeps memory small however large the file is", function()
    local conn = s:connect { timeout = 60 }
    local size, block = 100 * 1024 * 1024, ("0123456789abcde\r"):rep(65536)
    local head, tail = part('name="big"; filename="big"', ""):sub(1, -3), "\r\n--XX--\r\n"
    post("/stream", part("name=a", "b") .. "--XX--") -- warm
    local before, most = s:memory(), 0
    conn:send(("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=XX\r\nContent-Length: %d\r\n\r\n"):format(#head + size + #tail) .. head)
    for i = 1, size / #block do
      conn:send(block)
      if i % 10 == 0 then most = math.max(most, s:memory()) end
    end
    conn:send(tail)
    assert.same({ { name = "big", filename = "big", type = "application/octet-stream", size = size, several = true, small = true } },
      conn:read_answer("POST", { timeout = 60 }).json())
    conn:close()
    assert.is_true(most - before < 24 * 1024 * 1024, "grew by " .. (most - before))
  end)

  it("holds a fast client back while the handler is slow", function()
    local conn = s:connect()
    local block, sent = ("x"):rep(1024 * 1024), 0
    conn:send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=XX\r\nTransfer-Encoding: chunked\r\n\r\n")
    local head = part('name="big"; filename="big"', ""):sub(1, -3)
    conn:send(("%x\r\n%s\r\n"):format(#head, head))
    local ok = true
    while ok and sent < 200 do
      ok = posix.write(conn.fd, ("%x\r\n%s\r\n"):format(#block, block), posix.now() + 0.3)
      if ok then sent = sent + 1 end
    end
    conn:close()
    assert.is_true(sent < 100, "the server took " .. sent .. " MiB that nobody read")
    post("/go", "", {})
  end)

  it("takes a compressed form", function()
    local body = zlib.deflate(part("name=a", ("b"):rep(100000)) .. "--XX--", "gzip")
    for _, path in ipairs { "/parts", "/stream" } do
      local answer = post(path, body, { ["content-type"] = multipart["content-type"], ["content-encoding"] = "gzip" })
      assert.equal(100000, answer.json()[1].size)
    end
  end)

  it("keeps the connection when parts are passed over", function()
    local body = part("name=a", ("x"):rep(200000)) .. part("name=b", "") .. part("name=c", ("y"):rep(200000)) .. "--XX--\r\nan epilogue"
    local conn = s:connect()
    for _ = 1, 3 do
      assert.same({ "a", "b", "c" }, conn:request("POST", "/skips", { body = body, headers = multipart }).json())
    end
    conn:close()
    assert.equal("a", post("/first", body).body)
    assert.matches("the part is over", post("/over", body).body)
  end)

  it("answers 400 when a form is malformed or cut off, 413 when it is too much", function()
    for _, path in ipairs { "/form", "/parts", "/stream" } do
      for body, detail in pairs {
        [part("name=a", "b")] = "the form ends before its last boundary", ["nothing of it"] = "the form has no boundary",
        [part("nome=a", "b") .. "--XX--"] = "a part has no name", [part('name="\255"', "b") .. "--XX--"] = "is not UTF-8",
        ["--XX\r\n\r\nb\r\n--XX--"] = "no Content-Disposition",
      } do
        local answer = post(path, body)
        assert.equal(400, answer.status)
        assert.is_truthy(answer.json().detail:find(detail, 1, true), answer.json().detail)
      end
      for _, body in ipairs { part("name=a", "b"):rep(1001) .. "--XX--", part("name=a", "b", "X: " .. ("x"):rep(9000) .. "\r\n") .. "--XX--" } do
        assert.equal(413, post(path, body).status)
      end
      local answer = post(path, "x", { ["content-type"] = "multipart/form-data" })
      assert.same({ 400, "the content type has no boundary" }, { answer.status, answer.json().detail })
      assert.equal(415, post(path, "x", { ["content-type"] = "text/plain" }).status)
    end
    assert.equal(413, post("/form", part("name=a", ("x"):rep(2100000)) .. "--XX--").status)
    assert.equal(413, post("/read?max=10", part("name=a", "12345678901") .. "--XX--").status)
    assert.equal(200, post("/read?max=10", part("name=a", "1234567890") .. "--XX--").status)
    assert.equal(413, post("/read", part("name=a", ("x"):rep(1100000)) .. "--XX--").status)
  end)

  it("says how to read the body of a streaming route", function()
    assert.matches("req:chunks%(%) or req:parts%(%)", post("/body", "x").json().detail)
  end)
end)
