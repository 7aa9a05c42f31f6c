// SPDX-License-Identifier: MIT
#pragma once

// Cookies (RFC 6265): reading a Cookie header, writing a Set-Cookie value.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#define MW_COOKIE_MAX 100

/** Takes the next pair off `rest`, a Cookie header's value; false at the end. Quotes around a value are left off; a piece without
 *  "=" is skipped. */
bool mw_cookie_next(mw_str *rest, mw_str *name, mw_str *value);

typedef struct mw_cookie {
  mw_str name, value;
  mw_str path, domain; /**< Empty: left out. */
  int64_t max_age_s;   /**< Negative: a session cookie. */
  mw_str same_site;    /**< "Lax", "Strict", "None" or empty. */
  bool http_only, secure;
} mw_cookie;

/** Appends what follows "Set-Cookie: ". MW_EINVALID for a name that is no token or a part with a character that would end it early. */
int mw_cookie_format(const mw_cookie *cookie, mw_buf *out, mw_err *err);
