-- SPDX-License-Identifier: MIT

local dkjson = require "dkjson"
local http = require "support.http"
local posix = require "support.posix"
local server = require "support.server"
local tls = require "support.certs"

local plugins = { ["p.lua"] = [[
  local mw = require "mw"
  mw.get("/hello", function(_, res) res:cookie("s", "1"):text("hello") end)
  mw.get("/slow", function(_, res) res:write("begun\n") mw.sleep("1s") res:write("done\n") res:finish() end)
  mw.post("/echo", { body = "8MB" }, function(req, res) res:send(req.body) end)
]] }

local certs, default, other, wild
setup(function()
  certs = tls.open()
  default = certs:make("default", "DNS:localhost,DNS:default.example,IP:127.0.0.1")
  other = certs:make("other", "DNS:other.example")
  wild = certs:make("wild", "DNS:*.wild.example,DNS:wild.example")
end)
teardown(function() certs:close() end)

local function start(pairs_, opts)
  opts = opts or {}
  local cert, key = {}, {}
  for i, pair in ipairs(pairs_) do cert[i], key[i] = pair.cert, pair.key end
  local args = { "--listen-app", opts.listen or "https://127.0.0.1:0", "--tls-cert", table.concat(cert, ","), "--tls-key", table.concat(key, ",") }
  for _, arg in ipairs(opts.args or {}) do args[#args + 1] = arg end
  return server.start { plugins = plugins, args = args, env = opts.env, supervised = opts.supervised }
end

describe("a TLS listener", function()
  local s, port
  setup(function()
    s = start({ default, other, wild }, { args = { "--workers", "2" }, env = { MOONWATCH_TLS_HSTS = "30d" } })
    port = s.ports.app
  end)
  teardown(function() s:stop() end)

  it("serves HTTP over TLS 1.2 and 1.3 to a client that verifies it", function()
    assert.equal("https://127.0.0.1:" .. port, s.addresses.app)
    for _, version in ipairs { "--tlsv1.2 --tls-max 1.2", "--tlsv1.3" } do
      local body, ok = certs:curl(port, "localhost", "/hello", version)
      assert.is_true(ok, body)
      assert.equal("hello", body)
    end
  end)
  it("marks cookies secure and says HSTS when it is configured, on TLS only", function()
    local head = certs:curl(port, "localhost", "/hello", "-i")
    assert.matches("Strict-Transport-Security: max-age=2592000\r\n", head, 1, true)
    assert.matches("set-cookie: s=1; Path=/; SameSite=Lax; HttpOnly; Secure", head, 1, true)
    assert.is_nil(s:get("/livez").headers["strict-transport-security"])
  end)
  it("takes and gives large bodies whole", function()
    local file = certs.dir .. "/large"
    posix.write_file(file, ("0123456789abcdef"):rep(300000))
    local body, ok = certs:curl(port, "localhost", "/echo", "--data-binary @" .. file)
    assert.is_true(ok)
    assert.equal(4800000, #body)
  end)

  it("shows the certificate of the name that is asked for: exact, by wildcard, else the first", function()
    assert.equal("default", certs:subject(port, nil))
    assert.equal("default", certs:subject(port, "unknown.example"))
    assert.equal("other", certs:subject(port, "other.example"))
    assert.equal("other", certs:subject(port, "OTHER.example"))
    assert.equal("wild", certs:subject(port, "wild.example"))
    assert.equal("wild", certs:subject(port, "a.wild.example"))
    assert.equal("default", certs:subject(port, "a.b.wild.example"))
    assert.equal("hello", (certs:curl(port, "a.wild.example", "/hello")))
  end)

  it("speaks http/1.1 by ALPN and refuses a client that offers other protocols only", function()
    assert.matches("ALPN protocol: http/1.1", certs:s_client(port, "-alpn h2,http/1.1"), 1, true)
    assert.matches("No ALPN negotiated", certs:s_client(port), 1, true)
    local out, ok = certs:s_client(port, "-alpn h2")
    assert.is_false(ok)
    assert.matches("no application protocol", out, 1, true)
  end)

  it("refuses old versions, weak ciphers and renegotiation", function()
    for _, version in ipairs { "-tls1", "-tls1_1" } do
      local _, ok = certs:s_client(port, version .. " -cipher ALL:@SECLEVEL=0")
      assert.is_false(ok, version)
    end
    for _, cipher in ipairs { "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "NULL" } do
      local _, ok = certs:s_client(port, "-tls1_2 -cipher " .. cipher .. ":@SECLEVEL=0")
      assert.is_false(ok, cipher)
    end
    local out = tls.run(("{ echo R; sleep 0.5; } | openssl s_client -connect 127.0.0.1:%d -tls1_2 -CAfile %s"):format(port, certs.ca))
    assert.matches("no renegotiation", out, 1, true)
  end)

  it("resumes sessions on every worker", function()
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      local session = certs.dir .. "/session" .. version
      tls.must(("{ printf 'GET /hello HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n'; sleep 0.5; } | openssl s_client -quiet -connect 127.0.0.1:%d %s -CAfile %s -sess_out %s"):format(
        port, version, certs.ca, session))
      for _ = 1, 6 do -- the kernel spreads them over two workers
        assert.matches("Reused, TLSv1", certs:s_client(port, version .. " -sess_in " .. session), 1, true)
      end
    end
  end)

  it("tells a client that speaks plain HTTP what is wrong", function()
    local answer = http.request("127.0.0.1", port, "GET", "/hello")
    assert.equal(400, answer.status)
    assert.matches("https://", answer.body, 1, true)
  end)

  it("closes connections that talk nonsense and goes on", function()
    for _, bytes in ipairs { "\22\3\1\255\255garbage", ("\0"):rep(2000), "\128\46\1\0\2" } do
      local conn = http.connect("127.0.0.1", port, 5)
      conn:send(bytes)
      posix.shutdown(conn.fd)
      while true do
        local got = posix.read(conn.fd, posix.now() + 5)
        if not got or got == "" then break end
      end
      conn:close()
    end
    assert.equal("hello", (certs:curl(port, "localhost", "/hello")))
  end)
end)

describe("a client that does not shake hands", function()
  it("is closed after http.header_timeout, whether it says nothing or a little", function()
    local s = start({ default }, { env = { MOONWATCH_HTTP_HEADER_TIMEOUT = "300ms", MOONWATCH_LOG_LEVEL = "debug" } })
    assert.is_false(select(2, certs:s_client(s.ports.app, "-alpn h2")))
    s:wait_log("no TLS handshake with the client: ", 5)
    local silent, slow = http.connect("127.0.0.1", s.ports.app, 5), http.connect("127.0.0.1", s.ports.app, 5)
    slow:send("\22\3\1\2\0\1")
    local began = posix.now()
    for _, conn in ipairs { silent, slow } do
      local got = posix.read(conn.fd, posix.now() + 5)
      assert.is_true(got == nil or got == "" or #got < 10)
      conn:close()
    end
    assert.is_true(posix.now() - began < 4)
    s:stop()
  end)
end)

describe("tls.min_version", function()
  it("1.3 refuses TLS 1.2", function()
    local s = server.start { plugins = plugins, config = ([[return { listen_app = "https://127.0.0.1:0",
      tls = { cert = { %q }, key = { %q }, min_version = 1.3 } }]]):format(default.cert, default.key) }
    local _, ok = certs:s_client(s.ports.app, "-tls1_2")
    assert.is_false(ok)
    _, ok = certs:s_client(s.ports.app, "-tls1_3")
    assert.is_true(ok)
    s:stop()
  end)
end)

describe("listen_redirect", function()
  it("sends clients to the same place over TLS, and answers probes itself", function()
    local fd, port = posix.listen() -- a free port
    posix.close(fd)
    local s = start({ default }, { listen = "https://127.0.0.1:" .. port, args = { "--listen-redirect", "127.0.0.1:0" } })
    local function location(path, host, method)
      local answer = s:request(method or "GET", path, { port = s.ports.redirect, headers = { host = host } })
      assert.equal(308, answer.status, path)
      return answer.headers.location
    end
    local to = "https://shop.example:" .. port
    assert.equal(to .. "/", location("/", "shop.example"))
    assert.equal(to .. "/a//b%20c?d=e&f", location("/a//b%20c?d=e&f", "shop.example:8080"))
    assert.equal(to .. "/api/v1/x", location("/api/v1/x", "shop.example", "POST"))
    assert.equal("https://[::1]:" .. port .. "/x", location("/x", "[::1]:80"))
    assert.equal(200, s:get("/livez", { port = s.ports.redirect }).status)
    local conn = http.connect("127.0.0.1", s.ports.redirect)
    conn:send("GET /x HTTP/1.0\r\n\r\n")
    assert.matches("^HTTP/1.1 400 ", posix.read(conn.fd, posix.now() + 5))
    conn:close()
    s:stop()
  end)
  it("needs a listener that speaks TLS", function()
    local dir = posix.temp_dir()
    local code, text = server.command({ "serve", "--listen-redirect", "127.0.0.1:0" }, { dir = dir })
    assert.equal(2, code)
    assert.matches("listen_redirect (from --listen-redirect) sends clients to a listener that begins with https://, and there is none", text, 1, true)
    posix.remove_dir(dir)
  end)
end)

describe("reloading certificates", function()
  local function renew(pair, from)
    tls.must(("cp %s %s.new && cp %s %s.new && mv %s.new %s && mv %s.new %s"):format(from.cert, pair.cert, from.key, pair.key, pair.cert, pair.cert, pair.key,
      pair.key))
  end

  it("happens when files change, when asked and at SIGHUP; open connections and running answers go on", function()
    local pair = certs:make("live", "DNS:localhost")
    local second, third = certs:make("second", "DNS:localhost"), certs:make("third", "DNS:localhost")
    local s = start({ pair }, { supervised = true, args = { "--workers", "2" } })
    local port = s.ports.app
    assert.equal("live", certs:subject(port, "localhost"))
    -- A kept connection: two requests with the reload between them.
    local kept = io.popen(([[{ printf 'GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n'; sleep 4; printf 'GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'; sleep 1.5; } |
      openssl s_client -quiet -connect 127.0.0.1:%d -CAfile %s 2>&1]]):format(port, certs.ca))
    renew(pair, second)
    s:control("POST", "/api/v1/reload", { json = {} })
    s:wait(function() return certs:subject(port, "localhost") == "second" end, 5, "the second certificate")
    renew(pair, third)
    s:kill(1)
    s:wait(function() return certs:subject(port, "localhost") == "third" end, 5, "the third certificate")
    local text = kept:read("*a")
    kept:close()
    assert.matches("HTTP/1.1 200 OK.*hello.*HTTP/1.1 200 OK.*begun.*done", text)

    renew(pair, second)
    s:wait(function() return certs:subject(port, "localhost") == "second" end, 10, "the change to be seen")

    tls.must("echo broken > " .. pair.cert)
    s:wait_log("the certificates cannot be loaded; those from before go on", 10)
    assert.matches(pair.cert, s:log(), 1, true)
    assert.equal("second", certs:subject(port, "localhost"))
    s:stop()
  end)
end)

describe("at start", function()
  local function try(args, command)
    local dir = posix.temp_dir()
    posix.make_dirs(dir .. "/plugins")
    local argv = { command or "serve", "--listen", "https://127.0.0.1:0" }
    for _, arg in ipairs(args) do argv[#argv + 1] = arg end
    local code, text = server.command(argv, { dir = dir })
    posix.remove_dir(dir)
    return code, text
  end
  local function files(cert, key) return { "--tls-cert", cert, "--tls-key", key } end

  it("a file that is missing, is none, has a passphrase or is of another pair is refused with its name", function()
    local sealed = certs.dir .. "/sealed.key"
    tls.must(("openssl pkey -in %s -aes256 -passout pass:x -out %s"):format(default.key, sealed))
    local cases = {
      { files("/nowhere.pem", default.key), "cannot read the certificate file /nowhere.pem: no such file" },
      { files(default.cert, "/nowhere.key"), "cannot read the key file /nowhere.key: no such file" },
      { files(default.key, default.key), default.key .. " holds no usable certificate" },
      { files(default.cert, other.key), other.key .. " is not the key (PEM) of the certificate " .. default.cert },
      { files(default.cert, sealed), "has a passphrase" },
      { files(default.cert .. "," .. other.cert, default.key), "tls.key (from --tls-key) has as many files as tls.cert" },
      { {}, "needs tls.cert and tls.key" },
    }
    for _, case in ipairs(cases) do
      local code, text = try(case[1])
      assert.equal(2, code, text)
      assert.matches(case[2], text, 1, true)
    end
    local code, text = try(files(default.cert, other.key), "check")
    assert.equal(1, code)
    assert.matches("is not the key (PEM)", text, 1, true)
    assert.equal(0, (try(files(default.cert, default.key), "check")))
  end)
  it("a certificate that has expired or is about to, and a key that others can read, are warned of", function()
    local old = certs:make("old", "DNS:localhost", { to = "20210101000000Z" })
    local short = certs:make("short", "DNS:short.example", { from = os.date("!%Y%m%d%H%M%SZ", os.time() - 86400 * 30), to = os.date("!%Y%m%d%H%M%SZ", os.time() + 86400 * 2) })
    local both = certs.dir .. "/both.pem"
    tls.must(("cat %s %s > %s && chmod 644 %s"):format(old.key, old.cert, both, both))
    local s = server.start { args = { "--listen-app", "https://127.0.0.1:0", "--tls-cert", both .. "," .. short.cert, "--tls-key", both .. "," .. short.key } }
    local log = s:log()
    assert.matches("the certificate " .. both .. " has expired", log, 1, true)
    assert.matches(short.cert .. " expires in 2.0 days: it should have been renewed", log, 1, true)
    assert.matches("the key file " .. both .. " can be read by others than its owner (mode 0644): chmod 600 it", log, 1, true)
    assert.equal("old", (certs:s_client(s.ports.app, "-servername localhost"):match("CN = (old)")))
    s:stop()
  end)
end)

describe("a private key", function()
  -- The number of an EC key as OpenSSL keeps it: 64-bit words, lowest first, which on a little-endian machine is the number backwards.
  local function number_of(key)
    local hex = tls.must("openssl ec -in " .. key .. " -noout -text"):match("priv:%s*([%x:%s]+)pub"):gsub("[:%s]", "")
    local bytes = hex:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
    return bytes:sub(-32):reverse()
  end
  local function is_in_memory(pid, bytes)
    local mem = io.open("/proc/" .. pid .. "/mem", "rb")
    if not mem then return nil end
    for line in io.lines("/proc/" .. pid .. "/maps") do
      local from, to, mode = line:match("^(%x+)%-(%x+) (%S+)")
      if mode:sub(1, 2) == "rw" and mem:seek("set", tonumber(from, 16)) then
        local text = mem:read(math.min(tonumber(to, 16) - tonumber(from, 16), 64 * 1024 * 1024))
        if text and text:find(bytes, 1, true) then
          mem:close()
          return true
        end
      end
    end
    mem:close()
    return false
  end

  it("is in the memory of the server process and not in the supervisor's", function()
    local s = start({ default }, { supervised = true })
    local number = number_of(default.key)
    local found = is_in_memory(s:server_pid(), number)
    if found == nil then
      s:stop()
      return pending("this user may not read the memory of processes")
    end
    assert.is_true(found)
    assert.is_false(is_in_memory(s.pid, number))
    s:stop()
  end)
end)

describe("testssl.sh", function()
  it("finds nothing vulnerable or weak", function()
    local tool = tls.run("command -v testssl || command -v testssl.sh"):match("%S+")
    if not tool then return pending("testssl.sh is not installed") end
    local s = start { default }
    local out = certs.dir .. "/testssl.json"
    local text = tls.run(("timeout 60 %s --quiet --color 0 --warnings batch -n none --openssl-timeout 5 --jsonfile %s -p -s -H -I -R -C 127.0.0.1:%d"):format(tool, out, s.ports.app))
    local findings = dkjson.decode(posix.read_file(out) or "null")
    assert.is_table(findings, text)
    local seen = {}
    for _, finding in ipairs(findings) do
      seen[finding.id] = finding.severity
      assert.is_nil(({ LOW = 1, MEDIUM = 1, HIGH = 1, CRITICAL = 1, FATAL = 1 })[finding.severity],
        ("%s: %s %s"):format(finding.id, finding.severity, finding.finding))
    end
    assert.equal("OK", seen.TLS1_3)
    assert.equal("OK", seen.heartbleed)
    s:stop()
  end)
end)
