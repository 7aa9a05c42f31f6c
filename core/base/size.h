// SPDX-License-Identifier: MIT
#pragma once

// Byte sizes as people write them: "512", "64KB", "32KiB", "50MB", "1GiB". K, M, G are powers of 1024 in every spelling.

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* ffi-begin */
/** Parses to bytes. Returns 0, or MW_EINVALID with a sentence that shows the grammar. */
int mw_size_parse(mw_str text, uint64_t *out_bytes, mw_err *err);
/* ffi-end */
