// SPDX-License-Identifier: MIT
#include "http/cookie.h"

#include "http/headers.h"

bool mw_cookie_next(mw_str *rest, mw_str *name, mw_str *value) {
  mw_str piece;
  while (rest->len && mw_str_split(rest, ';', &piece)) {
    piece = mw_str_trim(piece);
    ptrdiff_t equals = mw_str_find_byte(piece, '=');
    if (equals <= 0) continue;
    *name = mw_str_trim(mw_str_of(piece.ptr, (size_t)equals));
    *value = mw_str_trim(mw_str_of(piece.ptr + equals + 1, piece.len - (size_t)equals - 1));
    if (value->len >= 2 && value->ptr[0] == '"' && value->ptr[value->len - 1] == '"') {
      *value = mw_str_of(value->ptr + 1, value->len - 2);
    }
    return true;
  }
  return false;
}

// cookie-octet and what browsers accept in attributes: visible ASCII without the separators.
static bool is_clean(mw_str text, bool value) {
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if (c < 0x20 || c >= 0x7f || c == ';') return false;
    if (value && (c == ' ' || c == '"' || c == ',' || c == '\\')) return false;
  }
  return true;
}

static void add_part(mw_buf *out, const char *label, mw_str text) {
  if (!text.len) return;
  mw_buf_add_cstr(out, label);
  mw_buf_add_str(out, text);
}

int mw_cookie_format(const mw_cookie *cookie, mw_buf *out, mw_err *err) {
  if (!mw_headers_is_token(cookie->name)) return mw_err_set(err, MW_EINVALID, "a cookie's name must be a token");
  if (!is_clean(cookie->value, true)) {
    return mw_err_set(err, MW_EINVALID, "cookie %.*s: its value has a character that cookies cannot hold: encode it first",
                      MW_STR_FMT(cookie->name));
  }
  if (!is_clean(cookie->path, false) || !is_clean(cookie->domain, false) || !is_clean(cookie->same_site, false)) {
    return mw_err_set(err, MW_EINVALID, "cookie %.*s: an attribute has a character it cannot hold", MW_STR_FMT(cookie->name));
  }
  mw_buf_add_str(out, cookie->name);
  mw_buf_add_byte(out, '=');
  mw_buf_add_str(out, cookie->value);
  add_part(out, "; Path=", cookie->path);
  add_part(out, "; Domain=", cookie->domain);
  if (cookie->max_age_s >= 0) {
    mw_buf_add_cstr(out, "; Max-Age=");
    mw_buf_add_i64(out, cookie->max_age_s);
  }
  add_part(out, "; SameSite=", cookie->same_site);
  if (cookie->http_only) mw_buf_add_cstr(out, "; HttpOnly");
  if (cookie->secure) mw_buf_add_cstr(out, "; Secure");
  return 0;
}
