// SPDX-License-Identifier: MIT
#pragma once

// UUIDs: version 7 (RFC 9562), 16 bytes, text form in every API. Ids made by one process grow strictly. Thread-safe.
//
//   mw_id id = mw_id_new();
//   char text[MW_ID_TEXT]; mw_id_format(&id, text);

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/** 36 characters and a closing zero. */
#define MW_ID_TEXT 37

/* ffi-begin */
typedef struct mw_id {
  uint8_t bytes[16];
} mw_id;
mw_id mw_id_new(void);
void mw_id_format(const mw_id *id, char *text);
bool mw_id_parse(mw_str text, mw_id *id);
int64_t mw_id_time_us(const mw_id *id);
/* ffi-end */

/** Returns a new UUIDv7; later ones of this process compare greater. */
mw_id mw_id_new(void);
/** Writes the lower-case text form. */
void mw_id_format(const mw_id *id, char *text);
/** Parses the 36-character form in either case, any version; returns false on anything else. */
bool mw_id_parse(mw_str text, mw_id *id);
/** Returns the time an id was made, in microseconds (millisecond precision). */
int64_t mw_id_time_us(const mw_id *id);
