// SPDX-License-Identifier: MIT
#pragma once

// moonwatch.lua: a Lua file that returns a table. It runs in a bare state of its own (strings, tables, numbers; no files, no environment,
// no require), bounded in memory and steps.

#include "app/config.h"

/** Reads `path` and sets what it says. MW_ENOTFOUND when the file is not there. */
int mw_config_read_file(mw_config *conf, const char *path, mw_err *err);
