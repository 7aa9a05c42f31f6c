-- SPDX-License-Identifier: MIT

--- res:file(path, opts): answers with a file from the folder that the option `files` names (`public`), read on threads of its own while the loop goes on.
--
--   res:file("reports/2026.pdf")
--   res:file(path, { type = "text/csv", download = "Umsätze.csv", cache = "1h" })
--
-- Options:
--   type       Content-Type; default: by the end of the name
--   download   true or a name: the browser saves it (Content-Disposition), under that name
--   cache      how long it may be kept without asking again, a duration: Cache-Control: max-age
--
-- It answers conditional requests (304, 412) by Last-Modified and a weak ETag, and Range with 206 or 416, several ranges as multipart/byteranges. Where
-- path .. ".gz" is there, and not older, clients that take gzip get that; other text is compressed on the way (see http.compress).
-- A path is relative and stays in the folder, links too. What is missing, hidden (".x", except ".well-known"), a folder or no regular file raises
-- `not_found` (404), so a stranger's path may be given as it is. A status set before (res:status(404):file("404.html")) is kept, and then
-- nothing is conditional. A file that is cut short while it is sent cuts the connection: a client never takes half for the whole.

local core = require "mw.core.http"
local errors = require "mw.errors"
local files = require "mw.core.files"
local json = require "mw.core.json"
local media = require "mw.http.media"
local runtime = require "mw._runtime"
local task = require "mw.core.task"
local validate = require "mw.validate"

local M = {}

local CHUNK = 65536
local options = { type = "string", download = "string|boolean", cache = "duration" }

local folder
local function folder_of()
  folder = folder or runtime.config("files") or "public"
  return folder
end

-- ---- headers ----

local function percent(byte) return string.format("%%%02X", byte:byte()) end

--- Content-Disposition for a name (RFC 6266): plain for old clients, extended for what is not ASCII.
function M.disposition(name)
  name = name:gsub("[%z\1-\31\127]", "_"):match("[^/\\]*$")
  if not json.encode(name) then name = name:gsub("[\128-\255]", "_") end -- no UTF-8
  local plain = name:gsub("[\128-\255]+", "_"):gsub('["\\%%]', "_")
  if plain == name then return 'attachment; filename="' .. name .. '"' end
  return ('attachment; filename="%s"; filename*=UTF-8\'\'%s'):format(plain, (name:gsub("[^%w!#$&+.^_`|~-]", percent)))
end

local function set_headers(res, path, opts, info)
  core.header(res, "content-type", opts.type or media.of(path))
  core.header(res, "x-content-type-options", "nosniff")
  core.header(res, "etag", info.etag)
  core.header(res, "last-modified", info.last_modified)
  if opts.cache then core.header(res, "cache-control", string.format("max-age=%d", validate.duration("res:file: cache", opts.cache))) end
  if opts.download then
    core.header(res, "content-disposition", M.disposition(opts.download == true and path:match("[^/]*$") or opts.download))
  end
  if info.is_gzip then core.header(res, "content-encoding", "gzip") end
  if info.has_gzip then core.header(res, "vary", "Accept-Encoding") end
end

-- ---- sending ----

local function check(ok, err)
  if not ok then errors.raise(err) end
  return ok
end

-- The pool is busy for a moment only; who has waited two seconds gives up.
local function read(file, at, bytes)
  for _ = 1, 40 do
    local n, err = files.read(file, at, bytes)
    if n then return n end
    if err.code ~= "unavailable" then errors.raise(err) end
    task.sleep(0.05)
  end
  errors.throw("unavailable", "res:file: too many files wait to be read")
end

local function send_span(res, file, first, last)
  local at = first
  while at <= last do
    local n = read(file, at, math.min(CHUNK, last - at + 1))
    if n == 0 then errors.throw("io", "res:file: the file was cut short while it was sent") end
    check(core.write_file(res, file))
    at = at + n
  end
end

local function is_head(res) return core.method(res) == "HEAD" end

local function send_one(res, file, status, first, last)
  core.status(res, status)
  core.begin(res, last - first + 1)
  if not is_head(res) then send_span(res, file, first, last) end
  check(core.finish(res))
end

