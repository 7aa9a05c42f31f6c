// SPDX-License-Identifier: MIT
#pragma once

// RFC 9457 problem details, as every error of our own API is answered.

#include "base/buf.h"
#include "base/str.h"

typedef struct mw_problem {
  int status;
  mw_str detail;   /**< A sentence: what was wrong here. Empty: left out. */
  mw_str hint;     /**< What to do about it. Empty: left out. */
  mw_str code;     /**< Stable short name of the kind of error. Empty: left out. */
  mw_str trace_id; /**< Empty: left out. */
} mw_problem;

/** Appends {"type":"about:blank","title":…,"status":…,…}. */
void mw_problem_format(const mw_problem *problem, mw_buf *out);
