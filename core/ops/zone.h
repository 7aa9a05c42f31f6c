// SPDX-License-Identifier: MIT
#pragma once

// mw_zone: a time zone of the IANA database, as the system has it in /usr/share/zoneinfo (RFC 8536, package tzdata): what a clock on the
// wall shows at an instant, and which instants a wall clock's time means. The C library knows one zone a process; a schedule has one each.
// Immutable once parsed, so any thread may read it.
//
//   mw_zone *zone; mw_zone_load("Europe/Berlin", &zone, &err);
//   int64_t wall = now_s + mw_zone_offset(zone, now_s);       // seconds "since 1970" of the wall clock
//   mw_zone_free(zone);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* ffi-begin */
typedef struct mw_zone mw_zone;

/** Where a zone's clock changes. `before` and `after` are seconds east of UTC. */
typedef struct mw_zone_change {
  int64_t at_s; /**< The first instant of the new offset; INT64_MAX: there is none. */
  int32_t before, after;
} mw_zone_change;

/** Reads a zone by its name ("UTC" needs no file). Blocks on the disk. MW_ENOTFOUND: no such zone, or no tzdata; MW_EINVALID: a name that
 *  is no name, or a file that is no zone. */
int mw_zone_load(const char *name, mw_zone **out, mw_err *err);
/** Parses the bytes of a TZif file, version 2 or later. */
int mw_zone_parse(mw_str bytes, mw_zone **out, mw_err *err);
void mw_zone_free(mw_zone *zone);
/** Seconds east of UTC at an instant. */
int32_t mw_zone_offset(const mw_zone *zone, int64_t utc_s);
/** The first change of the offset after an instant. */
mw_zone_change mw_zone_next_change(const mw_zone *zone, int64_t utc_s);
/** The last change of the offset at or before an instant; `at_s` INT64_MIN: none is known. */
mw_zone_change mw_zone_last_change(const mw_zone *zone, int64_t utc_s);
/* ffi-end */
