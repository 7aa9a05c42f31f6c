// SPDX-License-Identifier: MIT
#pragma once

// Durations as people write them: "250ms", "10s", "5m", "2h", "3d", "1w", also "1h30m"; a bare number is seconds.
// One grammar for configuration, command line and Lua.

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* ffi-begin */
/** Parses to microseconds (0 … 100 years). Returns 0, or MW_EINVALID with a sentence that shows the grammar. */
int mw_duration_parse(mw_str text, int64_t *out_us, mw_err *err);
/** Checks a bare number of seconds: negative, NaN and more than 100 years are refused. */
int mw_duration_from_seconds(double seconds, int64_t *out_us, mw_err *err);
/* ffi-end */
