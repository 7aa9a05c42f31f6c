// SPDX-License-Identifier: MIT
// Times and values of headers: dates, parameters, codings; and paths of files.
#include "base/alloc.h"
#include "base/clock.h"
#include "fuzz.h"
#include "http/beneath.h"
#include "http/coding.h"
#include "http/date.h"
#include "http/params.h"

static void try_date(mw_str text) {
  int64_t seconds, again;
  char written[MW_DATE_TEXT];
  if (!mw_date_parse(text, 1764086400, &seconds)) return;
  MUST(mw_date_format(seconds, written) == MW_DATE_TEXT - 1);
  MUST(mw_date_parse(mw_str_from(written), 1764086400, &again) && again == seconds);
}

static void try_time(mw_str text) {
  int64_t us, again;
  char written[MW_CLOCK_TEXT];
  if (!mw_clock_parse(text, &us) || us < INT64_C(-62135596800000000) || us > INT64_C(253402300799999999)) return; // its offset may lead out of the years
  mw_clock_format(us, written);
  MUST(mw_clock_parse(mw_str_from(written), &again) && again == us);
}

static void try_params(mw_str text) {
  char *scratch = mw_alloc(2 * text.len + 1);
  mw_str rest = text, name, value;
  mw_params_begin(&rest, &value);
  MUST(is_inside(value, text) && is_inside(rest, text));
  while (mw_params_next(&rest, scratch, &name, &value) == 1) MUST(name.len && is_inside(rest, text));
  ptrdiff_t n = mw_params_decode(text, scratch);
  if (n >= 0) MUST((size_t)n <= 2 * text.len && mw_str_is_utf8(mw_str_of(scratch, (size_t)n)));
  mw_free(scratch);
}

FUZZ(bytes) {
  try_date(bytes);
  try_time(bytes);
  try_params(bytes);
  mw_coding_of(bytes);
  mw_coding coding = mw_coding_negotiate(bytes);
  MUST(coding >= MW_CODING_IDENTITY && coding <= MW_CODING_DEFLATE);
  mw_coding_is_compressible(bytes);
  if (mw_beneath_allows(bytes)) MUST(bytes.len && bytes.ptr[0] != '/' && mw_str_find_byte(bytes, 0) < 0);
}
