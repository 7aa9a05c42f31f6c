-- SPDX-License-Identifier: MIT
-- The migration files themselves; that they run up and down is in spec/c/store_test.c.

local function list(engine)
  local files = {}
  local pipe = assert(io.popen("ls migrations/" .. engine))
  for name in pipe:lines() do files[#files + 1] = name end
  pipe:close()
  return files
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a"):gsub("CREATE OR REPLACE", "CREATE")
  file:close()
  return text
end

-- Names of what a file makes: "TABLE executions" …
local function made(text)
  local found = {}
  for kind, name in text:gsub("{{schema}}%.", ""):gmatch("CREATE U?N?I?Q?U?E? ?(%u+) ([%w_]+)") do
    if kind ~= "FUNCTION" and kind ~= "TRIGGER" then found[#found + 1] = kind .. " " .. name end
  end
  table.sort(found)
  return found
end

describe("migrations", function()
  it("are the same steps on both engines", function()
    assert.are.same(list("sqlite"), list("postgres"))
    assert.is_true(#list("sqlite") >= 2)
  end)

  it("come in pairs, numbered without a gap", function()
    local expected = 1
    local files = list("sqlite")
    for i = 1, #files, 2 do
      local number, name = files[i]:match("^(%d%d%d%d)_([%l_]+)%.down%.sql$")
      assert.is_string(number, files[i])
      assert.are.equal(expected, tonumber(number))
      assert.are.equal(number .. "_" .. name .. ".up.sql", files[i + 1])
      expected = expected + 1
    end
  end)

  it("make the same tables, indexes and views on both engines", function()
    for _, name in ipairs(list("sqlite")) do
      assert.are.same(made(read("migrations/sqlite/" .. name)), made(read("migrations/postgres/" .. name)))
    end
    assert.is_true(#made(read("migrations/sqlite/0001_first.up.sql")) >= 15)
  end)

  it("never use jsonb and always name the schema on PostgreSQL", function()
    for _, name in ipairs(list("postgres")) do
      local text = read("migrations/postgres/" .. name):gsub("%-%-[^\n]*", "")
      assert.is_nil(text:lower():find("jsonb"))
      for kind, what in text:gmatch("CREATE (%u+) (%S+)") do
        if kind ~= "INDEX" and kind ~= "UNIQUE" and kind ~= "TRIGGER" then assert.matches("^{{schema}}%.", what) end
      end
      for table_name in text:gmatch("INDEX [%w_]+ ON (%S+)") do assert.matches("^{{schema}}%.", table_name) end
      for table_name in text:gmatch("CREATE TRIGGER [^;]- ON (%S+)") do assert.matches("^{{schema}}%.", table_name) end
    end
  end)
end)
