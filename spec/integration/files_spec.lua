-- SPDX-License-Identifier: MIT
local curl = require "support.curl"
local posix = require "support.posix"
local server = require "support.server"
local zlib = require "support.zlib"

local slow = (os.getenv("MW_TEST_SLOW") or "") ~= "" -- a sanitizer keeps what is freed

local plugin = [==[
local mw = require "mw"
mw.get("/file/*path", function(req, res) res:file(req.params.path) end)
mw.post("/file/*path", function(req, res) res:file(req.params.path) end)
mw.get("/opts", function(req, res)
  res:file(req.query.path or "a.txt", { type = req.query.type, cache = req.query.cache, download = req.query.download == "true" or req.query.download })
end)
mw.get("/missing", function(req, res)
  local _, err = mw.try(res.file, res, "nowhere")
  res:status(404):file("404.html")
  mw.kv.set("missing", err.code)
end)
mw.get("/wrong", function(req, res) res:file("a.txt", { cach = "1h" }) end)
mw.get("/plain/*path", { compress = false }, function(req, res) res:file(req.params.path) end)
mw.static("/assets", "assets", { cache = "1h" })
mw.static("/app", "site", { fallback = "index.html" })
mw.static("/bare", "assets", { index = false })
local function guard(req, res, next) if req.query.key ~= "k" then return res:status(401):text("no") end next() end
mw.static("/guarded", "", guard)
mw.group("/group", guard, function(r) r.static("/inner", "assets", {}) end)
mw.get("/ping", function(req, res) res:text("pong") end)
mw.get("/kv/:key", function(req, res) res:text(mw.kv.get(req.params.key) or "-") end)
]==]

