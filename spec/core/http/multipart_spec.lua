-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/multipart.h")

local C = ffi.C
local MORE, PART, DATA, END, DONE = 0, 1, 2, 3, 4

local function text_of(str) return ffi.string(str.ptr, str.len) end

-- Feeds the pieces; returns the list of parts, or nil and the error's sentence and code.
local function read(pieces, content_type)
  local m, err, piece = ffi.new("mw_multipart"), ffi.new("mw_err"), ffi.new("mw_str")
  content_type = content_type or "multipart/form-data; boundary=XX"
  if C.mw_multipart_init(m, ffi.new("mw_str", content_type, #content_type), err) ~= 0 then return nil, ffi.string(err.text), err.code end
  local parts, open, done = {}, nil, false
  for _, text in ipairs(pieces) do
    local data = ffi.new("mw_str", text, #text)
    while true do
      local event = tonumber(C.mw_multipart_next(m, data, piece, err))
      if event == MORE then
        assert(data.len == 0)
        break
      elseif event == PART then
        assert(not open and not done)
        open = { name = text_of(m.part.name), type = text_of(m.part.type), body = "" }
        if m.part.is_file then open.filename, open.raw = text_of(m.part.filename), text_of(m.part.raw_filename) end
        parts[#parts + 1] = open
      elseif event == DATA then
        assert(piece.len > 0)
        open.body = open.body .. text_of(piece)
      elseif event == END then
        assert(open)
        open = nil
      elseif event == DONE then
        assert(not open and not done)
        done = true
      else
        return nil, ffi.string(err.text), err.code
      end
    end
  end
  if C.mw_multipart_finish(m, err) ~= 0 then return nil, ffi.string(err.text), err.code end
  assert(done)
  return parts
end

local function part(headers, body) return "--XX\r\n" .. headers .. "\r\n\r\n" .. body .. "\r\n" end
local function field(name, body) return part('Content-Disposition: form-data; name="' .. name .. '"', body) end
local function one(headers, body) return read { part(headers, body or "b") .. "--XX--\r\n" } end
local function disposition(rest) return one("Content-Disposition: form-data; " .. rest) end

local form = "a preamble\r\n" .. field("title", "An essay") ..
  part('content-disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: application/pdf; x="y"', "\r\n--X\r\r\n--XY\r\n--\r") ..
  field("empty", "") .. "--XX--\r\nan epilogue\r\n--XX\r\n"
local expected = {
  { name = "title", type = "", body = "An essay" },
  { name = "file", type = 'application/pdf; x="y"', body = "\r\n--X\r\r\n--XY\r\n--\r", filename = "a.bin", raw = "a.bin" },
  { name = "empty", type = "", body = "" },
}

describe("multipart", function()
  it("reads fields and files, between a preamble and an epilogue", function()
    assert.same(expected, read { form })
    assert.same({}, read { "--XX--" })
    assert.same({ { name = "a", type = "", body = "b" } }, read { "--XX \t\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--XX--" })
  end)

  it("reads the same however it is cut", function()
    for at = 1, #form - 1 do assert.same(expected, read { form:sub(1, at), form:sub(at + 1) }) end
    local bytes = {}
    for i = 1, #form do bytes[i] = form:sub(i, i) end
    assert.same(expected, read(bytes))
    for size = 2, 9 do
      local pieces = {}
      for at = 1, #form, size do pieces[#pieces + 1] = form:sub(at, at + size - 1) end
      assert.same(expected, read(pieces))
    end
  end)

  it("is not whole before its last boundary is", function()
    local last = select(2, form:find("--XX--", 1, true))
    for at = 0, last - 1 do
      local parts, why = read { form:sub(1, at) }
      assert.is_nil(parts)
      assert.matches("^the form ", why)
    end
    assert.same(expected, read { form:sub(1, last) })
  end)

  it("takes content that looks like a boundary for content", function()
    for _, body in ipairs { "--XX", "\r\n-XX", "\r\n--X", "\r", "\r\n", "\r\r\r\n\r\n--\r\n--X\r", ("\r\n--X"):rep(50), "\n--XX--" } do
      assert.equal(body, read({ field("a", body) .. "--XX--" })[1].body, ("%q"):format(body))
    end
  end)

  it("gives the last part of a file's name, and the whole beside it", function()
    for raw, name in pairs {
      ["a.txt"] = "a.txt", ["/etc/passwd"] = "passwd", ["..\\..\\a.exe"] = "a.exe", ["C:\\dir\\ä.txt"] = "ä.txt", ["a/b\\c"] = "c",
      ["dir/"] = "", [".."] = "", ["a/.."] = "", ["."] = "", [""] = "", ["..."] = "...", [".profile"] = ".profile",
    } do
      local found = disposition(('name="f"; filename="%s"'):format((raw:gsub("\\", "\\\\"))))[1]
      assert.same({ raw, name }, { found.raw, found.filename })
    end
    assert.equal("x.txt", disposition([[name="f"; filename="C:\temp\x.txt"]])[1].filename)
    assert.is_nil(disposition('name="f"')[1].filename)
  end)

  it("prefers filename*", function()
    assert.equal("€.txt", disposition([[name="f"; filename="x.txt"; filename*=UTF-8''%e2%82%ac.txt]])[1].filename)
    assert.equal("€.txt", disposition([[name="f"; filename*=UTF-8''%e2%82%ac.txt; filename="x.txt"]])[1].filename)
    assert.equal("passwd", disposition([[name="f"; filename*=UTF-8''..%2f..%2fpasswd]])[1].filename)
  end)

  it("refuses names that could be read in two ways, or are no text", function()
    for rest, why in pairs {
      ['name="a"; name="b"'] = "two names", ['name="f"; filename="a"; filename="b"'] = "two names, or one in pieces",
      ['name="f"; filename*0="a"; filename*1="b"'] = "in pieces", ["name=\"f\"; filename*=UTF-8''%00"] = "control character",
      ["name=\"f\"; filename*=UTF-8''%ff"] = "is not UTF%-8", ['name="\255"'] = "is not UTF%-8", ['name="f"; filename="\255"'] = "is not UTF%-8",
      ['filename="a"'] = "no name", ['name="a'] = "malformed", ["name"] = "malformed",
    } do
      local parts, sentence = disposition(rest)
      assert.is_nil(parts, rest)
      assert.matches(why, sentence)
    end
  end)

  it("refuses malformed parts", function()
    for headers, why in pairs {
      [""] = "no Content%-Disposition", ["Content-Type: text/plain"] = "no Content%-Disposition", ["Content-Disposition: attachment; name=a"] = "not form%-data",
      ["Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"] = "two Content%-Disposition",
      ["Content-Disposition: form-data; name=a\r\nContent-Type: a/b\r\nContent-Type: a/b"] = "two Content%-Type",
      ["Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64"] = "Content%-Transfer%-Encoding",
      ["Content-Disposition: form-data; name=a\n"] = "CRLF", ["Content-Disposition : form-data; name=a"] = "malformed header",
      ["Content-Disposition: form-data; name=a\r\n folded"] = "malformed header", ["no colon"] = "malformed header",
      ["Content-Disposition: form-data; name=a\r\nX: \0"] = "malformed header",
    } do
      local parts, sentence = one(headers)
      assert.is_nil(parts, headers)
      assert.matches(why, sentence)
    end
    for _, headers in ipairs { "7bit", "8bit", "binary", "BINARY" } do
      assert.equal("b", one("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: " .. headers)[1].body)
    end
    assert.matches("followed by something", select(2, read { "--XXY\r\n" }))
    assert.matches("followed by something", select(2, read { "--XX\n" }))
    assert.matches("followed by something", select(2, read { "--XX-\r\n" }))
    assert.matches("followed by something", select(2, read { "--XX" .. (" "):rep(65) .. "\r\n" }))
  end)

  it("has its limits", function()
    local limit = -20003
    assert.equal(1000, #read { field("a", "b"):rep(1000) .. "--XX--" })
    assert.equal(limit, select(3, read { field("a", "b"):rep(1001) .. "--XX--" }))
    assert.equal(1024, #disposition(('name="%s"'):format(("n"):rep(1024)))[1].name)
    assert.equal(limit, select(3, disposition(('name="%s"'):format(("n"):rep(1025)))))
    assert.equal(limit, select(3, disposition(('name="f"; filename="%s"'):format(("n"):rep(1025)))))
    assert.equal(limit, select(3, one("Content-Disposition: form-data; name=a\r\nX: " .. ("x"):rep(8192))))
    assert.is_table(one("Content-Disposition: form-data; name=a\r\nX: " .. ("x"):rep(8000)))
  end)

  it("needs a boundary as RFC 2046 has them", function()
    for content_type, why in pairs {
      ["text/plain"] = "not multipart", ["multipart/mixed; boundary=XX"] = "not multipart", ["multipart/form-data"] = "no boundary",
      ["multipart/form-data; boundary="] = "malformed", ['multipart/form-data; boundary=""'] = "1 to 70", ['multipart/form-data; boundary="a "'] = "1 to 70",
      ['multipart/form-data; boundary="a\rb"'] = "1 to 70", ["multipart/form-data; boundary=" .. ("x"):rep(71)] = "1 to 70",
      ["multipart/form-data; boundary=a; boundary=b"] = "two boundaries", ["multipart/form-data; boundary=a; x=" .. ("x"):rep(2000)] = "too long",
    } do
      local parts, sentence = read({ form }, content_type)
      assert.is_nil(parts, content_type)
      assert.matches(why, sentence)
    end
    for _, boundary in ipairs { ("x"):rep(70), "'()+_,-./:=? x" } do
      assert.same({}, read({ "--" .. boundary .. "--" }, ('Multipart/Form-Data; charset=utf-8; boundary="%s"'):format(boundary)))
    end
  end)

  it("ends in an answer for whatever bytes it gets", function()
    local seed = 42
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return math.floor(seed / 65536) % n
    end
    for _ = 1, 3000 do
      local bytes = {}
      for i = 1, #form do bytes[i] = form:sub(i, i) end
      for _ = 1, 1 + random(4) do bytes[1 + random(#bytes)] = string.char(random(256)) end
      local text = table.concat(bytes)
      local at = random(#text)
      local whole, why = read { text }
      local cut, cut_why = read { text:sub(1, at), text:sub(at + 1) }
      assert.same(whole, cut)
      assert.equal(why, cut_why)
    end
  end)
end)
