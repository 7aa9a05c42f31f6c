// SPDX-License-Identifier: MIT
#pragma once

// mw_plugin_files: what lies below the plugins directory, read once for a generation, so that every worker's state loads the same bytes
// whatever an editor does meanwhile. Only *.lua; hidden files and folders are left out; sorted by path. Immutable, reference-counted,
// any thread.
//
//   mw_plugin_files *files; mw_plugin_files_read("plugins", &files, &err);

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define MW_PLUGIN_MAX_FILES 5000
#define MW_PLUGIN_MAX_FILE_BYTES (4 * 1024 * 1024)
#define MW_PLUGIN_MAX_TOTAL_BYTES (128 * 1024 * 1024)
#define MW_PLUGIN_MAX_DEPTH 8

typedef struct mw_plugin_file {
  mw_str path; /**< Below the directory, "/" between parts: "checkout.lua", "lib/money.lua". */
  mw_str text;
} mw_plugin_file;

typedef struct mw_plugin_files mw_plugin_files;

/** Reads the directory (blocking). A directory that is not there gives an empty set. Errors name the file and the limit. */
int mw_plugin_files_read(const char *dir, mw_plugin_files **out, mw_err *err);
mw_plugin_files *mw_plugin_files_ref(mw_plugin_files *files);
void mw_plugin_files_unref(mw_plugin_files *files);
size_t mw_plugin_files_count(const mw_plugin_files *files);
const mw_plugin_file *mw_plugin_files_at(const mw_plugin_files *files, size_t index);
/** The file of that path, or NULL. */
const mw_plugin_file *mw_plugin_files_find(const mw_plugin_files *files, mw_str path);
/** The directory as it was given. */
const char *mw_plugin_files_dir(const mw_plugin_files *files);
