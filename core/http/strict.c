// SPDX-License-Identifier: MIT
#include "http/strict.h"

#include <string.h>

#include "http/method.h"

static int refuse(const char **why, int status, const char *text) {
  *why = text;
  return status;
}

ptrdiff_t mw_strict_scan(mw_str data, size_t *from, const char **why) {
  const char *line = data.ptr + *from, *end = data.ptr + data.len;
  while (line < end) {
    const char *lf = memchr(line, '\n', (size_t)(end - line));
    const char *cr = memchr(line, '\r', (size_t)((lf ? lf : end) - line));
    if (*line == ' ' || *line == '\t') return refuse(why, -1, "a header line begins with white space (obs-fold)");
    if (cr && cr + 1 < end && cr + 1 != lf) return refuse(why, -1, "a CR is not followed by LF");
    if (!lf) break;
    if (!cr) return refuse(why, -1, "a line ends in LF alone: lines end in CRLF");
    if (cr == line) return lf + 1 - data.ptr;
    line = lf + 1;
    *from = (size_t)(line - data.ptr);
  }
  return 0;
}

static int read_version(mw_str text, int *minor, const char **why) {
  if (mw_str_eq(text, MW_STR("HTTP/1.1"))) *minor = 1;
  else if (mw_str_eq(text, MW_STR("HTTP/1.0"))) *minor = 0;
  else if (text.len == 8 && mw_str_starts_with(text, MW_STR("HTTP/"))) {
    return refuse(why, 505, "the server speaks HTTP/1.1 and HTTP/1.0");
  } else {
    return refuse(why, 400, "the request line does not end in a version");
  }
  return 0;
}

int mw_strict_request_line(mw_str line, mw_str *method, mw_str *target, int *minor, const char **why) {
  ptrdiff_t first = mw_str_find_byte(line, ' ');
  *minor = 1;
  if (first <= 0) return refuse(why, 400, "the request line is not \"METHOD target HTTP/1.1\"");
  *method = mw_str_of(line.ptr, (size_t)first);
  mw_str rest = mw_str_of(line.ptr + first + 1, line.len - (size_t)first - 1);
  ptrdiff_t second = mw_str_find_byte(rest, ' ');
  if (second <= 0) return refuse(why, 400, "the request line is not \"METHOD target HTTP/1.1\"");
  *target = mw_str_of(rest.ptr, (size_t)second);
  int status = read_version(mw_str_of(rest.ptr + second + 1, rest.len - (size_t)second - 1), minor, why);
  if (status) return status;
  if (!mw_headers_is_token(*method)) return refuse(why, 400, "the method is no token");
  if (!mw_headers_is_value(*target) || mw_str_find_byte(*target, '\t') >= 0 || mw_str_find_byte(*target, '#') >= 0) {
    return refuse(why, 400, "the target has a character that must be percent-encoded");
  }
  bool is_connect = mw_str_eq(*method, MW_STR("CONNECT"));
  if (!is_connect && mw_method_parse(*method) < 0) return refuse(why, 501, "the server does not know this method");
  return 0;
}

static int take_length(mw_str value, mw_strict_framing *framing, const char **why) {
  uint64_t length;
  if (framing->content_length >= 0) return refuse(why, 400, "Content-Length is there twice");
  if (!value.len || value.len > 18 || value.ptr[0] < '0' || value.ptr[0] > '9' || !mw_str_parse_u64(value, &length)) {
    return refuse(why, 400, "Content-Length is not one decimal number");
  }
  framing->content_length = (long long)length;
  return 0;
}

static int take_encoding(mw_str value, mw_strict_framing *framing, const char **why) {
  if (framing->chunked) return refuse(why, 400, "Transfer-Encoding is there twice");
  if (framing->minor == 0) return refuse(why, 400, "HTTP/1.0 has no Transfer-Encoding");
  if (mw_str_find_byte(value, ',') >= 0) return refuse(why, 400, "Transfer-Encoding is a list");
  if (!mw_str_eq_nocase(value, MW_STR("chunked"))) {
    return refuse(why, 501, "the only Transfer-Encoding that the server reads is chunked");
  }
  framing->chunked = true;
  return 0;
}

