// SPDX-License-Identifier: MIT
#include "base/size.h"

// "K", "KB" and "KiB" mean the same: whoever limits a body does not care about 2 percent, and guessing would surprise.
static int shift_of(mw_str unit) {
  static const char letters[] = "KMGT";
  if (unit.len == 0 || mw_str_eq_nocase(unit, MW_STR("b"))) return 0;
  mw_str rest = mw_str_of(unit.ptr + 1, unit.len - 1);
  if (rest.len && !mw_str_eq_nocase(rest, MW_STR("b")) && !mw_str_eq_nocase(rest, MW_STR("ib"))) return -1;
  for (int i = 0; letters[i]; i++)
    if (unit.ptr[0] == letters[i] || unit.ptr[0] == letters[i] + 32) return 10 * (i + 1);
  return -1;
}

int mw_size_parse(mw_str text, uint64_t *out_bytes, mw_err *err) {
  size_t digits = 0;
  while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9') digits++;
  uint64_t number;
  int shift = shift_of(mw_str_of(text.ptr + digits, text.len - digits));
  int shown = text.len > 40 ? 40 : (int)text.len;
  if (digits == 0 || shift < 0) {
    return mw_err_set(err, MW_EINVALID, "\"%.*s\" is not a size: write bytes as 512, or 64KB, 50MB, 1GB", shown, text.ptr);
  }
  if (!mw_str_parse_u64(mw_str_of(text.ptr, digits), &number) || number > UINT64_MAX >> shift) {
    return mw_err_set(err, MW_EINVALID, "the size \"%.*s\" is too large", shown, text.ptr);
  }
  *out_bytes = number << shift;
  return 0;
}
