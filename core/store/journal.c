// SPDX-License-Identifier: MIT
#include "store/journal.h"

static const struct {
  const char *name;
  mw_status status;
} statuses[] = {
#define ROW(name, value, text) {text, MW_STATUS_##name},
    MW_STATUS_TABLE(ROW)
#undef ROW
};

enum { STATUSES = sizeof statuses / sizeof *statuses };

const char *mw_status_name(int status) {
  for (int i = 0; i < STATUSES; i++)
    if ((int)statuses[i].status == status) return statuses[i].name;
  return NULL;
}

mw_status mw_status_parse(mw_str name) {
  for (int i = 0; i < STATUSES; i++)
    if (mw_str_eq(name, mw_str_from(statuses[i].name))) return statuses[i].status;
  return MW_STATUS_NONE;
}
