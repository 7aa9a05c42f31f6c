-- SPDX-License-Identifier: MIT
-- Certificates for specs, made by the openssl command in a folder below /tmp, and the commands that talk TLS.
--
--   local certs = require("support.certs").open()
--   local pair = certs:make("a", "DNS:a.example,DNS:*.a.example")     -- pair.cert, pair.key; opts: days, from, bits, passphrase
--   certs:subject(port, "a.example")                                   -- the common name of what the server shows
--   certs:close()

local posix = require "support.posix"

local M = {}
local Certs = {}
Certs.__index = Certs

---Runs a command line; returns what it printed (both streams) and whether it succeeded.
function M.run(command)
  local pipe = io.popen("{ " .. command .. "\n} 2>&1 </dev/null; echo \"=$?\"")
  local text = pipe:read("*a")
  pipe:close()
  local out, code = text:match("^(.*)=(%d+)\n$")
  return out, code == "0"
end

function M.must(command)
  local out, ok = M.run(command)
  if not ok then error(command .. ":\n" .. out, 2) end
  return out
end

function M.open()
  local self = setmetatable({ dir = posix.temp_dir() }, Certs)
  self.ca = self.dir .. "/ca.pem"
  M.must(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout %s/ca.key -out %s"):format(self.dir, self.ca))
  return self
end

function Certs:close() posix.remove_dir(self.dir) end

-- openssl ca is the one command that signs with any dates.
local CA_CONFIG = [[
[ca]
default_ca = d
[d]
database = %s/index
new_certs_dir = %s
rand_serial = yes
unique_subject = no
default_md = sha256
policy = p
copy_extensions = copy
[p]
commonName = supplied
]]

---Writes name.pem and name.key (mode 0600); `names` as openssl writes alternative names. opts: from and to ("20200101000000Z").
function Certs:make(name, names, opts)
  opts = opts or {}
  local base = self.dir .. "/" .. name
  posix.write_file(self.dir .. "/ca.conf", CA_CONFIG:format(self.dir, self.dir))
  M.must("touch " .. self.dir .. "/index")
  M.must(("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=%s %s -keyout %s.key -out %s.csr"):format(
    opts.common_name or name, names and ("-addext subjectAltName=" .. names) or "", base, base))
  local dates = opts.to and ("-startdate %s -enddate %s"):format(opts.from or "20200101000000Z", opts.to) or "-days 2"
  M.must(("openssl ca -batch -notext -config %s/ca.conf -cert %s -keyfile %s/ca.key -in %s.csr -out %s.pem %s"):format(
    self.dir, self.ca, self.dir, base, base, dates))
  M.must("chmod 600 " .. base .. ".key")
  return { cert = base .. ".pem", key = base .. ".key" }
end

---What s_client prints after a handshake; `more` are further arguments. Second: whether it succeeded.
function Certs:s_client(port, more)
  return M.run(("openssl s_client -connect 127.0.0.1:%d -CAfile %s -verify_return_error %s"):format(port, self.ca, more or ""))
end

---The common name of the certificate that a client gets who asks for `name` (nil: for none).
function Certs:subject(port, name)
  local out = self:s_client(port, name and ("-servername " .. name) or "-noservername")
  return out:match("subject=CN = ([^\n]+)") or out
end

---curl over TLS; returns the body and whether it succeeded.
function Certs:curl(port, name, path, more)
  return M.run(("curl -sS --max-time 10 --noproxy '*' --cacert %s --resolve %s:%d:127.0.0.1 %s https://%s:%d%s"):format(
    self.ca, name, port, more or "", name, port, path))
end

return M
