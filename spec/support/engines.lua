-- SPDX-License-Identifier: MIT
-- What holds on SQLite and on PostgreSQL, said once.
--
--   engines.describe("signals on ", function(engine)            -- "signals on SQLite", "signals on PostgreSQL"
--     s = server.start { database = engine.fresh() }            -- PostgreSQL: an empty database of the test server; SQLite: nil
--   end)
--   engines.describe_postgres("nodes of a fleet", function(engine) … end)
--
-- engine: `name`; `url` of the test server (nil on SQLite). Without MW_TEST_DATABASE_URL what is said of PostgreSQL is one pending test.

local busted = require "busted"
local server = require "support.server"

local M = {}

local url = os.getenv("MW_TEST_DATABASE_URL")
if url == "" then url = nil end

local sqlite = { name = "SQLite", fresh = function() return nil end }
local postgres = { name = "PostgreSQL", url = url, fresh = function() return server.fresh_database(url) end }

function M.describe_postgres(name, fn)
  busted.describe(name, function()
    if url then return fn(postgres) end
    busted.pending "needs PostgreSQL: set MW_TEST_DATABASE_URL"
  end)
end

function M.describe(name, fn)
  busted.describe(name .. sqlite.name, function() fn(sqlite) end)
  M.describe_postgres(name .. postgres.name, fn)
end

return M
