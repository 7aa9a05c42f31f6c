// SPDX-License-Identifier: MIT
#include "http/path.h"

#include <string.h>

int mw_path_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static int decode_escape(const char *at, const char *end) {
  if (end - at < 3) return -1;
  int high = mw_path_hex(at[1]), low = mw_path_hex(at[2]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// A segment "." or ".." means another path to whoever resolves it, so that two programs would see two paths.
static bool is_dots(const char *begin, const char *end) {
  size_t len = (size_t)(end - begin);
  return (len == 1 && begin[0] == '.') || (len == 2 && begin[0] == '.' && begin[1] == '.');
}

int mw_path_decode(mw_str raw, char *out, size_t *len, bool *has_slash, mw_err *err) {
  const char *at = raw.ptr, *end = raw.ptr + raw.len;
  char *to = out, *segment = out;
  *has_slash = false;
  if (!raw.len || *at != '/') return mw_err_set(err, MW_EINVALID, "the path must begin with \"/\"");
  for (; at < end; at++) {
    unsigned char c = (unsigned char)*at;
    if (c == '/') {
      if (to > out && to[-1] == '/') continue;
      if (is_dots(segment, to)) goto dots;
      *to++ = '/';
      segment = to;
      continue;
    }
    if (c == '%') {
      int byte = decode_escape(at, end);
      if (byte < 0) return mw_err_set(err, MW_EINVALID, "the path has a \"%%\" that is not followed by two hex digits");
      at += 2;
      c = (unsigned char)byte;
      if (c < 0x20 || c == 0x7f) return mw_err_set(err, MW_EINVALID, "the path has a control character");
      if (c == '/') {
        c = MW_PATH_SLASH;
        *has_slash = true;
      }
    } else if (c <= 0x20 || c == 0x7f || c == '#') {
      return mw_err_set(err, MW_EINVALID, "the path has a character that must be percent-encoded");
    }
    *to++ = (char)c;
  }
  if (is_dots(segment, to)) goto dots;
  *len = (size_t)(to - out);
  return 0;
dots:
  return mw_err_set(err, MW_EINVALID, "the path has a \".\" or \"..\" segment: send it resolved");
}

void mw_path_restore(char *path, size_t len) {
  for (char *at = path; (at = memchr(at, MW_PATH_SLASH, len - (size_t)(at - path))); at++) *at = '/';
}

ptrdiff_t mw_path_unescape(mw_str raw, bool plus, char *out) {
  const char *at = raw.ptr, *end = raw.ptr + raw.len;
  char *to = out;
  for (; at < end; at++) {
    if (*at == '%') {
      int byte = decode_escape(at, end);
      if (byte < 0) return -1;
      at += 2;
      *to++ = (char)byte;
    } else {
      *to++ = plus && *at == '+' ? ' ' : *at;
    }
  }
  return to - out;
}
