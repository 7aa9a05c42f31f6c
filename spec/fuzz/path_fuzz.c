// SPDX-License-Identifier: MIT
// Percent-decoding: a decoded path never goes up, holds no control character, and decoding never grows; forms end.
#include "fuzz.h"
#include "http/form.h"
#include "http/path.h"

static void check_path(mw_str raw) {
  char *out = malloc(raw.len + 1);
  size_t len = 0;
  bool has_slash = false;
  if (mw_path_decode(raw, out, &len, &has_slash, NULL) == 0) {
    MUST(len >= 1 && len <= raw.len && out[0] == '/');
    for (mw_str rest = mw_str_of(out + 1, len - 1), part; mw_str_split(&rest, '/', &part);) {
      MUST(!mw_str_eq(part, MW_STR("..")) && !mw_str_eq(part, MW_STR(".")));
      if (!rest.len) break;
    }
    for (size_t i = 0; i < len; i++) MUST((unsigned char)out[i] >= 0x20 || (has_slash && out[i] == MW_PATH_SLASH));
    MUST((memchr(out, MW_PATH_SLASH, len) != NULL) == has_slash);
    mw_path_restore(out, len);
    MUST(!memchr(out, MW_PATH_SLASH, len));
  }
  free(out);
}

static void check_form(mw_str text) {
  char *scratch = malloc(text.len + 1);
  mw_str whole = mw_str_of(scratch, text.len), name, value;
  mw_form form;
  size_t pairs = 0;
  mw_form_init(&form, text, 0);
  while (mw_form_next(&form, scratch, &name, &value) == 1) {
    MUST(is_inside(name, whole) && is_inside(value, whole));
    MUST(++pairs <= MW_FORM_MAX_PAIRS);
  }
  ptrdiff_t len = mw_path_unescape(text, true, scratch);
  MUST(len <= (ptrdiff_t)text.len);
  free(scratch);
}

FUZZ(bytes) {
  check_path(bytes);
  check_form(bytes);
}
