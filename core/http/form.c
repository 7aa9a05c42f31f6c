// SPDX-License-Identifier: MIT
#include "http/form.h"

#include "base/err.h"
#include "http/path.h"

void mw_form_init(mw_form *form, mw_str text, size_t max_pairs) {
  *form = (mw_form){text, 0, max_pairs ? max_pairs : MW_FORM_MAX_PAIRS};
}

int mw_form_next(mw_form *form, char *scratch, mw_str *name, mw_str *value) {
  mw_str pair;
  do {
    if (!form->rest.len) return 0;
    if (!mw_str_split(&form->rest, '&', &pair)) return 0;
  } while (!pair.len);
  if (++form->pairs > form->max_pairs) return MW_ELIMIT;
  ptrdiff_t equals = mw_str_find_byte(pair, '=');
  mw_str raw_name = equals < 0 ? pair : mw_str_of(pair.ptr, (size_t)equals);
  mw_str raw_value = equals < 0 ? mw_str_of(pair.ptr, 0) : mw_str_of(pair.ptr + equals + 1, pair.len - (size_t)equals - 1);
  ptrdiff_t n = mw_path_unescape(raw_name, true, scratch);
  if (n < 0) return MW_EINVALID;
  ptrdiff_t v = mw_path_unescape(raw_value, true, scratch + n);
  if (v < 0) return MW_EINVALID;
  *name = mw_str_of(scratch, (size_t)n);
  *value = mw_str_of(scratch + n, (size_t)v);
  return 1;
}
