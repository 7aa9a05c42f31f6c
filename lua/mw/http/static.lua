-- SPDX-License-Identifier: MIT

--- mw.static(prefix, dir, opts, middleware…): serves a folder inside the one that the option `files` names (`public`); "" is that itself.
--
--   mw.static("/assets", "assets", { cache = "1h" })
--   mw.static("/", "site", { fallback = "index.html" })
--
-- Options:
--   cache      as of res:file
--   index      what a folder answers with: "index.html"; false: nothing. A folder asked for without "/" at its end is redirected there
--   fallback   a file for paths where nothing is, for applications that route in the browser
--   compress   false: never compressed
--
-- Otherwise it is res:file for each path: see lua/mw/http/files.lua.

local core = require "mw.core.http"
local errors = require "mw.errors"
local files = require "mw.http.files"
local validate = require "mw.validate"

local M = {}

local options = { cache = "duration", index = "string|boolean", fallback = "string", compress = "boolean" }

local function join(dir, name) return dir == "" and name or name == "" and dir or dir .. "/" .. name end

local function encode(path)
  return (path:gsub("[^%w/!$&'()*+,;=:@._~-]", function(byte) return string.format("%%%02X", byte:byte()) end))
end

-- To the path itself, never to what could be read as a host ("//…").
local function add_slash(req, res)
  local query = core.query_text(req[1])
  res:redirect(encode(req.path:gsub("/+$", "")) .. "/" .. (query ~= "" and "?" .. query or ""), 301)
end

local function ends_in_slash(req) return core.target(req[1]):match("^[^?]*"):sub(-1) == "/" end

--- Checks what mw.static was given; returns the handler and the options of its routes.
function M.handler(what, dir, opts)
  opts = validate.options(what, opts, options)
  validate.arg(what, 2, "dir", dir, "string")
  dir = dir:gsub("^%./", ""):gsub("/+$", "")
  if dir == "." then dir = "" end
  if dir:sub(1, 1) == "/" or ("/" .. dir .. "/"):find("/%.%.?/") then
    errors.throw("invalid", what .. ": the folder must lie inside the one that the option `files` names, such as \"assets\"")
  end
  local file_opts = files.check_options(what, { cache = opts.cache })
  local index = opts.index == nil and "index.html" or opts.index

  local function answer(req, res)
    local name = (req.params.path or ""):gsub("/+$", "")
    local slash = ends_in_slash(req)
    if name ~= "" and not slash then
      local ok, is_folder = files.try(res, join(dir, name), file_opts)
      if ok then return true end
      if is_folder and index then return true, add_slash(req, res) end
    elseif index then
      if not slash then return true, add_slash(req, res) end
      if files.try(res, join(dir, join(name, index)), file_opts) then return true end
    end
    return opts.fallback and files.try(res, join(dir, opts.fallback), file_opts)
  end

  return function(req, res)
    if not answer(req, res) then errors.throw("not_found", "there is no such file") end
  end, { compress = opts.compress }
end

return M