describe("files", function()
  local s, public, big

  local function write(name, text)
    posix.make_dirs((public .. "/" .. name):match("^(.*)/"))
    posix.write_file(public .. "/" .. name, text)
  end

  local function shell(command, ...) assert(os.execute(command:format(...)) == 0) end

  setup(function()
    s = server.start { plugins = { ["files.lua"] = plugin }, args = { "--workers", "1" }, config = 'return { http = { write_timeout = "2s" } }' }
    public = s.dir .. "/public"
    local unit = {}
    for i = 1, 10000 do unit[i] = ("%09d\n"):format(i * 7919 % 1000000007) end
    big = table.concat(unit):rep(20) -- 2 MB
    write("a.txt", "hello, file\n")
    write("empty.txt", "")
    write("big.bin", big)
    write("404.html", "<h1>not here</h1>")
    write("big.txt", big)
    write("assets/index.html", "<p>index")
    write("assets/site.css", "p { color: red }\n")
    write("assets/sub/index.html", "<p>sub")
    write("assets/nothing/x.txt", "x")
    write("assets/with space & ä.txt", "odd")
    write(".well-known/acme-challenge/token", "acme")
    write(".env", "SECRET=1")
    write("site/index.html", "<p>app")
    posix.write_file(s.dir .. "/secret.txt", "secret")
    shell("cd '%s' && ln -s ../secret.txt out.txt && ln -s a.txt link.txt && mkfifo pipe && ln -s /etc etc", public)
    shell("touch -d '2026-01-02 03:04:05.5 UTC' '%s/a.txt' '%s/big.bin'", public, public)
  end)
  teardown(function() s:stop() end)

  local function get(path, headers, method) return s:request(method or "GET", path, { headers = headers, timeout = 20 }) end
  local MODIFIED = "Fri, 02 Jan 2026 03:04:05 GMT"

  it("sends a file with what a client needs to know", function()
    local answer = get("/file/a.txt")
    assert.same({ 200, "hello, file\n" }, { answer.status, answer.body })
    assert.same({ "12", "text/plain; charset=utf-8", "nosniff", MODIFIED, "bytes" }, { answer.headers["content-length"], answer.headers["content-type"],
      answer.headers["x-content-type-options"], answer.headers["last-modified"], answer.headers["accept-ranges"] })
    assert.matches('^W/"%x+"$', answer.headers.etag)
    assert.is_nil(answer.headers["cache-control"])
    assert.equal("", get("/file/empty.txt").body)
    assert.equal(big, get("/file/big.bin").body)
    assert.equal("hello, file\n", get("/file/link.txt").body)
    assert.equal("acme", get("/file/.well-known/acme-challenge/token").body)
  end)

  it("gives HEAD the headers of GET", function()
    for _, path in ipairs { "/file/a.txt", "/file/big.bin", "/file/empty.txt", "/assets/site.css" } do
      local one, other = get(path), get(path, nil, "HEAD")
      one.headers.date, other.headers.date, one.headers["x-trace-id"], other.headers["x-trace-id"] = nil, nil, nil, nil
      assert.same(one.headers, other.headers)
      assert.equal("", other.body)
    end
  end)

  it("finds nothing outside, hidden, or that is no file", function()
    for _, path in ipairs { "secret.txt", "%2e%2e%2fsecret.txt", "..%2fsecret.txt", "a%2f..%2f..%2fsecret.txt", "%2fetc%2fpasswd", "out.txt", "etc/passwd", ".env", "assets/.x",
      "pipe", "assets", "assets/", "nowhere", "a.txt/x", "a.txt%00.png", "a%5c..%5csecret.txt", "assets//site.css%2f", ("x"):rep(3000) } do
      local answer = get("/file/" .. path)
      assert.is_true(answer.status == 404 or (answer.status == 400 and path:find("%00", 1, true) ~= nil), path .. " " .. answer.status)
      assert.not_matches("secret", answer.body:gsub("secret.txt", ""))
    end
    for _, path in ipairs { "/file/../secret.txt", "/file/x/../../secret.txt", "/assets/../a.txt", "/file/%2e%2e/secret.txt" } do assert.equal(400, get(path).status, path) end
    if curl.exists() then assert.equal(400, curl(s, "/assets/../../secret.txt", "--path-as-is").status) end
  end)

  it("takes a type, a time to keep it and a name to save it by", function()
    local answer = get("/opts?type=text/x-own&cache=1h&download=true")
    assert.same({ "text/x-own", "max-age=3600", 'attachment; filename="a.txt"' },
      { answer.headers["content-type"], answer.headers["cache-control"], answer.headers["content-disposition"] })
    local function saved(name) return get("/opts?download=" .. name).headers["content-disposition"] end
    assert.equal('attachment; filename="report 1.pdf"', saved("report%201.pdf"))
    assert.equal([[attachment; filename="Ums_tze.csv"; filename*=UTF-8''Ums%C3%A4tze.csv]], saved("Ums%C3%A4tze.csv"))
    assert.equal([[attachment; filename="a_b_.txt"; filename*=UTF-8''a%22b%25.txt]], saved("..%2fa%22b%25.txt"))
    assert.equal('attachment; filename="a_x_ b"', saved("a%0dx%0a%20b"))
    assert.equal('attachment; filename="_.txt"', saved("%ff.txt"))
    local wrong = get("/wrong")
    assert.same({ 400, true }, { wrong.status, wrong.json().detail:find('did you mean "cache"', 1, true) ~= nil })
  end)

  it("keeps a status, and lets a handler look at what is missing", function()
    local answer = get("/missing", { ["if-none-match"] = "*", range = "bytes=0-1" })
    assert.same({ 404, "<h1>not here</h1>", "text/html; charset=utf-8" }, { answer.status, answer.body, answer.headers["content-type"] })
    assert.equal("not_found", s:get("/kv/missing").body)
  end)

  it("answers 304 and 412 by tag and date", function()
    local first = get("/file/a.txt").headers
    for _, headers in ipairs { { ["if-none-match"] = first.etag }, { ["if-none-match"] = '"x", ' .. first.etag:sub(3) }, { ["if-modified-since"] = MODIFIED } } do
      local answer = get("/file/a.txt", headers)
      assert.same({ 304, "", first.etag, MODIFIED }, { answer.status, answer.body, answer.headers.etag, answer.headers["last-modified"] })
    end
    assert.equal(200, get("/file/a.txt", { ["if-none-match"] = '"x"', ["if-modified-since"] = MODIFIED }).status)
    assert.equal(200, get("/file/a.txt", { ["if-modified-since"] = "Fri, 02 Jan 2026 03:04:04 GMT" }).status)
    assert.equal(412, get("/file/a.txt", { ["if-match"] = '"x"' }).status)
    assert.equal(200, get("/file/a.txt", { ["if-match"] = "*" }).status)
    assert.equal(412, get("/file/a.txt", { ["if-unmodified-since"] = "Fri, 02 Jan 2026 03:04:04 GMT" }).status)
    assert.equal(412, s:post("/file/a.txt", { headers = { ["if-none-match"] = "*" }, body = "" }).status)
    write("changes.txt", "one")
    local etag = get("/file/changes.txt").headers.etag
    write("changes.txt", "two")
    assert.equal("two", get("/file/changes.txt", { ["if-none-match"] = etag }).body)
  end)

  it("sends a range", function()
    for range, expected in pairs { ["0-4"] = "hello", ["7-"] = "file\n", ["-5"] = "file\n", ["0-100"] = "hello, file\n", ["3-3"] = "l", ["0-1,2-4"] = "hello" } do
      local answer = get("/file/a.txt", { range = "bytes=" .. range })
      assert.same({ 206, expected, tostring(#expected) }, { answer.status, answer.body, answer.headers["content-length"] }, range)
      assert.matches("^bytes %d+%-%d+/12$", answer.headers["content-range"])
    end
    assert.equal("bytes 7-11/12", get("/file/a.txt", { range = "bytes=-5" }).headers["content-range"])
    local far = get("/file/big.bin", { range = "bytes=1500000-1700000" })
    assert.is_true(far.body == big:sub(1500001, 1700001))
    for _, range in ipairs { "items=0-1", "bytes=x", "bytes=5-1" } do assert.equal(200, get("/file/a.txt", { range = range }).status, range) end
    local beyond = get("/file/a.txt", { range = "bytes=12-" })
    assert.same({ 416, "bytes */12", "application/problem+json" }, { beyond.status, beyond.headers["content-range"], beyond.headers["content-type"] })
    assert.equal(416, get("/file/empty.txt", { range = "bytes=0-" }).status)
    assert.equal("12", get("/file/a.txt", { range = "bytes=0-1" }, "HEAD").headers["content-length"])
  end)

  it("sends several ranges as parts", function()
    local answer = get("/file/a.txt", { range = "bytes=-2, 0-1, 4-6" })
    assert.equal(206, answer.status)
    local boundary = answer.headers["content-type"]:match("^multipart/byteranges; boundary=(%x+)$")
    assert.equal(tostring(#answer.body), answer.headers["content-length"])
    local function part(range, text)
      return ("--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes %s/12\r\n\r\n%s\r\n"):format(boundary, range, text)
    end
    assert.equal(part("0-1", "he") .. part("4-6", "o, ") .. part("10-11", "e\n") .. "--" .. boundary .. "--\r\n", answer.body)
    local many = {}
    for i = 0, 16 do many[i + 1] = ("%d-%d"):format(i * 100, i * 100 + 9) end
    assert.equal(200, get("/file/big.bin", { range = "bytes=" .. table.concat(many, ",") }).status)
  end)

  it("goes on with a range only when the file is still the same", function()
    local range = { range = "bytes=7-", ["if-range"] = MODIFIED }
    assert.equal(206, get("/file/a.txt", range).status)
    range["if-range"] = "Fri, 02 Jan 2026 03:04:06 GMT"
    assert.equal(200, get("/file/a.txt", range).status)
    range["if-range"] = get("/file/a.txt").headers.etag -- a weak one
    assert.equal(200, get("/file/a.txt", range).status)
  end)

  it("is resumed and read in parts by curl", function()
    if not curl.exists() then return pending("needs curl") end
    assert.is_true(curl(s, "/file/big.bin").body == big)
    assert.is_true(curl(s, "/file/big.bin", "-r", "1000000-").body == big:sub(1000001))
    posix.write_file(s.dir .. "/half", big:sub(1, 700000))
    shell("curl -sS -C - -o '%s/half' 'http://127.0.0.1:%d/file/big.bin'", s.dir, s.port)
    assert.is_true(posix.read_file(s.dir .. "/half") == big)
    assert.is_true(curl(s, "/file/big.txt", "--compressed").body == big)
    assert.equal(304, curl(s, "/file/a.txt", "-z", "Sun, 01 Feb 2026 00:00:00 GMT").status)
  end)

  it("compresses text on the way, and sends what was compressed before", function()
    local with = { ["accept-encoding"] = "gzip" }
    local answer = get("/file/big.txt", with)
    assert.same({ "gzip", "Accept-Encoding", nil }, { answer.headers["content-encoding"], answer.headers.vary, answer.headers["accept-ranges"] })
    assert.is_true(zlib.inflate(answer.body, "gzip") == big)
    assert.is_nil(get("/file/big.bin", with).headers["content-encoding"])
    assert.is_nil(get("/plain/big.txt", with).headers["content-encoding"])
    write("ready.js", "let ready = true\n")
    write("ready.js.gz", zlib.deflate("let ready = 'gz'\n", "gzip"))
    local plain, gzip = get("/file/ready.js"), get("/file/ready.js", with)
    assert.same({ "let ready = true\n", nil, "Accept-Encoding" }, { plain.body, plain.headers["content-encoding"], plain.headers.vary })
    assert.same({ "let ready = 'gz'\n", "gzip", "Accept-Encoding", "text/javascript; charset=utf-8" },
      { zlib.inflate(gzip.body, "gzip"), gzip.headers["content-encoding"], gzip.headers.vary, gzip.headers["content-type"] })
    assert.not_equal(plain.headers.etag, gzip.headers.etag)
    assert.is_nil(get("/plain/ready.js", with).headers["content-encoding"])
    shell("touch -d '2020-01-01' '%s/ready.js.gz'", public)
    assert.equal("let ready = true\n", get("/file/ready.js", with).body) -- it is of an older version
  end)

  it("serves a folder", function()
    local css = get("/assets/site.css")
    assert.same({ "p { color: red }\n", "text/css; charset=utf-8", "max-age=3600" }, { css.body, css.headers["content-type"], css.headers["cache-control"] })
    assert.equal("<p>index", get("/assets/").body)
    assert.equal("<p>sub", get("/assets/sub/").body)
    assert.equal("odd", get("/assets/with%20space%20&%20%C3%A4.txt").body)
    for path, location in pairs { ["/assets"] = "/assets/", ["/assets/sub"] = "/assets/sub/", ["/assets/sub?a=b"] = "/assets/sub/?a=b", ["//assets//sub"] = "/assets/sub/" } do
      local answer = get(path)
      assert.same({ 301, location }, { answer.status, answer.headers.location }, path)
    end
    for _, path in ipairs { "/assets/nothing/", "/assets/nowhere", "/assets/site.css/", "/bare/", "/bare/sub", "/bare", "/assets/.x" } do assert.equal(404, get(path).status, path) end
    assert.equal("p { color: red }\n", get("/bare/site.css").body)
    local post = s:post("/assets/site.css", { body = "" })
    assert.same({ 405, "GET, HEAD" }, { post.status, post.headers.allow })
  end)

  it("serves an application that routes by itself, and behind a guard", function()
    for _, path in ipairs { "/app/", "/app/users/7", "/app/users/" } do assert.equal("<p>app", get(path).body, path) end
    assert.equal(401, get("/guarded/a.txt").status)
    assert.equal("hello, file\n", get("/guarded/a.txt?key=k").body)
    assert.equal(401, get("/group/inner/site.css").status)
    assert.equal("p { color: red }\n", get("/group/inner/site.css?key=k").body)
  end)

  it("cuts the connection when the file is cut short meanwhile", function()
    shell("head -c 50000000 /dev/zero > '%s/shrinks.bin'", public)
    local conn = s:connect()
    conn:send("GET /file/shrinks.bin HTTP/1.1\r\nHost: a\r\n\r\n")
    conn:fill(posix.now() + 5)
    shell("truncate -s 1000000 '%s/shrinks.bin'", public)
    local ok, err = pcall(conn.read_answer, conn, "GET", { timeout = 10 })
    conn:close()
    assert.is_false(ok)
    assert.matches("closed", type(err) == "table" and err.why or tostring(err))
    s:wait_log("cut short while it was sent", 5)
    assert.equal("pong", get("/ping").body)
  end)

  it("holds little for clients that do not read, and gives them up", function()
    shell("head -c 60000000 /dev/zero > '%s/large.bin'", public)
    get("/file/big.bin")
    local before, conns = s:memory(), {}
    for i = 1, 20 do
      conns[i] = s:connect()
      conns[i]:send("GET /file/large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
    end
    for _ = 1, 20 do
      assert.equal("pong", get("/ping").body)
      s:pause(0.01)
    end
    local grown = s:memory() - before
    local function open_files()
      local pipe = io.popen(("ls -l /proc/%d/fd | grep -c large.bin"):format(s:server_pid()))
      local count = tonumber(pipe:read("*a"))
      pipe:close()
      return count
    end
    assert.equal(20, open_files())
    if not slow then assert.is_true(grown < 20 * 700 * 1024, "grew by " .. grown) end
    s:wait(function() return open_files() == 0 end, 10, "the end of those who do not read")
    for i = 1, 20 do conns[i]:close() end
  end)

  it("says that the folder is missing in its log, and 404 to the client", function()
    local other = server.start { plugins = { ["files.lua"] = plugin }, args = { "--files", "elsewhere" } }
    assert.equal(404, other:get("/file/a.txt").status)
    other:wait_log("the folder for res:file and mw.static is not there", 5)
    posix.make_dirs(other.dir .. "/elsewhere")
    posix.write_file(other.dir .. "/elsewhere/a.txt", "there")
    assert.equal("there", other:get("/file/a.txt").body)
    other:stop()
  end)

  it("refuses at load what lies outside", function()
    for _, dir in ipairs { "/etc", "..", "a/../..", "./../x" } do
      local check = server.start { plugins = { ["bad.lua"] = ('local mw = require "mw"\nmw.static("/x", %q)'):format(dir) }, wait_ready = false }
      check:wait_log("must lie inside the one that the option", 10)
      check:kill_all()
      check:clean()
    end
  end)
end)