// Visible ASCII without , / ? # @ \ " < > ^ ` { | }: what a host and port can hold, a bit a byte.
static const uint64_t host_bytes[4] = {0x2fff6ff200000000u, 0x47fffffeaffffffeu, 0, 0};

static int check_host(mw_str value, const char **why) {
  for (size_t i = 0; i < value.len; i++) {
    unsigned char c = (unsigned char)value.ptr[i];
    if (!(host_bytes[c >> 6] >> (c & 63) & 1)) return refuse(why, 400, "Host is not one host name");
  }
  return 0;
}

static int take_expect(mw_str value, mw_strict_framing *framing, const char **why) {
  if (framing->minor == 0) return 0;
  if (!mw_str_eq_nocase(value, MW_STR("100-continue"))) {
    return refuse(why, 417, "the only expectation that the server knows is 100-continue");
  }
  framing->expect_continue = true;
  return 0;
}

static void take_connection(mw_str value, mw_strict_framing *framing, bool *close) {
  if (mw_headers_list_has(value, MW_STR("close"))) *close = true;
  else if (mw_headers_list_has(value, MW_STR("keep-alive"))) framing->keep_alive = true;
}

// An absolute target names a host of its own: it must be the same, or two programs may route it two ways.
static int check_target(mw_strict_framing *framing, mw_str host, const char **why) {
  mw_str target = framing->target;
  if (mw_str_eq(framing->method, MW_STR("CONNECT"))) return refuse(why, 400, "the server is no proxy: no CONNECT");
  if (target.ptr[0] == '/') return 0;
  if (mw_str_eq(target, MW_STR("*"))) {
    return mw_str_eq(framing->method, MW_STR("OPTIONS")) ? 0 : refuse(why, 400, "the target \"*\" is for OPTIONS only");
  }
  size_t scheme = target.len > 7 && mw_str_eq_nocase(mw_str_of(target.ptr, 7), MW_STR("http://"))    ? 7
                  : target.len > 8 && mw_str_eq_nocase(mw_str_of(target.ptr, 8), MW_STR("https://")) ? 8
                                                                                                      : 0;
  if (!scheme) return refuse(why, 400, "the target must begin with \"/\"");
  mw_str rest = mw_str_of(target.ptr + scheme, target.len - scheme);
  size_t n = 0;
  while (n < rest.len && rest.ptr[n] != '/' && rest.ptr[n] != '?') n++;
  if (!mw_str_eq_nocase(mw_str_of(rest.ptr, n), host)) return refuse(why, 400, "the target names another host than Host");
  framing->target = mw_str_of(rest.ptr + n, rest.len - n);
  return 0;
}

int mw_strict_framing_check(const mw_header *fields, size_t count, mw_strict_framing *framing, const char **why) {
  mw_str host = {NULL, 0};
  size_t hosts = 0;
  bool close = false;
  framing->content_length = -1;
  framing->chunked = framing->expect_continue = false;
  framing->keep_alive = framing->minor == 1;
  for (size_t i = 0; i < count; i++) {
    mw_str name = fields[i].name, value = fields[i].value;
    int status = 0;
    switch (name.len) { // only names of these lengths matter: cheaper than comparing each
      case 4:
        if (!mw_str_eq_nocase(name, MW_STR("host"))) break;
        host = value;
        if (++hosts > 1) return refuse(why, 400, "Host is there twice");
        status = check_host(value, why);
        break;
      case 6:
        if (mw_str_eq_nocase(name, MW_STR("expect"))) status = take_expect(value, framing, why);
        break;
      case 10:
        if (mw_str_eq_nocase(name, MW_STR("connection"))) take_connection(value, framing, &close);
        break;
      case 14:
        if (mw_str_eq_nocase(name, MW_STR("content-length"))) status = take_length(value, framing, why);
        break;
      case 17:
        if (mw_str_eq_nocase(name, MW_STR("transfer-encoding"))) status = take_encoding(value, framing, why);
        break;
      default: break;
    }
    if (status) return status;
  }
  if (close) framing->keep_alive = false;
  if (framing->minor == 1 && !hosts) return refuse(why, 400, "HTTP/1.1 needs a Host header");
  if (framing->chunked && framing->content_length >= 0) {
    return refuse(why, 400, "both Content-Length and Transfer-Encoding are there");
  }
  return check_target(framing, host, why);
}
