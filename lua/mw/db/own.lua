-- SPDX-License-Identifier: MIT

--- Our own tables in the application's database, made when they are first needed, since that database is the user's.
--
--   local ensure = own("moonwatch_outbox", { "CREATE TABLE IF NOT EXISTS moonwatch_outbox (…)" })
--   ensure()                       -- in a task; raises why it cannot be made

local errors = require "mw.errors"
local store = require "mw.core.store"

return function(name, statements)
  local is_there = false

  local function make()
    for _, sql in ipairs(statements) do
      local rows, err = store.query("app", sql)
      if not rows then return nil, err end
    end
    return true
  end

  local function exists() return store.query("app", "SELECT 1 FROM " .. name .. " LIMIT 1") ~= nil end

  return function()
    if is_there then return end
    local ok, err = make()
    if not ok and not exists() then -- two that make it at once: one of them may fail
      errors.raise(errors.wrap(err, "the table " .. name .. " cannot be made in the application's database"))
    end
    is_there = true
  end
end
