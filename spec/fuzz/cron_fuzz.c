// SPDX-License-Identifier: MIT
// Schedules: what parses has a next time after every time (or none for a century), and the time after that is later still. The second line is
// where to begin; a zone file of strangers is read or refused.
#include "ops/cron.h"

#include "fuzz.h"

FUZZ(bytes) {
  static mw_zone *berlin;
  mw_str rest = bytes, text, start;
  mw_cron cron;
  mw_zone *zone = NULL;
  mw_err err = {0};
  uint64_t after = 0;
  if (!berlin) MUST(mw_zone_load("Europe/Berlin", &berlin, &err) == 0);
  if (mw_zone_parse(bytes, &zone, NULL) == 0) mw_zone_next_change(zone, (int64_t)bytes.len * 10000000);
  mw_zone_free(zone);
  if (!next_line(&rest, &text)) return;
  if (next_line(&rest, &start) && (!mw_str_parse_u64(start, &after) || after > 100000000000)) after = 1700000000;
  if (mw_cron_parse(text, &cron, &err)) {
    MUST(err.text[0]);
    return;
  }
  int64_t first = mw_cron_next(&cron, berlin, (int64_t)after);
  MUST(first > (int64_t)after);
  if (first == INT64_MAX) return;
  MUST(mw_cron_next(&cron, berlin, first - 1) == first);
  MUST(mw_cron_next(&cron, berlin, first) > first);
}
