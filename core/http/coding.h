// SPDX-License-Identifier: MIT
#pragma once

// Content codings (RFC 9110 8.4): which one a body has, which one a client takes, and which types are worth it. Pure.
//
//   mw_coding_of(MW_STR("gzip"))                           -> MW_CODING_GZIP
//   mw_coding_negotiate(MW_STR("gzip;q=0.5, deflate"))     -> MW_CODING_DEFLATE

#include <stdbool.h>

#include "base/str.h"

/* ffi-begin */
typedef enum mw_coding {
  MW_CODING_UNKNOWN = -1, /**< Another one, or several. */
  MW_CODING_IDENTITY,
  MW_CODING_GZIP,
  MW_CODING_DEFLATE, /**< Named so on the wire: zlib's format (RFC 1950), though some send raw deflate (RFC 1951). */
} mw_coding;

/** Reads a Content-Encoding; empty: identity. */
mw_coding mw_coding_of(mw_str content_encoding);
/** Picks by an Accept-Encoding: gzip, deflate or identity, the highest `q` first, gzip where they are level. Identity also when
 *  nothing we have is accepted: an answer that a client may not want is better than none. */
mw_coding mw_coding_negotiate(mw_str accept_encoding);
/** True for a media type (with or without parameters) that is text underneath. */
bool mw_coding_is_compressible(mw_str type);
/* ffi-end */
/** "gzip", "deflate"; empty for identity. */
mw_str mw_coding_name(mw_coding coding);
