-- SPDX-License-Identifier: MIT

--- Statuses of an execution: numbers as stored (core/store/journal.h), names as the API says them.
--
--   status.RUNNING == 2;  status.name(2) == "running";  status.number("running") == 2;  status.is_final(8)

local M = {
  QUEUED = 1, RUNNING = 2, SLEEPING = 3, WAITING = 4, PAUSED = 5, BLOCKED = 6, STUCK = 7,
  COMPLETED = 8, FAILED = 9, CANCELLED = 10,
}

local names, numbers = {}, {}
for constant, number in pairs(M) do
  names[number] = constant:lower()
  numbers[constant:lower()] = number
end

--- All names, in the order of a run's life.
M.names = names

function M.name(number) return names[number] end

function M.number(name) return numbers[name] end

function M.is_final(number) return number >= M.COMPLETED end

return M
