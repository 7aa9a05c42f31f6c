// SPDX-License-Identifier: MIT
#include "http/method.h"

static const mw_str names[] = {
#define NAME(name) {#name, sizeof(#name) - 1},
    MW_METHOD_TABLE(NAME)
#undef NAME
};

int mw_method_parse(mw_str name) {
  for (int i = 0; i < MW_METHOD_COUNT; i++) {
    if (mw_str_eq(names[i], name)) return i;
  }
  return -1;
}

mw_str mw_method_name(int method) {
  return method >= 0 && method < MW_METHOD_COUNT ? names[method] : MW_STR("");
}
