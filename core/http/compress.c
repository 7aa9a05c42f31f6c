// SPDX-License-Identifier: MIT

// Whether an answer is compressed, and its headers when it is. What stays as it is: what is short, what is no text, a part (206), what
// the handler has encoded, digested or forbidden to transform, and the answers of routes that say so.

#include "http/server_impl.h"

// The value of the line at `at` when it is called `name`; moves `at` to the next line.
static bool read_line(mw_str lines, size_t *at, mw_str name, mw_str *value) {
  const char *line = lines.ptr + *at;
  size_t len = (size_t)((const char *)memchr(line, '\n', lines.len - *at) + 1 - line);
  *at += len;
  if (len < name.len + 3 || line[name.len] != ':' || !mw_str_eq_nocase(mw_str_of(line, name.len), name)) return false;
  *value = mw_str_trim(mw_str_of(line + name.len + 1, len - name.len - 3));
  return true;
}

static bool find(const mw_request *req, mw_str name, mw_str *value) {
  mw_str lines = mw_buf_str(&req->headers_out);
  for (size_t at = 0; at < lines.len;) {
    if (read_line(lines, &at, name, value)) return true;
  }
  return false;
}

static bool may_transform(const mw_request *req) {
  static const mw_str fixed[] = {{"content-encoding", 16}, {"content-range", 13}, {"content-digest", 14},
                                 {"repr-digest", 11},      {"digest", 6},         {"content-md5", 11}};
  mw_str value;
  if (!req->headers_out.len) return true;
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
    if (find(req, fixed[i], &value)) return false;
  }
  return !find(req, MW_STR("cache-control"), &value) || !mw_headers_list_has(value, MW_STR("no-transform"));
}

static bool varies_already(const mw_request *req) {
  mw_str lines = mw_buf_str(&req->headers_out), value;
  for (size_t at = 0; at < lines.len;) {
    if (!read_line(lines, &at, MW_STR("vary"), &value)) continue;
    if (mw_headers_list_has(value, MW_STR("*")) || mw_headers_list_has(value, MW_STR("accept-encoding"))) return true;
  }
  return false;
}

mw_coding compress_choose(mw_request *req, int status, mw_str type) {
  const mw_route *route = req->match.route;
  if (status == 206 || (route && route->no_compress)) return MW_CODING_IDENTITY;
  if (!mw_coding_is_compressible(req->type.len ? req->type : type) || !may_transform(req)) return MW_CODING_IDENTITY;
  if (!varies_already(req)) mw_buf_add_str(&req->headers_out, MW_STR("Vary: Accept-Encoding\r\n"));
  return mw_coding_negotiate(mw_request_header(req, MW_STR("accept-encoding")));
}

// A strong validator promises the same bytes, which these are not (RFC 9110 8.8.1).
static void weaken_etag(mw_request *req) {
  mw_str etag;
  if (!find(req, MW_STR("etag"), &etag) || etag.ptr[0] != '"') return;
  size_t at = (size_t)(etag.ptr - req->headers_out.ptr);
  mw_buf_reserve(&req->headers_out, 2);
  char *lines = req->headers_out.ptr;
  memmove(lines + at + 2, lines + at, req->headers_out.len - at);
  memcpy(lines + at, "W/", 2);
  req->headers_out.len += 2;
}

void compress_mark(mw_request *req, mw_coding coding) {
  weaken_etag(req);
  response_remove_line(req, MW_STR("accept-ranges"));
  mw_buf_add_str(&req->headers_out, MW_STR("Content-Encoding: "));
  mw_buf_add_str(&req->headers_out, mw_coding_name(coding));
  mw_buf_add_str(&req->headers_out, MW_STR("\r\n"));
}

mw_str compress_whole(mw_server *server, mw_coding coding, mw_str body) {
  mw_deflate **z = &server->deflates[coding - MW_CODING_GZIP];
  if (*z) mw_deflate_reset(*z);
  else *z = mw_deflate_new(coding, server->conf.compress_level, false);
  mw_buf_reset(&server->packed, MW_CONN_FLUSH_BYTES);
  mw_deflate_add(*z, body, MW_DEFLATE_END, &server->packed);
  return mw_buf_str(&server->packed);
}

mw_deflate *compress_open(mw_server *server, mw_coding coding) {
  if (server->deflating >= MW_SERVER_MAX_DEFLATES) return NULL;
  server->deflating++;
  return mw_deflate_new(coding, server->conf.compress_level, true);
}

void compress_close(mw_server *server, mw_deflate **deflate) {
  if (!*deflate) return;
  mw_deflate_free(*deflate);
  *deflate = NULL;
  server->deflating--;
}
