// SPDX-License-Identifier: MIT
#pragma once

// The head of a request: llhttp reads it, http/strict.h refuses what llhttp lets through. It is parsed once it is complete, from one
// piece of memory, so all slices point into that.
//
//   mw_head head;
//   int status = mw_head_parse(&head, text, &why);     // 0, or the status to refuse with

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "http/headers.h"
#include "http/strict.h"

typedef struct mw_head {
  mw_str method, target;
  int minor;
  long long content_length; /**< -1: none. */
  bool chunked, keep_alive, expect_continue;
  size_t count;
  mw_header fields[MW_STRICT_MAX_FIELDS];
} mw_head;

/** Parses a block that mw_strict_scan found complete. `text` must outlive the head. Returns 0 or a status with `*why`; method, target
 *  and minor are set as far as they could be read. */
int mw_head_parse(mw_head *head, mw_str text, const char **why);
