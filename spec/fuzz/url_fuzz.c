// SPDX-License-Identifier: MIT
// URLs: what parses is made of slices of the text, and written out again parses to the same; a reference resolves to something that parses.
#include "fuzz.h"
#include "http/url.h"

static void add(const mw_url *url, mw_buf *out) {
  mw_buf_add_cstr(out, url->is_tls ? "https://" : "http://");
  mw_url_add_authority(url, out);
  mw_url_add_target(url, out);
}

FUZZ(bytes) {
  mw_str text = bytes, first;
  mw_url url, again;
  mw_buf out = MW_BUF_INIT;
  if (!next_line(&text, &first)) return;
  if (mw_url_parse(first, &url, NULL) == 0) {
    MUST(is_inside(url.host, first) && is_inside(url.path, first) && is_inside(url.query, first) && is_inside(url.userinfo, first));
    MUST(url.host.len && url.port > 0 && url.port < 65536);
    add(&url, &out);
    MUST(!memchr(out.ptr, ' ', out.len) && !memchr(out.ptr, '\r', out.len) && !memchr(out.ptr, '\n', out.len));
    if (out.len <= MW_URL_MAX) {
      MUST(mw_url_parse(mw_buf_str(&out), &again, NULL) == 0);
      MUST(mw_url_is_same_origin(&url, &again));
    }
    out.len = 0;
    if (mw_url_resolve(&url, text, &out, NULL) == 0) MUST(mw_url_parse(mw_buf_str(&out), &again, NULL) == 0);
    else MUST(out.len == 0);
  }
  mw_buf_deinit(&out);
}
