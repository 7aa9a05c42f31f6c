// SPDX-License-Identifier: MIT
#pragma once

// Data folders for specs: SQLite files on a file system in memory (/dev/shm; else TMPDIR or /tmp), with our schema and the project's
// own tables in them. The migrations run once a process; each folder after that is a copy of the result. Folders that a killed
// process left are removed by the next one of the same user.
//
//   char *dir; mw_throwaway_make("migrations", NULL, &dir, &err);  … mw_store_open with .data_dir = dir …  mw_throwaway_remove(dir);

#include "base/err.h"

/** Makes a folder; `*dir` is its path, freed by mw_throwaway_remove. `migrations` (may be NULL, may be absent): a folder whose
 *  NNNN_name.up.sql files are applied to app.db in order; the error names the file. `from` (may be NULL): another such folder whose
 *  databases are copied instead, when nothing writes to it. Main thread. */
int mw_throwaway_make(const char *migrations, const char *from, char **dir, mw_err *err);
/** Removes a folder and frees its path. NULL is harmless. */
void mw_throwaway_remove(char *dir);
/** Removes what is kept for further folders; for the end of the process. */
void mw_throwaway_end(void);
