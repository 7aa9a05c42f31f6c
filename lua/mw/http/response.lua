-- SPDX-License-Identifier: MIT

--- The answer. A handler gives exactly one; a second raises.
--
--   res:status(201)  res:header("x-id", id)  res:cookie("session", token, {max_age = "7d"})      chainable, before the answer
--   res:json(value)  res:text("…")  res:html("…")  res:redirect("/login" [, 303])  res:send(bytes)   whole answers
--   res:file("reports/2026.pdf", {download = true})       a file, with ranges and conditions: see lua/mw/http/files.lua
--   res:write(piece) … res:finish()        streamed: chunked; write waits while the client is slow, and raises when it is gone
--
-- The status is 200 unless set. res:status(204) and return is an answer without a body. Content-Type is what the method says unless
-- res:header("content-type", …) was called; res:send has none of its own.

local core = require "mw.core.http"
local errors = require "mw.errors"
local task = require "mw.core.task"
local validate = require "mw.validate"

---@class mw.Response
---@field status fun(self: mw.Response, status: integer): mw.Response
---@field header fun(self: mw.Response, name: string, value: string|number): mw.Response
---@field json fun(self: mw.Response, value: any) the whole answer
---@field text fun(self: mw.Response, text: string) the whole answer
---@field html fun(self: mw.Response, html: string) the whole answer
---@field send fun(self: mw.Response, bytes?: string) the whole answer, without a content type of its own
local methods = {
  status = core.status,
  header = core.header,
  json = core.json,
  text = core.text,
  html = core.html,
  send = core.send,
}

local cookie_options = {
  path = "string", domain = "string", max_age = "duration", same_site = "string", http_only = "boolean", secure = "boolean",
}
local same_sites = { lax = "Lax", strict = "Strict", none = "None" }

--- Sets a cookie. Options: path ("/"), domain, max_age (a duration; default: until the browser closes), same_site ("lax", "strict",
--- "none"; default lax), http_only (true), secure (true when the client speaks TLS, and for same_site none).
---@param name string
---@param value string
---@param opts? { path?: string, domain?: string, max_age?: mw.Duration, same_site?: "lax"|"strict"|"none", http_only?: boolean, secure?: boolean }
---@return mw.Response
function methods:cookie(name, value, opts)
  opts = validate.options("res:cookie", opts, cookie_options)
  local same_site = same_sites[(opts.same_site or "lax"):lower()]
  if not same_site then errors.throw("invalid", "res:cookie: same_site must be \"lax\", \"strict\" or \"none\"") end
  local secure = opts.secure
  if secure == nil then secure = core.scheme(self) == "https" or same_site == "None" end
  return core.add_cookie(self, name, value, {
    path = opts.path or "/", domain = opts.domain, same_site = same_site, secure = secure,
    max_age = opts.max_age and math.floor(validate.duration("res:cookie: max_age", opts.max_age)) or nil,
    http_only = opts.http_only ~= false,
  })
end

--- Sends the client elsewhere: 302 unless another 3xx is given.
---@param url string
---@param status? 301|302|303|307|308
function methods:redirect(url, status)
  status = status or 302
  if type(url) ~= "string" or url == "" then errors.throw("invalid", "res:redirect: the address must be a string") end
  if type(status) ~= "number" or status < 300 or status > 399 then
    errors.throw("invalid", "res:redirect: the status must be 301, 302, 303, 307 or 308")
  end
  core.header(self, "location", url)
  core.status(self, status)
  return core.send(self)
end

local SLICE = 256 * 1024

local function write(res, piece)
  local ok, err = core.write(res, piece)
  if not ok then errors.raise(err) end
end

--- Sends a piece of a streamed answer.
---@param piece string
---@return mw.Response
function methods:write(piece)
  if not core.is_begun(self) then core.begin(self) end
  if type(piece) == "string" and #piece > SLICE and core.is_compressed(self) then
    for at = 1, #piece, SLICE do
      if at > 1 then task.sleep(0) end -- compressing takes time that others need too
      write(self, piece:sub(at, at + SLICE - 1))
    end
  else
    write(self, piece)
  end
  return self
end

--- Answers with a file of the folder that the option `files` names; waits. Options: type, download, cache (lua/mw/http/files.lua).
---@param path string
---@param opts? { type?: string, download?: string|boolean, cache?: mw.Duration }
function methods:file(path, opts) return require("mw.http.files").file(self, path, opts) end

--- Ends a streamed answer; without a write before it, an empty one.
function methods:finish()
  if not core.is_begun(self) then return core.send(self) end
  if not core.is_open(self) then errors.throw("conflict", "res:finish: the request was answered already") end
  local ok, err = core.finish(self)
  if not ok then errors.raise(err) end
end

return { metatable = { __index = methods, __metatable = "mw.response" } }
