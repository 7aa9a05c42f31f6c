// SPDX-License-Identifier: MIT
#pragma once

// mw_url: absolute http and https URLs, as slices of the text they were parsed from, and references resolved against them
// (RFC 3986 section 5.2). Refuses what has no place in a request line: control characters, spaces, a host that is no ASCII.
//
//   mw_url url; mw_url_parse(MW_STR("https://api.example:8443/v1?x=1"), &url, &err);

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#define MW_URL_MAX 8192

/* ffi-begin */
typedef struct mw_url {
  mw_str scheme;   /* "http" or "https", as written */
  mw_str userinfo; /* before "@"; .ptr NULL when absent */
  mw_str host;     /* without the brackets of an IPv6 address */
  mw_str path;     /* may be empty */
  mw_str query;    /* without "?"; .ptr NULL when absent */
  int port;        /* 80 or 443 when none is written */
  bool is_tls;
  bool is_v6;
} mw_url;
int mw_url_parse(mw_str text, mw_url *url, mw_err *err);
int mw_url_resolve(const mw_url *base, mw_str reference, mw_buf *out, mw_err *err);
bool mw_url_is_same_origin(const mw_url *a, const mw_url *b);
/* ffi-end */

/** Parses an absolute URL. Returns 0, or MW_EINVALID with a sentence (that never shows a password). */
int mw_url_parse(mw_str text, mw_url *url, mw_err *err);
/** Appends the absolute URL that `reference` (a Location header) means seen from `base`; what it appends parses. */
int mw_url_resolve(const mw_url *base, mw_str reference, mw_buf *out, mw_err *err);
/** Same scheme, host and port. */
bool mw_url_is_same_origin(const mw_url *a, const mw_url *b);
/** Appends host and port as a Host header has them: brackets round IPv6, no default port. */
void mw_url_add_authority(const mw_url *url, mw_buf *out);
/** Appends path and query as a request line has them: "/" when empty, bytes beyond ASCII percent-encoded. */
void mw_url_add_target(const mw_url *url, mw_buf *out);
/** Appends it without userinfo and query, for messages. */
void mw_url_add_public(const mw_url *url, mw_buf *out);
