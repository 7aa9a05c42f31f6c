// SPDX-License-Identifier: MIT
// Ranges and conditions of requests for files: ranges lie inside the file, in order and apart; conditions have an answer. The first line is the
// size, the second the range, the rest are validators.
#include "fuzz.h"
#include "http/conditional.h"
#include "http/range.h"

FUZZ(bytes) {
  mw_str rest = bytes, line, range = {0};
  uint64_t size = 1000;
  if (next_line(&rest, &line) && !mw_str_parse_u64(line, &size)) size = line.len;
  next_line(&rest, &range);
  mw_range ranges[MW_RANGE_MAX];
  int n = mw_range_parse(range, size, ranges);
  MUST(n >= -1 && n <= MW_RANGE_MAX);
  for (int i = 0; i < n; i++) {
    MUST(ranges[i].first <= ranges[i].last && ranges[i].last < size);
    if (i) MUST(ranges[i].first > ranges[i - 1].last + 1);
  }
  mw_conditional c = {.etag = MW_STR("\"a\""), .modified = 1700000000, .now = 1700000100, .is_read = bytes.len & 1};
  mw_str *fields[] = {&c.if_match, &c.if_none_match, &c.if_modified_since, &c.if_unmodified_since, &c.if_range};
  for (int i = 0; i < 5 && next_line(&rest, fields[i]); i++) {}
  int status = mw_conditional_evaluate(&c);
  MUST(status == 200 || status == 412 || (status == 304 && c.is_read));
  mw_conditional_range_holds(&c);
}
