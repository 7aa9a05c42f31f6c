// SPDX-License-Identifier: MIT
#include "http/url.h"

#include <stdlib.h>
#include <string.h>

static mw_str from(mw_str text, size_t start) { return mw_str_of(text.ptr + start, text.len - start); }
static mw_str upto(mw_str text, size_t end) { return mw_str_of(text.ptr, end); }

static ptrdiff_t find_any(mw_str text, const char *bytes) {
  for (size_t i = 0; i < text.len; i++)
    if (strchr(bytes, text.ptr[i]) && text.ptr[i]) return (ptrdiff_t)i;
  return -1;
}

static bool is_host_byte(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static int check_host(mw_str host, bool is_v6, mw_err *err) {
  if (host.len == 0) return mw_err_set(err, MW_EINVALID, "the URL has no host");
  if (host.len > 253) return mw_err_set(err, MW_EINVALID, "the URL's host is longer than 253 bytes");
  for (size_t i = 0; i < host.len; i++) {
    unsigned char c = (unsigned char)host.ptr[i];
    if (c >= 0x80)
      return mw_err_set(err, MW_EINVALID, "the URL's host %.*s is not ASCII: write it as xn--… (punycode)", MW_STR_FMT(host));
    bool ok = is_v6 ? (c == ':' || c == '.' || strchr("0123456789abcdefABCDEF", c)) : is_host_byte(c);
    if (!ok) return mw_err_set(err, MW_EINVALID, "the URL's host has a character that cannot be in a name");
  }
  return 0;
}

static int parse_port(mw_str text, mw_url *url, mw_err *err) {
  url->port = url->is_tls ? 443 : 80;
  if (text.len == 0) return 0;
  uint64_t port;
  if (text.ptr[0] != ':') return mw_err_set(err, MW_EINVALID, "the URL has something other than a port after its host");
  text = from(text, 1);
  if (text.len == 0) return 0;
  if (!mw_str_parse_u64(text, &port) || port == 0 || port > 65535)
    return mw_err_set(err, MW_EINVALID, "the URL's port is not a number from 1 to 65535");
  url->port = (int)port;
  return 0;
}

static int parse_authority(mw_str text, mw_url *url, mw_err *err) {
  for (size_t i = text.len; i > 0; i--) {
    if (text.ptr[i - 1] != '@') continue;
    url->userinfo = upto(text, i - 1);
    text = from(text, i);
    break;
  }
  size_t end;
  if (text.len && text.ptr[0] == '[') {
    ptrdiff_t close = mw_str_find_byte(text, ']');
    if (close < 0) return mw_err_set(err, MW_EINVALID, "the URL's [ has no ]");
    url->is_v6 = true;
    url->host = mw_str_of(text.ptr + 1, (size_t)close - 1);
    end = (size_t)close + 1;
  } else {
    ptrdiff_t colon = mw_str_find_byte(text, ':');
    end = colon < 0 ? text.len : (size_t)colon;
    url->host = upto(text, end);
  }
  int rc = check_host(url->host, url->is_v6, err);
  return rc ? rc : parse_port(from(text, end), url, err);
}

// What would end the request line early, or be read differently by the next hop.
static int check_bytes(mw_str text, mw_err *err) {
  if (text.len > MW_URL_MAX) return mw_err_set(err, MW_EINVALID, "the URL is longer than %d bytes", MW_URL_MAX);
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if (c == ' ') return mw_err_set(err, MW_EINVALID, "the URL has a space: write %%20");
    if (c < 0x20 || c == 0x7F) return mw_err_set(err, MW_EINVALID, "the URL has a control character (byte %zu)", i + 1);
    if (c == '\\') return mw_err_set(err, MW_EINVALID, "the URL has a backslash: write %%5C, or / if you meant that");
  }
  return 0;
}

int mw_url_parse(mw_str text, mw_url *url, mw_err *err) {
  memset(url, 0, sizeof *url);
  int rc = check_bytes(text, err);
  if (rc) return rc;
  ptrdiff_t colon = mw_str_find_byte(text, ':');
  if (colon <= 0 || !mw_str_starts_with(from(text, (size_t)colon), MW_STR("://")))
    return mw_err_set(err, MW_EINVALID, "the URL must begin with http:// or https://");
  url->scheme = upto(text, (size_t)colon);
  url->is_tls = mw_str_eq_nocase(url->scheme, MW_STR("https"));
  if (!url->is_tls && !mw_str_eq_nocase(url->scheme, MW_STR("http")))
    return mw_err_set(err, MW_EINVALID, "the URL must begin with http:// or https://");
  mw_str rest = from(text, (size_t)colon + 3);
  ptrdiff_t hash = mw_str_find_byte(rest, '#');
  if (hash >= 0) rest = upto(rest, (size_t)hash);
  ptrdiff_t end = find_any(rest, "/?");
  mw_str authority = end < 0 ? rest : upto(rest, (size_t)end);
  rest = end < 0 ? from(rest, rest.len) : from(rest, (size_t)end);
  ptrdiff_t mark = mw_str_find_byte(rest, '?');
  url->path = mark < 0 ? rest : upto(rest, (size_t)mark);
  if (mark >= 0) url->query = from(rest, (size_t)mark + 1);
  return parse_authority(authority, url, err);
}

