// SPDX-License-Identifier: MIT
#pragma once

// Dates as HTTP writes them (RFC 9110 5.6.7), in seconds since 1970. Pure; no locale, no time zone.
//
//   mw_date_format(784111777, text)  -> "Sun, 06 Nov 1994 08:49:37 GMT"

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define MW_DATE_TEXT 30

/* ffi-begin */
/** Writes 29 bytes and a zero into `text` (MW_DATE_TEXT) and returns 29. Seconds outside of the years 0 to 9999 are held to them. */
int mw_date_format(int64_t seconds, char *text);
/** Reads the form above and the two older ones that servers must know. Returns false for anything else. `now` chooses the century
 *  of a year of two digits: at most 50 years ahead. */
bool mw_date_parse(mw_str text, int64_t now, int64_t *seconds);
/* ffi-end */