-- multipart/byteranges (RFC 9110 14.6)
local function send_several(res, file, ranges, info, kind)
  local boundary = runtime.uuid():gsub("-", "")
  local heads, total = {}, 0
  for i = 1, #ranges, 2 do
    heads[i] = string.format("%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %.0f-%.0f/%.0f\r\n\r\n", i > 1 and "\r\n" or "", boundary, kind, ranges[i],
      ranges[i + 1], info.size)
    total = total + #heads[i] + ranges[i + 1] - ranges[i] + 1
  end
  local tail = "\r\n--" .. boundary .. "--\r\n"
  core.header(res, "content-type", "multipart/byteranges; boundary=" .. boundary)
  core.status(res, 206)
  core.begin(res, total + #tail)
  for i = 1, #ranges, 2 do
    check(core.write(res, heads[i]))
    send_span(res, file, ranges[i], ranges[i + 1])
  end
  check(core.write(res, tail))
  check(core.finish(res))
end

-- nil: the whole is sent.
local function ranges_of(res, info)
  local range = core.method(res) == "GET" and core.request_header(res, "range")
  if not range or not files.range_holds(info.etag, info.modified, core.request_header(res, "if-range")) then return nil end
  return files.ranges(range, info.size)
end

-- 200 or 304; raises what answers 412.
local function conditions(res, info, is_read)
  local verdict = files.conditional(info.etag, info.modified, is_read, core.request_header(res, "if-match"), core.request_header(res, "if-none-match"),
    core.request_header(res, "if-modified-since"), core.request_header(res, "if-unmodified-since"))
  if verdict == 412 then errors.throw("conflict", "the file is not the one that the request's condition names", { status = 412 }) end
  return verdict
end

local function content_range(res, info, what) core.header(res, "content-range", string.format("bytes %s/%.0f", what, info.size)) end

local function answer(res, file, path, opts, info)
  local method, status = core.method(res), core.current_status(res)
  if status and status ~= 200 then
    set_headers(res, path, opts, info)
    return send_one(res, file, status, 0, info.size - 1)
  end
  local verdict = conditions(res, info, method == "GET" or method == "HEAD")
  local ranges
  if verdict == 200 then ranges = ranges_of(res, info) end
  if ranges == false then
    content_range(res, info, "*")
    errors.throw("range", "the range lies beyond the end of the file", { status = 416 })
  end
  set_headers(res, path, opts, info)
  if verdict == 304 then return core.send(core.status(res, 304)) end
  core.header(res, "accept-ranges", "bytes")
  if not ranges then
    send_one(res, file, 200, 0, info.size - 1)
  elseif #ranges == 2 then
    content_range(res, info, string.format("%.0f-%.0f", ranges[1], ranges[2]))
    send_one(res, file, 206, ranges[1], ranges[2])
  else
    send_several(res, file, ranges, info, opts.type or media.of(path))
  end
end

-- Opens; returns the file and what is known of it, or nil, err, is_folder.
local function open(res, path)
  local file = files.new()
  local ok, is_gzip, has_gzip = files.open(file, folder_of(), path, core.takes_gzip(res))
  if not ok then return nil, is_gzip, has_gzip end
  local size, etag, modified, last_modified = files.info(file)
  return file, { size = size, etag = etag, modified = modified, last_modified = last_modified, is_gzip = is_gzip, has_gzip = has_gzip }
end

local function send(res, file, path, opts, info)
  local ok, err = pcall(answer, res, file, path, opts, info)
  files.close(file)
  if not ok then error(err, 0) end
end

local function check_options(what, opts)
  opts = validate.options(what, opts, options)
  if opts.cache then validate.duration(what .. ": cache", opts.cache) end
  return opts
end

M.check_options = check_options

local warned = false
local function raise(err)
  if err.code ~= "config" then errors.raise(err) end
  if not warned then
    warned = true
    require("mw.log").for_plugin("moonwatch").warn("the folder for res:file and mw.static is not there", { folder = folder_of(), option = "files" })
  end
  errors.throw("not_found", "there is no such file")
end

--- Answers with a file, or returns nil and whether the path is a folder. `opts` was checked.
function M.try(res, path, opts)
  local file, info, is_folder = open(res, path)
  if file then
    send(res, file, path, opts, info)
    return true
  end
  if info.code ~= "not_found" then raise(info) end
  return nil, is_folder
end

--- res:file
function M.file(res, path, opts)
  validate.arg("res:file", 1, "path", path, "string")
  opts = check_options("res:file", opts)
  if core.is_begun(res) then errors.throw("conflict", "res:file: the request was answered already") end
  if not M.try(res, path, opts) then errors.throw("not_found", "there is no such file") end
end

return M
