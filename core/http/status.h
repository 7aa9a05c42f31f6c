// SPDX-License-Identifier: MIT
#pragma once

// Status codes: their reason phrases and ready-made status lines.

#include <stdbool.h>

#include "base/str.h"

/** "Not Found"; "Unknown" for a code without a name. */
mw_str mw_status_reason(int status);
/** "HTTP/1.1 404 Not Found\r\n" for a code with a name; empty for others. */
mw_str mw_status_line(int status);
/** False for 1xx, 204 and 304. */
bool mw_status_has_body(int status);