bool mw_url_is_same_origin(const mw_url *a, const mw_url *b) {
  return a->is_tls == b->is_tls && a->port == b->port && mw_str_eq_nocase(a->host, b->host);
}

void mw_url_add_authority(const mw_url *url, mw_buf *out) {
  if (url->is_v6) mw_buf_add_byte(out, '[');
  mw_buf_add_str(out, url->host);
  if (url->is_v6) mw_buf_add_byte(out, ']');
  if (url->port == (url->is_tls ? 443 : 80)) return;
  mw_buf_add_byte(out, ':');
  mw_buf_add_u64(out, (uint64_t)url->port);
}

static void add_ascii(mw_str text, mw_buf *out) {
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if (c < 0x80) mw_buf_add_byte(out, (char)c);
    else mw_buf_printf(out, "%%%02X", c);
  }
}

void mw_url_add_target(const mw_url *url, mw_buf *out) {
  if (url->path.len == 0) mw_buf_add_byte(out, '/');
  add_ascii(url->path, out);
  if (!url->query.ptr) return;
  mw_buf_add_byte(out, '?');
  add_ascii(url->query, out);
}

void mw_url_add_public(const mw_url *url, mw_buf *out) {
  mw_buf_add_cstr(out, url->is_tls ? "https://" : "http://");
  mw_url_add_authority(url, out);
  mw_buf_add_str(out, url->path.len ? url->path : MW_STR("/"));
}

// RFC 3986 section 5.2.4, on a path that begins with "/".
static void add_without_dots(mw_str path, mw_buf *out) {
  size_t start = out->len;
  while (path.len) {
    ptrdiff_t slash = mw_str_find_byte(from(path, 1), '/');
    mw_str segment = slash < 0 ? path : upto(path, (size_t)slash + 1); // "/name"
    path = from(path, segment.len);
    bool last = path.len == 0;
    if (mw_str_eq(segment, MW_STR("/."))) {
      if (last) mw_buf_add_byte(out, '/');
    } else if (mw_str_eq(segment, MW_STR("/.."))) {
      while (out->len > start && out->ptr[--out->len] != '/') {}
      if (last) mw_buf_add_byte(out, '/');
    } else {
      mw_buf_add_str(out, segment);
    }
  }
}

static void add_merged(const mw_url *base, mw_str relative, mw_buf *out) {
  mw_buf merged = MW_BUF_INIT;
  size_t keep = base->path.len;
  while (keep && base->path.ptr[keep - 1] != '/') keep--;
  if (keep) mw_buf_add(&merged, base->path.ptr, keep);
  else mw_buf_add_byte(&merged, '/');
  mw_buf_add_str(&merged, relative);
  add_without_dots(mw_buf_str(&merged), out);
  mw_buf_deinit(&merged);
}

static bool has_scheme(mw_str reference) {
  ptrdiff_t colon = find_any(reference, ":/?#");
  return colon > 0 && reference.ptr[colon] == ':';
}

int mw_url_resolve(const mw_url *base, mw_str reference, mw_buf *out, mw_err *err) {
  int rc = check_bytes(reference, err);
  if (rc) return rc;
  size_t start = out->len;
  ptrdiff_t hash = mw_str_find_byte(reference, '#');
  if (hash >= 0) reference = upto(reference, (size_t)hash);
  if (has_scheme(reference)) {
    mw_buf_add_str(out, reference);
  } else if (mw_str_starts_with(reference, MW_STR("//"))) {
    mw_buf_add_cstr(out, base->is_tls ? "https:" : "http:");
    mw_buf_add_str(out, reference);
  } else {
    ptrdiff_t mark = mw_str_find_byte(reference, '?');
    mw_str path = mark < 0 ? reference : upto(reference, (size_t)mark);
    mw_str query = mark < 0 ? mw_str_of(NULL, 0) : from(reference, (size_t)mark + 1);
    mw_buf_add_cstr(out, base->is_tls ? "https://" : "http://");
    mw_url_add_authority(base, out);
    if (path.len == 0) {
      mw_buf_add_str(out, base->path);
      if (!query.ptr) query = base->query;
    } else if (path.ptr[0] == '/') {
      add_without_dots(path, out);
    } else {
      add_merged(base, path, out);
    }
    if (query.ptr) {
      mw_buf_add_byte(out, '?');
      mw_buf_add_str(out, query);
    }
  }
  mw_url url;
  rc = mw_url_parse(mw_str_of(out->ptr + start, out->len - start), &url, err);
  if (rc) out->len = start;
  return rc;
}
