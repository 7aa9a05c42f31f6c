// SPDX-License-Identifier: MIT
#pragma once

// Files of a user's project, written by `init`, `new` and `types`: never over one that is there, never through a link.
//
//   bool written; mw_project_write("plugins/hello.lua", text, &written, &err);

#include <stdbool.h>

#include "base/embed.h"
#include "base/err.h"
#include "base/str.h"

/** The files of core/app/project. */
extern const mw_embed mw_embedded_project[];

/** Writes a new file and the folders above it. Returns 0 and whether it was written; a file that is there stays and is no error. */
int mw_project_write(const char *path, mw_str text, bool *written, mw_err *err);
/** Writes a file that belongs to the program, over an older one of its own, in one step: readers see the old or the new. */
int mw_project_replace(const char *path, mw_str text, mw_err *err);
