-- SPDX-License-Identifier: MIT
-- Files that specs compare with what the program gives. After a change that is meant, write them anew and look at the difference:
--
--   MW_GOLDEN=write build/dev/moonwatch test spec/integration/cli_errors_spec.lua && git diff spec/golden docs

local posix = require "support.posix"

local M = {}

---Fails unless `text` is what the file holds; with MW_GOLDEN=write, writes it.
function M.check(path, text)
  if os.getenv "MW_GOLDEN" == "write" then return posix.write_file(path, text) end
  local golden = posix.read_file(path) or ""
  if golden == text then return end
  local a, b = {}, {}
  for line in (golden .. "\n"):gmatch("(.-)\n") do a[#a + 1] = line end
  for line in (text .. "\n"):gmatch("(.-)\n") do b[#b + 1] = line end
  local at = 1
  while a[at] == b[at] and a[at] do at = at + 1 end
  error(("%s:%d is\n  %s\nand the program gives\n  %s\nIf that is meant, write the file anew: MW_GOLDEN=write moonwatch test FILE, and look at the difference.")
    :format(path, at, a[at] or "(the end)", b[at] or "(the end)"), 2)
end

return M
