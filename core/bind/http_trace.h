// SPDX-License-Identifier: MIT
#pragma once

// The id that names a request in answers, logs and spans: from a W3C `traceparent` header, or made here.

#include "base/str.h"

#define MW_TRACE_ID_LEN 32

/** Takes the trace id of a traceparent header (any version but ff, RFC: W3C Trace Context level 1); an absent or ill-formed one gives 16
 *  random bytes. Writes 32 lower-case hex digits, no zero. */
void mw_http_trace_id(mw_str traceparent, char text[MW_TRACE_ID_LEN]);
