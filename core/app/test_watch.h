// SPDX-License-Identifier: MIT
#pragma once

// `moonwatch test --watch`: runs the specs in a process of their own, and again whenever a file below plugins/, spec/, lua/ or migrations/
// changes.

/** Does not return before it is interrupted; `argv` (NULL-ended) is the command line without --watch. Returns an exit code when there is
 *  nothing to watch or the program cannot be started. */
int mw_test_watch(char **argv);
