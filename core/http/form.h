// SPDX-License-Identifier: MIT
#pragma once

// application/x-www-form-urlencoded: query strings and forms. Pairs come decoded, in order, doubled names as often as they stand.
//
//   mw_form form; mw_form_init(&form, query, 0);
//   while ((rc = mw_form_next(&form, scratch, &name, &value)) == 1) …      // scratch: query.len bytes, used anew by each call
//   if (rc < 0) …                                                          // MW_EINVALID: a bad "%"; MW_ELIMIT: too many pairs

#include <stddef.h>

#include "base/str.h"

#define MW_FORM_MAX_PAIRS 1000

typedef struct mw_form {
  mw_str rest;
  size_t pairs, max_pairs;
} mw_form;

/** `max_pairs` 0: MW_FORM_MAX_PAIRS. */
void mw_form_init(mw_form *form, mw_str text, size_t max_pairs);
/** Returns 1 with a pair (slices of `scratch`, a name without "=" has an empty value), 0 at the end, or an error code. */
int mw_form_next(mw_form *form, char *scratch, mw_str *name, mw_str *value);
