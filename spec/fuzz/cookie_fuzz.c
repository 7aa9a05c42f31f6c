// SPDX-License-Identifier: MIT
// Cookies: pairs are slices of the header; what a Set-Cookie is made of cannot end it early, and reads back.
#include "fuzz.h"
#include "http/cookie.h"

static void check_reading(mw_str bytes) {
  mw_str rest = bytes, name, value;
  size_t pairs = 0;
  while (mw_cookie_next(&rest, &name, &value)) {
    MUST(is_inside(name, bytes) && is_inside(value, bytes));
    MUST(++pairs <= bytes.len);
  }
}

static void check_writing(mw_str bytes) {
  mw_cookie cookie = {.max_age_s = bytes.len % 3 ? (int64_t)bytes.len : -1, .http_only = bytes.len & 1, .secure = bytes.len & 2};
  mw_str *parts[] = {&cookie.name, &cookie.value, &cookie.path, &cookie.domain, &cookie.same_site};
  mw_str rest = bytes;
  for (int i = 0; i < 5 && next_line(&rest, parts[i]); i++) {}
  mw_buf out = MW_BUF_INIT;
  if (mw_cookie_format(&cookie, &out, NULL) == 0) {
    mw_str line = mw_buf_str(&out), name, value;
    MUST(!memchr(out.ptr, '\r', out.len) && !memchr(out.ptr, '\n', out.len) && !memchr(out.ptr, 0, out.len));
    MUST(mw_cookie_next(&line, &name, &value) && mw_str_eq(name, cookie.name));
  } else MUST(out.len == 0);
  mw_buf_deinit(&out);
}

FUZZ(bytes) {
  check_reading(bytes);
  check_writing(bytes);
}
