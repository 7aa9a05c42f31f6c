// SPDX-License-Identifier: MIT
#pragma once

// The program on disk that a swap starts: the path this one was started by, which by then may hold a newer file (or a link to one), and
// the command line it was given.

#include <limits.h>

#include "base/err.h"

typedef struct mw_program {
  char path[PATH_MAX]; /**< Absolute. Links are not resolved. */
  char **argv;         /**< As main() got it, NULL-ended. */
} mw_program;

/** Finds the path: argv[0] when it leads to the file that runs (by itself, or through PATH), else what the kernel says. Call at the start, before
 *  the file is replaced and with the folder of the start. */
void mw_program_init(mw_program *program, char **argv);
