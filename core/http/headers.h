// SPDX-License-Identifier: MIT
#pragma once

// Header fields: which bytes names and values may hold, and finding one in a list.

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

typedef struct mw_header {
  mw_str name, value;
} mw_header;

/** True for a non-empty token (RFC 9110 5.6.2): what names, methods and cookie names are made of. */
bool mw_headers_is_token(mw_str text);
/** True for a field value without CR, LF, NUL and other control characters but tab. */
bool mw_headers_is_value(mw_str text);
/** Index of the first field called `name` (any case) at or after `from`; `count` when there is none. */
size_t mw_headers_find(const mw_header *list, size_t count, mw_str name, size_t from);
/** True when a comma-separated list holds `item` (any case), as in Connection: keep-alive, close. */
bool mw_headers_list_has(mw_str list, mw_str item);
