-- SPDX-License-Identifier: MIT

--- Loads plugins into a state, and says what is wrong with one that does not load.
--
-- A plugin is a file `name.lua` directly below the plugins directory, or a folder `name/` with an `init.lua`. Other Lua files are modules
-- for `require "lib.money"` (lib/money.lua or lib/money/init.lua). Files and folders whose name begins with "_" are never plugins.
-- Loading only declares: an effect raises, with the place where it belongs.
--
-- What a plugin's code is made of, its own file or folder and every module it required, is its bundle: a manifest of paths and source
-- hashes, known by the hash of that manifest. Executions are pinned to it.

local core = require "mw.core.runtime"
local crypto = require "mw.crypto"
local determinism = require "mw.workflow.determinism"
local errors = require "mw.errors"
local json = require "mw.core.json"
local registry = require "mw._registry"
local routes = require "mw.routes"
local sandbox = require "mw.core.sandbox"
local task = require "mw.core.task"
local validate = require "mw.validate"

local M = {}

--- The API level that executions record; a later binary keeps the older levels working.
M.api_level = 1

local MAX_LOADED_BUNDLES = 32
local EXCERPT_LINES = 2

-- ---- what is wrong, in words ----

local function excerpt(source, line)
  local lines, number = {}, 0
  for text in (source .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    if number >= line - EXCERPT_LINES and number <= line + EXCERPT_LINES then
      lines[#lines + 1] = string.format("%s %4d | %s", number == line and ">" or " ", number, text:sub(1, 160))
    end
  end
  return table.concat(lines, "\n")
end

-- "attempt to call field 'querry' (a nil value)": the function of mw that was meant, when the line calls mw.
local function meant(message, source, line)
  local name = message:match("^attempt to call field '([%w_]+)' %(a nil value%)$")
  local number = 0
  for text in (name and source .. "\n" or ""):gmatch("(.-)\r?\n") do
    number = number + 1
    if number == line then
      local near = text:find("mw." .. name, 1, true) and validate.nearest(name, require("mw").public { name = "" })
      return near and "mw has no function " .. name .. "; did you mean mw." .. near .. "?" or nil
    end
  end
end

local function problem(plugin, err, read)
  err = errors.from(err)
  local where, message = err.where, err.message
  local file, line = (where or ""):match("^plugins/(.-):(%d+)$")
  local report = {
    plugin = plugin.name, file = "plugins/" .. (file or plugin.file), line = tonumber(line), code = err.code, message = message,
  }
  local source = file and read(file)
  if source and report.line then
    report.excerpt = excerpt(source, report.line)
    report.message = meant(message, source, report.line) or message
  end
  report.hint = err.code == "syntax" and "mend the syntax and save; the version before keeps serving until then"
    or "mend the file and save, or run `moonwatch check`; the version before keeps serving until then"
  return report
end

-- ---- modules and environments ----

local function find_module(name, read)
  local path = name:gsub("%.", "/")
  for _, candidate in ipairs { path .. ".lua", path .. "/init.lua" } do
    local source = read(candidate)
    if source then return candidate, source end
  end
end

local function nothing_there(name, plugin)
  errors.throw("not_found", string.format("module %q is not below the plugins directory; plugins/%s.lua or plugins/%s/init.lua would be it (plugin %s)",
    name, name:gsub("%.", "/"), name:gsub("%.", "/"), plugin.name))
end

local run_file

local function make_require(plugin, mw, read)
  return function(name)
    if name == "mw" then return mw end
    if type(name) ~= "string" or not name:find("^[%w_][%w_%.%-]*$") then
      errors.throw("invalid", "require: the name of a module is words joined by dots, like \"lib.money\"")
    end
    if plugin.modules[name] ~= nil then return plugin.modules[name] end
    if not task.loading() then
      errors.throw("invalid", string.format("require %q runs too late: put it at the top of the file, so that the list of what a plugin uses is complete", name))
    end
    if plugin.requiring[name] then errors.throw("invalid", string.format("module %q requires itself, directly or through another", name)) end
    local path, source = find_module(name, read)
    if not path then nothing_there(name, plugin) end
    plugin.requiring[name] = true
    local value = run_file(plugin, path, source)
    plugin.requiring[name] = nil
    if value == nil then value = true end
    plugin.modules[name] = value
    return value
  end
end

function run_file(plugin, path, source)
  plugin.sources[path] = source
  local chunk, err = sandbox.load(source, "@plugins/" .. path, plugin.env)
  if not chunk then
    err = errors.from(err)
    err.code = "syntax"
    error(err, 0)
  end
  return chunk()
end

local function new_plugin(name, file, read)
  local plugin = {
    name = name, file = file, uses = {}, workflows = {}, declarations = {}, modules = {}, requiring = {}, sources = {},
  }
  plugin.env = sandbox.new_env(name)
  determinism.install(plugin.env)
  plugin.env.require = make_require(plugin, require("mw").public(plugin), read)
  return plugin
end

local function traceback(err)
  if type(err) == "string" then err = errors.from(err) end
  if errors.is(err) and not err.where then err.where = errors.where() end
  return err
end

local function pcall_traced(handler, fn, ...) return xpcall(fn, handler, ...) end

-- Runs the plugin's file with the registry pointed at it. A pinned one is loaded by a task, which a kill ends anyway.
local function run_plugin(plugin, read)
  registry.loading = plugin
  local protected = plugin.pinned and pcall_traced or sandbox.apart
  local ok, err = protected(traceback, run_file, plugin, plugin.file, read(plugin.file))
  registry.loading = nil
  return ok, err
end

-- ---- bundles ----

local function make_bundle(plugin)
  local files, sources = {}, {}
  for path, source in pairs(plugin.sources) do
    local hash = crypto.digest("sha256", source)
    files[path] = hash
    sources[hash] = source
  end
  local manifest = json.encode({ format = 1, entry = plugin.file, plugin = plugin.name, api = M.api_level, files = files }, { sort = true })
  local hash = crypto.digest("sha256", manifest)
  registry.bundles[hash] = { manifest = manifest, sources = sources }
  plugin.bundle = hash
  for _, workflow in pairs(plugin.workflows) do workflow.bundle = hash end
end

-- ---- all plugins ----

local function plugins_of(files)
  local list = {}
  for _, path in ipairs(files) do
    local name = path:match("^([^/]+)%.lua$") or path:match("^([^/]+)/init%.lua$")
    if name and name:sub(1, 1) ~= "_" and name ~= "init" then list[#list + 1] = { name = name, file = path } end
  end
  return list
end

local function describe(plugin)
  return { name = plugin.name, file = "plugins/" .. plugin.file, bundle = plugin.bundle, declarations = json.array(plugin.declarations) }
end

--- Loads all plugins of this state's generation. Returns true or false and a report:
--- { generation, plugins = [{name, file, bundle, declarations}], errors = [{plugin, file, line, code, message, excerpt, hint}] }
function M.load_all()
  local files = core.files()
  local report = { generation = core.generation(), plugins = json.array {}, errors = json.array {} }
  for _, found in ipairs(plugins_of(files)) do
    local plugin = new_plugin(found.name, found.file, core.read)
    local ok, err = run_plugin(plugin, core.read)
    if ok then
      make_bundle(plugin)
      registry.plugins[#registry.plugins + 1] = plugin
    else
      report.errors[#report.errors + 1] = problem(plugin, err, core.read)
    end
    report.plugins[#report.plugins + 1] = describe(plugin)
  end
  routes.finish()
  return #report.errors == 0, report
end

--- Adds a failure that belongs to no single file to a report.
function M.add_problem(report, err)
  report.errors[#report.errors + 1] = problem({ name = "routes", file = "" }, err, core.read)
end

-- ---- pinned bundles ----

local loaded, order = {}, {}

local function keep(hash, workflows)
  loaded[hash] = workflows
  order[#order + 1] = hash
  if #order > MAX_LOADED_BUNDLES then loaded[table.remove(order, 1)] = nil end
  return workflows
end

local function sources_of(store, manifest)
  local by_path = {}
  for path, hash in pairs(manifest.files) do
    local text, err = store.get_code(hash)
    if not text then return nil, err or errors.new("not_found", "the code store has lost " .. path) end
    by_path[path] = text
  end
  return by_path
end

-- Only workflows register; everything else the plugin declares stays what the current plugins say.
local function run_bundle(hash, manifest, by_path)
  local function read(path) return by_path[path] end
  local plugin = new_plugin(manifest.plugin, manifest.entry, read)
  plugin.pinned = hash
  core.set_loading(true)
  local ok, err = run_plugin(plugin, read)
  core.set_loading(false)
  if not ok then return nil, errors.wrap(err, "load bundle " .. hash:sub(1, 12)) end
  return plugin.workflows
end

--- The workflows (by name) of a bundle: of a current plugin, or loaded from the code store (waits). Returns nil, err when the code is
--- not there or does not load.
function M.load_bundle(hash)
  for _, plugin in ipairs(registry.plugins) do
    if plugin.bundle == hash then return plugin.workflows end
  end
  if loaded[hash] then return loaded[hash] end
  local store = require "mw.core.store"
  local text, err = store.get_code(hash)
  if not text then return nil, err or errors.new("not_found", "the code store has no bundle " .. hash) end
  local manifest, by_path = json.decode(text), nil
  by_path, err = sources_of(store, manifest)
  if not by_path then return nil, err end
  if loaded[hash] then return loaded[hash] end -- another task was faster
  local workflows
  workflows, err = run_bundle(hash, manifest, by_path)
  if not workflows then return nil, err end
  return keep(hash, workflows)
end

--- What the code store must hold before an execution may be pinned to a bundle: list of {hash, text}.
function M.bundle_code(hash)
  local bundle = registry.bundles[hash]
  if not bundle then return nil end
  local list = { { hash = hash, text = bundle.manifest } }
  for source_hash, text in pairs(bundle.sources) do list[#list + 1] = { hash = source_hash, text = text } end
  return list
end

return M
