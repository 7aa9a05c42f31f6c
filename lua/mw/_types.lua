-- SPDX-License-Identifier: MIT

--- The type stubs of `mw` and `mw.testing` for the Lua language server, made from what is there: the functions of the live table, with the comments and
--- annotations that stand above them in lua/mw, and every `---@class` and `---@alias` of those files.
--
--   local text, problems = types.stub(mw, sources)        -- sources: "mw/kv.lua" -> its text
--
-- What has no Lua source of its own (C functions, closures) is a `---@field` of a class: of `mw`, or of the class of the table it is in, which
-- is called after it (`mw.json`: mw.Json). `problems` says what lacks an annotation, and where to write it.

local M = {}

-- ---- reading the sources ----

-- Takes what a block of --- comments belongs to: a class, an alias or a function.
local function take_block(file, block, line, number)
  local class = table.concat(block, "\n"):match("%-%-%-@class ([%w_.]+)")
  local is_type = class or table.concat(block, "\n"):find("---@alias ", 1, true)
  if is_type then
    file.types[#file.types + 1] = { name = class, lines = block }
    local var = line:match("^local ([%w_]+) = {")
    if var and class then file.classes[var] = class end
    return
  end
  local owner, mark, name, args = line:match("^function ([%w_]+)([:.])([%w_]+)(%b())")
  if not owner then name, args = line:match("^local function ([%w_]+)(%b())") end
  if not name then return end
  file.functions[number] = { owner = owner, mark = mark, name = name, args = args:sub(2, -2), lines = block }
end

local function read(path, text)
  local file, block, number = { path = path, types = {}, classes = {}, functions = {} }, {}, 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    if line:find("^%-%-%-") then block[#block + 1] = line
    else
      take_block(file, block, line, number)
      block = {}
    end
  end
  return file
end

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function read_all(sources, of_testing)
  local files = {}
  for path, text in pairs(sources) do
    if (path:find("^mw/testing/") ~= nil) == of_testing then files[path] = read(path, text) end
  end
  return files
end

-- ---- writing ----

local function add(out, ...)
  for i = 1, select("#", ...) do out[#out + 1] = (select(i, ...)) end
end

local function check_params(fn, what, path, problems)
  local text = table.concat(fn.lines, "\n")
  if #fn.lines == 0 then problems[#problems + 1] = what .. " has no comment: write `--- …` above it in lua/" .. path end
  for name in fn.args:gmatch("[%w_.]+") do
    if not text:find("---@param " .. name:gsub("%.", "%%.") .. "%??%s") then
      problems[#problems + 1] = what .. " lacks `---@param " .. name .. " …` above it in lua/" .. path
    end
  end
end

local function write_function(out, fn, name, path, problems)
  check_params(fn, name, path, problems)
  add(out, "")
  add(out, unpack(fn.lines))
  add(out, ("function %s(%s) end"):format(name, fn.args))
end

local function local_name(class) return (class:gsub("%.", "_")) end

-- A class with its methods. `mw` and the tables in it come from the live table instead.
local function write_types(out, file, skip, problems, classes)
  for _, entry in ipairs(file.types) do
    if not entry.name then
      add(out, "")
      add(out, unpack(entry.lines))
    elseif not skip[entry.name] then
      add(out, "")
      add(out, unpack(entry.lines))
      add(out, "local " .. local_name(entry.name) .. " = {}")
    end
  end
  local numbers = sorted(file.functions)
  for _, number in ipairs(numbers) do
    local fn = file.functions[number]
    local class = fn.owner and (classes or file.classes)[fn.owner]
    if class and not skip[class] and not fn.name:find("^_") and (#fn.lines > 0 or not classes) then
      local args = fn.args
      if fn.mark == "." then -- written as methods.step(ctx, name): the first is the object
        args = args:gsub("^[%w_]+,?%s*", "")
      end
      write_function(out, { lines = fn.lines, args = args }, local_name(class) .. ":" .. fn.name, file.path, problems)
    end
  end
end

-- ---- the live table ----

-- Effects are wrapped by mw/init.lua.
local function unwrap(fn)
  if debug.getinfo(fn, "S").source ~= "@lua/mw/init.lua" then return fn end
  for i = 1, 10 do
    local name, value = debug.getupvalue(fn, i)
    if name == "fn" and type(value) == "function" then return value end
  end
  return fn
end

local function source_of(files, fn)
  local info = debug.getinfo(unwrap(fn), "S")
  local file = files[info.source:match("^@lua/(.+)$") or ""]
  return file and file.functions[info.linedefined], file
end

local function class_of(files, name)
  for _, path in ipairs(sorted(files)) do
    for _, entry in ipairs(files[path].types) do
      if entry.name == name then return entry end
    end
  end
end

-- Names that a class and its parents declare as fields.
local function fields_of(files, name, into)
  local entry = class_of(files, name)
  for _, line in ipairs(entry and entry.lines or {}) do
    local field, parents = line:match("^%-%-%-@field ([%w_]+)"), line:match("^%-%-%-@class [%w_.]+: (.+)$")
    if field then into[field] = true end
    for parent in (parents or ""):gmatch("[%w_.]+") do fields_of(files, parent, into) end
  end
  return into
end

local function class_name(prefix, key) return prefix .. "." .. key:sub(1, 1):upper() .. key:sub(2) end

local write_table

local function write_member(out, files, prefix, key, value, problems)
  local name = prefix .. "." .. key
  if type(value) == "table" and getmetatable(value) == nil then return write_table(out, files, name, class_name("mw", key), value, problems) end
  local fn, file
  if type(value) == "function" then fn, file = source_of(files, value) end
  if fn then return write_function(out, fn, name, file.path, problems) end
  problems[#problems + 1] = ("%s is in no stub: write `---@field %s …` into the class of its table (see lua/mw/_types.lua)"):format(name, key)
end

function write_table(out, files, name, class, live, problems)
  local entry, fields = class_of(files, class), fields_of(files, class, {})
  add(out, "")
  add(out, unpack(entry and entry.lines or { "---@class " .. class }))
  add(out, (name:find(".", 1, true) and name or "local " .. name) .. " = {}")
  for _, key in ipairs(sorted(live)) do
    if not fields[key] then write_member(out, files, name, key, live[key], problems) end
  end
  for _, field in ipairs(sorted(fields)) do
    if live[field] == nil then problems[#problems + 1] = ("%s.%s is declared as a field of %s and is not there"):format(name, field, class) end
  end
end

local function classes_of_tables(files, live, into)
  into.mw = true
  for key, value in pairs(live) do
    local class = class_name("mw", key)
    if type(value) == "table" and getmetatable(value) == nil and not fields_of(files, "mw", {})[key] then into[class] = true end
  end
  return into
end

--- The text of mw.lua for a language server, and a list of what is missing in the sources.
---@param live table what `require "mw"` gives a plugin
---@param sources table<string, string>
---@return string text
---@return string[] problems
function M.stub(live, sources)
  local files, out, problems = read_all(sources, false), { "---@meta mw", "", "-- The types of `mw`, written by `moonwatch types`; do not edit." }, {}
  local skip = classes_of_tables(files, live, {})
  for _, path in ipairs(sorted(files)) do write_types(out, files[path], skip, problems) end
  write_table(out, files, "mw", "mw", live, problems)
  add(out, "", "return mw", "")
  return table.concat(out, "\n"), problems
end

--- The text of mw/testing.lua: App has its methods in several files, and what has no comment there is not for specs.
---@param live table what `require "mw.testing"` gives
---@param sources table<string, string>
---@return string text
function M.testing_stub(live, sources)
  local files, out, classes = read_all(sources, true), { "---@meta mw.testing", "", "-- The types of `mw.testing`, written by `moonwatch types`; do not edit." }, {}
  for _, path in ipairs(sorted(files)) do
    for var, class in pairs(files[path].classes) do classes[var] = class end
  end
  for _, path in ipairs(sorted(files)) do
    if path ~= "mw/testing/inside.lua" then write_types(out, files[path], {}, {}, classes) end
  end
  for path, text in pairs(sources) do files[path] = files[path] or read(path, text) end -- mw.testing.error is mw.error
  write_table(out, files, "testing", "mw.testing", live, {})
  add(out, "", "return testing", "")
  return table.concat(out, "\n")
end

return M
